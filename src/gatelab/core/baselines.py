"""The networks that a GRU is compared with: LSTM, RNN and minGRU from scratch, and `torch.nn`'s own layers.

`LSTM` and `RNN` have the state_dict and call of their namesakes in `torch.nn`. They run the steps of `cells.py` through
the plain unroller and have no fast backend; `TorchGRU`, `TorchLSTM` and `TorchRNN` are the fast ones: `torch.nn`'s
layers with the two arguments that those lack. Their `lengths` are served by packing, their `reset_mask` by cutting the
sequence where any row resets, and nothing is computed that `torch.nn` does not compute.

Dimensions: B batch, T time, H hidden.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from gatelab.core.cells import Nonlinearity, Weights, lstm_step, rnn_step
from gatelab.core.recurrent import Recurrent
from gatelab.core.torch_internals import obstacle
from gatelab.core.unroll import State, padding, time_is_free, unroll

Call = Callable[[Any, Any], tuple[Any, Any]]
WALKED = 512
"""B * H from which a CPU walks through a linear recurrence faster than it doubles."""


class LSTM(Recurrent):
    """Long short-term memory over a sequence; `layer(x, (h, c) | None) -> (y, (h, c))`."""

    gates = 4
    state_names = ("h", "c")

    def _step(self, i: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
        h, c = state
        return lstm_step(i, h, c, w_hh, b_hh)

    def _namesake(self) -> nn.LSTM:
        return nn.LSTM(**self._options())


class RNN(Recurrent):
    """Elman's recurrent network over a sequence; `layer(x, state=None) -> (y, state)`."""

    gates = 1

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
        *,
        nonlinearity: Nonlinearity = "tanh",
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity

    def _step(self, i: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
        return (rnn_step(i, state[0], w_hh, b_hh, self.nonlinearity),)

    def _namesake(self) -> nn.RNN:
        return nn.RNN(**self._options(), nonlinearity=self.nonlinearity)


class MinGRU(Recurrent):
    """minGRU: a GRU whose gate and candidate do not see the state, so that time is a parallel scan.

    Feng et al. 2024, "Were RNNs All We Needed?" (arXiv:2410.01201), section 3.1:

        z_t = sigmoid(W_z x_t + b_z)
        c_t = W_h x_t + b_h                       (the paper's h~; no tanh)
        h_t = (1 - z_t) * h_{t-1} + z_t * c_t

    The paper trains in log space, which needs c_t > 0; `linear_scan` is stable without logarithms, so the candidate
    keeps its sign. Parameters of layer l: `weight_ih_l{l}` [2H, D] and `bias_ih_l{l}` [2H], rows (z, h).
    """

    gates = 2

    def _parameter_names(self) -> tuple[str, ...]:
        return "weight_ih", "bias_ih"

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        k, c = F.linear(x, weights.w_ih, weights.b_ih).chunk(2, dim=-1)
        keep, value = torch.sigmoid(-k), torch.sigmoid(k) * c
        if reset_mask is not None:
            keep = keep.masked_fill(reset_mask.unsqueeze(-1), 0)
        if lengths is None:
            y = linear_scan(keep, value, state[0])
            return y, (y[-1],)
        over = padding(lengths, x.shape[0]).unsqueeze(-1)
        # past its length a row copies its state, so the last step holds the state at the length
        y = linear_scan(keep.masked_fill(over, 1), value.masked_fill(over, 0), state[0])
        return y.masked_fill(over, 0), (y[-1],)


class _Scan(torch.autograd.Function):
    """h from (a, b, h0). The gradient is the same recurrence run backward, so it differentiates again."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        # a compiler would unroll every step
        walks = a.device.type == "cpu" and h0.numel() >= WALKED and not torch.compiler.is_compiling()
        h = _walk(a, b, h0) if walks else _prefixes(a, b, h0)
        ctx.save_for_backward(a, h0, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h0, h = ctx.saved_tensors
        (dy,) = grads
        # dh_t = dy_t + a_{t+1} dh_{t+1}: in reversed time, with a moved one step and nothing before the end
        moved = torch.cat((torch.zeros_like(a[:1]), a[1:].flip(0)))
        db = _Scan.apply(moved, dy.flip(0), torch.zeros_like(h0)).flip(0)
        da = db * torch.cat((h0.unsqueeze(0), h[:-1]))
        return da, db, a[0] * db[0]


def _walk(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Step by step, each into its place."""
    h, state = torch.empty_like(b, dtype=torch.result_type(b, h0)), h0
    for a_t, b_t, h_t in zip(a.unbind(), b.unbind(), h.unbind(), strict=True):
        state = torch.addcmul(b_t, a_t, state, out=h_t)
    return h


def _prefixes(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    return _doubling(a, torch.cat((torch.addcmul(b[:1], a[:1], h0.unsqueeze(0)), b[1:])))


def _doubling(a: Tensor, b: Tensor) -> Tensor:
    """All prefixes of the recurrence with h_{-1} = 0; after k sweeps each step spans 2^k originals."""
    span = 1
    while span < a.shape[0]:
        b = torch.cat((b[:span], torch.addcmul(b[span:], a[span:], b[:-span])))
        a = torch.cat((a[:span], a[span:] * a[:-span]))
        span *= 2
    return b


def linear_scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Return h [T, B, H] with h_t = a_t * h_{t-1} + b_t and h_{-1} = h0.

    Shapes: a and b [T, B, H], h0 [B, H]. Meant for 0 <= a <= 1; a = 0 forgets everything before that step.

    Two steps of it are again such a step, (a2, b2) after (a1, b1) = (a2 a1, a2 b1 + b2), and that is associative, so
    all prefixes come from about log2(T) doublings (Hillis and Steele 1986; Blelloch 1990). With 0 <= a <= 1 every
    intermediate value is bounded by the result's own terms: nothing is divided and no logarithm is taken. The paper's
    scan subtracts cumulative sums, and loses digits in proportion to T.

    On a CPU, in eager mode, steps of `WALKED` values or more are walked one by one: each doubling passes over all of
    them, and memory is what limits it there.
    """
    if obstacle(a.device.type, (a, b, h0)) is not None and not torch.compiler.is_compiling():
        return _prefixes(a, b, h0)
    if time_is_free(a):
        y, _ = unroll(lambda ab, state: (ab[0] * state[0] + ab[1],), torch.stack((a, b), dim=1), (h0,))
        return y
    return _Scan.apply(a, b, h0)


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
        options = (bias, batch_first, dropout, bidirectional)
        super().__init__(*sizes, *options, device=device, dtype=dtype)  # type: ignore[arg-type]

    @property
    def output_size(self) -> int:
        """Features of each output: directions * H."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        lengths: Tensor | Sequence[int] | None = None,
        reset_mask: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Run the layer; `hx` is the pair (h, c) for the LSTM. See `call` for the two extra arguments."""
        # a dropped weight is drawn once a call, however often torch.nn looks at it
        with parametrize.cached():
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
        options = (bias, batch_first, dropout, bidirectional)
        nn.RNN.__init__(self, *sizes, *options, device=device, dtype=dtype)


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
