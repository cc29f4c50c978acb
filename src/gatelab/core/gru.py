"""The GRU layer: a drop-in for `torch.nn.GRU` with a second variant, resets inside a sequence and backends.

The equations are in `cells.py`, the stack around them in `recurrent.py`, the ways to compute one layer in
`backends/`. This file holds what is particular to the GRU: the two variants, the number of parameters and the
choice of the backend.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatelab.core.backends import BackendName, Explanation, Spec, explain, resolve
from gatelab.core.recurrent import NAMES, Recurrent, Weights
from gatelab.core.sequence import enter
from gatelab.core.unroll import State


class GRU(Recurrent):
    """Gated recurrent unit over a sequence, with the constructor and the state_dict of `torch.nn.GRU`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            `torch.nn.GRU`.
        reset_after: True is `torch.nn.GRU`'s function; False puts the reset gate before the product (Cho et
            al. 2014) and has `bias_ih` only. `cells.py` gives both equations and says how z differs.
        backend: "auto" chooses; a named backend runs or raises, it never gives way to another one.

    Example: `y, h_n = GRU(10, 20)(torch.randn(5, 3, 10))` gives y [5, 3, 20] and h_n [1, 3, 20].
    """

    gates = 3

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
        reset_after: bool = True,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            names=NAMES if reset_after else NAMES[:3],
        )
        self.reset_after = reset_after
        self.backend = backend
        resolve(backend, None)

    def _spec(self, x: Tensor, lengths: Tensor | None, reset_mask: Tensor | None) -> Spec:
        return Spec(
            device=x.device.type,
            dtype=x.dtype,
            reset_after=self.reset_after,
            has_lengths=lengths is not None,
            has_reset_mask=reset_mask is not None,
            hidden=self.hidden_size,
            batch=x.shape[1],
            steps=x.shape[0],
            training=torch.is_grad_enabled() and (x.requires_grad or self.weight_ih_l0.requires_grad),
        )

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        backend = resolve(self.backend, self._spec(x, lengths, reset_mask))
        y, h = backend.run(
            x, state[0], *weights, reset_after=self.reset_after, lengths=lengths, reset_mask=reset_mask
        )
        return y, (h,)

    def _run_backward(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        run = resolve(self.backend, self._spec(x, lengths, reset_mask)).run_backward
        if run is None:
            return super()._run_backward(x, state, weights, lengths, reset_mask)
        y, h = run(
            x, state[0], *weights, reset_after=self.reset_after, lengths=lengths, reset_mask=reset_mask
        )
        return y, (h,)

    def explain(
        self,
        input: Tensor | PackedSequence,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset_mask: Tensor | None = None,
    ) -> Explanation:
        """Say which backend would run on this input and why, and why each other one would not.

        Nothing is computed. `print(gru.explain(x))` gives one line per backend.
        """
        x, checked, mask, _ = enter(input, self.input_size, self.batch_first, lengths, reset_mask)
        x = x.to(self.weight_ih_l0.dtype)
        return explain(self.backend, self._spec(x, checked, mask))

    @staticmethod
    def parameter_count(
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        **_other: Any,
    ) -> int:
        """Number of parameters in closed form; arguments that do not change it are accepted and ignored."""
        biases = (2 if reset_after else 1) if bias else 0
        return GRU._count(hidden_size + biases, input_size, hidden_size, num_layers, bidirectional)

    def extra_repr(self) -> str:
        """The sizes as `torch.nn.GRU` prints them, then the variant and the backend if they were chosen."""
        text = super().extra_repr()
        text += "" if self.reset_after else ", reset_after=False"
        return text if self.backend == "auto" else f"{text}, backend={self.backend}"
