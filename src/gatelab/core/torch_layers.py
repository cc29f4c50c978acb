"""PyTorch's own recurrent layers behind the project's interface, as baselines.

`TorchGRU`, `TorchLSTM` and `TorchRNN` are `torch.nn`'s layers with the two arguments that those lack:
`lengths` is served by packing, `reset_mask` by cutting the sequence where any row resets. Nothing is
computed here that `torch.nn` does not compute.

Dimensions: B batch, T time.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Call = Callable[[Any, Any], tuple[Any, Any]]


class _TorchLayer(nn.RNNBase):
    """The constructor, spelt out, and the call of a core, for a layer of `torch.nn` that comes after it."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers)
        options = {
            "bias": bias,
            "batch_first": batch_first,
            "dropout": dropout,
            "bidirectional": bidirectional,
        }
        super().__init__(*sizes, **options, device=device, dtype=dtype)  # type: ignore[arg-type]

    @property
    def output_size(self) -> int:
        """Features of each output: directions * H."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset_mask: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Run the layer; `hx` is the pair (h, c) for the LSTM. See `call` for the two extra arguments."""
        return call(self, super().forward, input, hx, lengths, reset_mask)


class TorchGRU(_TorchLayer, nn.GRU):
    """`torch.nn.GRU` as a core: `layer(x, state=None, *, lengths=None, reset_mask=None) -> (y, state)`."""


class TorchLSTM(_TorchLayer, nn.LSTM):
    """`torch.nn.LSTM` as a core; the state is the pair (h, c)."""


class TorchRNN(_TorchLayer, nn.RNN):
    """`torch.nn.RNN` as a core."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers, nonlinearity)
        options = {
            "bias": bias,
            "batch_first": batch_first,
            "dropout": dropout,
            "bidirectional": bidirectional,
        }
        nn.RNN.__init__(self, *sizes, **options, device=device, dtype=dtype)


def call(
    layer: nn.RNNBase,
    run: Call,
    x: Any,
    state: Any,
    lengths: Tensor | Sequence[int] | None,
    reset_mask: Tensor | None,
) -> tuple[Any, Any]:
    """Serve `lengths` [B] (1 ... T, any order) or `reset_mask` [T, B] with `run`, the forward of a torch
    layer.

    Raises ValueError for both at once, and for `reset_mask` with a bidirectional layer: inside a stack of
    such layers the sequence cannot be cut from outside. The project's own `GRU` has neither limit.
    """
    if lengths is None and reset_mask is None:
        return run(x, state)
    if lengths is not None and reset_mask is not None:
        raise ValueError(
            "torch.nn layers serve lengths or reset_mask, not both in one call; gatelab.GRU does"
        )
    if reset_mask is not None:
        if layer.bidirectional:
            raise ValueError("torch.nn layers cannot serve reset_mask when bidirectional; gatelab.GRU does")
        return _segments(layer, run, x, state, reset_mask)
    sizes = torch.as_tensor(lengths, device="cpu")
    packed = pack_padded_sequence(x, sizes, layer.batch_first, enforce_sorted=False)
    y, state = run(packed, state)
    steps = x.shape[1 if layer.batch_first else 0]
    return pad_packed_sequence(y, layer.batch_first, total_length=steps)[0], state


def _segments(layer: nn.RNNBase, run: Call, x: Tensor, state: Any, reset_mask: Tensor) -> tuple[Tensor, Any]:
    """Run the stretches between resets one after the other, the state set to zero in between where asked."""
    time = 1 if layer.batch_first else 0
    if reset_mask.shape != (x.shape[time], x.shape[1 - time]):
        raise ValueError(
            f"reset_mask must be [T, B] = [{x.shape[time]}, {x.shape[1 - time]}], "
            f"got {list(reset_mask.shape)}"
        )
    cuts = [t for t, resets in enumerate(reset_mask.any(dim=1).tolist()) if resets or t == 0]
    outputs = []
    for start, stop in zip(cuts, [*cuts[1:], x.shape[time]], strict=True):
        if state is not None:
            ends = reset_mask[start].unsqueeze(-1)
            state = (
                tuple(s.masked_fill(ends, 0) for s in state)
                if isinstance(state, tuple)
                else state.masked_fill(ends, 0)
            )
        y, state = run(x.narrow(time, start, stop - start), state)
        outputs.append(y)
    return torch.cat(outputs, dim=time), state
