"""The GRU layer: a drop-in for `torch.nn.GRU` with a second variant, resets inside a sequence and backends.

The equations are in `cells.py`, the stack around them in `recurrent.py`, the ways to compute one layer in
`backends/`. This file holds what is particular to the GRU: the two variants, the number of parameters and the
choice of the backend.
"""

import numbers
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from gatelab.core.backends import BackendName, Explanation, Spec, explain, resolve
from gatelab.core.cells import Weights, gru_step_after, gru_step_before, linear
from gatelab.core.recurrent import GAINS, NAMES, Recurrent, enter, in_own_precision, under_autocast
from gatelab.core.torch_internals import obstacle
from gatelab.core.unroll import State, reverse


class GRU(Recurrent):
    """Gated recurrent unit over a sequence, with the constructor and the state_dict of `torch.nn.GRU`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            `torch.nn.GRU`.
        reset_after: True is `torch.nn.GRU`'s function; False puts the reset gate before the product (Cho et
            al. 2014) and has `bias_ih` only. `cells.py` gives both equations and says how z differs.
        zoneout: the probability, 0 <= p < 1, with which a unit keeps its old state at a step in training (Krueger
            et al. 2016); in evaluation the state is the expectation. The masks of a call come from PyTorch's
            generator of the device, one [T, B, H] for each layer and direction, whatever the backend.
        layer_norm: normalise each gate's products (Ba et al. 2016, see `cells.py`); adds `gain_ih` and `gain_hh`
            [3H] to every layer and direction. They begin at 1 and the biases at 0.
        backend: "auto" chooses; a named backend runs or raises, it never gives way to another one.

    Under `torch.autocast` on a GPU the triton backend, named or chosen, multiplies in the dtype of autocast and keeps
    its state in float32 from step to step; results come in the dtype of the weights, as from every backend.

    Example: `y, h_n = GRU(10, 20)(torch.randn(5, 3, 10))` gives y [5, 3, 20] and h_n [1, 3, 20].
    """

    gates = 3
    defaults: ClassVar = {
        **Recurrent.defaults,
        "reset_after": True,
        "zoneout": 0.0,
        "layer_norm": False,
        "backend": "auto",
    }

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
        zoneout: float = 0.0,
        layer_norm: bool = False,
        backend: BackendName = "auto",
    ) -> None:
        _check_extras(zoneout, layer_norm, hidden_size)
        resolve(backend, None)
        # plain values, which may be set before the module: its parameters depend on them
        self.reset_after, self.zoneout, self.layer_norm = reset_after, float(zoneout), layer_norm
        self.backend = backend
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def _parameter_names(self) -> tuple[str, ...]:
        return (NAMES if self.reset_after else NAMES[:3]) + (GAINS if self.layer_norm else ())

    def reset_parameters(self) -> None:
        """As `torch.nn.GRU`; with layer normalisation the gains are 1 and the biases, which are its own, 0."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if self.layer_norm and name.startswith(("gain", "bias")):
                nn.init.constant_(parameter, float(name.startswith("gain")))

    def _spec(
        self, x: Tensor, lengths: Tensor | None, reset_mask: Tensor | None, others: Sequence[Tensor | None]
    ) -> Spec:
        """What this call asks for; `others` are the other tensors that a backend would read: states, weights.

        Its dtype is that of autocast where the triton backend runs, else that of the weights.
        """
        spec = Spec(
            device=x.device.type,
            dtype=x.dtype,
            reset_after=self.reset_after,
            has_lengths=lengths is not None,
            has_reset_mask=reset_mask is not None,
            hidden=self.hidden_size,
            batch=x.shape[1],
            steps=x.shape[0],
            training=torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *others)),
            zoneout=self.zoneout > 0,
            layer_norm=self.layer_norm,
            obstacle=obstacle(x.device.type, (x, lengths, reset_mask, *others)),
        )
        if x.dtype == torch.float32 and under_autocast(x):
            mixed = spec._replace(dtype=torch.get_autocast_dtype(x.device.type))
            if explain(self.backend, mixed).backend == "triton":
                return mixed
        return spec

    def _zoneout(self, x: Tensor) -> Tensor | float | None:
        """What keeps states in this call, in the order in which the steps are walked; see `reference.Run`."""
        if self.zoneout == 0:
            return None
        if not self.training:
            return self.zoneout
        shape = (*x.shape[:2], self.hidden_size)
        # one dtype for all, so that a seed gives the same mask in every precision
        return torch.rand(shape, device=x.device, dtype=torch.float32) < self.zoneout

    def branch(self, inputs: Tensor, state: Tensor) -> Tensor:
        """One step from each state with each of M inputs: the outputs [R, M, dirs*H].

        It equals `forward` on every pair of state and input. But a product with a state is made once, not M times, and
        one with an input once for all rows that share it: that is most of the work of a step.

        Args:
            inputs: [K, M, D]; row r takes those of group r mod K.
            state: [L*dirs, R, H], as `forward` returns it; K divides R.

        Raises ValueError with zoneout, whose masks are those of `forward`.
        """
        if self.zoneout:
            raise ValueError("branch() knows no zoneout; call the layer itself")
        groups, dtype = len(inputs), self.weight_ih_l0.dtype
        h = state.to(dtype).unflatten(1, (-1, groups)).unsqueeze(3)  # [L*dirs, R/K, K, 1, H]
        x = inputs.to(dtype)
        step = gru_step_after if self.reset_after else gru_step_before
        with in_own_precision(x):
            for layer in range(self.num_layers):
                outputs = []
                for direction in range(self.directions):
                    w = self.weights(layer, direction)
                    i = linear(x, w.w_ih, w.b_ih, w.g_ih, self.hidden_size)
                    outputs.append(step(i, h[layer * self.directions + direction], w.w_hh, w.b_hh, w.g_hh))
                x = torch.cat(outputs, dim=-1)
                if layer < self.num_layers - 1:
                    x = F.dropout(x, self.dropout, self.training)
        return x.flatten(0, 1)

    def _run(
        self,
        x: Tensor,
        state: State,
        weights: Weights,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        **how: bool,
    ) -> tuple[Tensor, State]:
        zoneout = self._zoneout(x)
        if how and isinstance(zoneout, Tensor):  # reverse=True: the kernel wants the order of time
            zoneout = reverse(zoneout, lengths)
        options = {"reset_after": self.reset_after, "lengths": lengths, "reset_mask": reset_mask, **how}
        spec = self._spec(x, lengths, reset_mask, (*state, *weights))
        run = resolve(self.backend, spec).run
        tensors: Sequence[Tensor | None] = (x, state[0], *weights)
        with in_own_precision(x):
            if spec.dtype != x.dtype:
                tensors = [None if t is None else t.to(spec.dtype) for t in tensors]
            y, h = run(*tensors, zoneout=zoneout, **options)  # type: ignore[arg-type]
            return y.to(x.dtype), (h.to(x.dtype),)

    def _run_backward(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        spec = self._spec(x, lengths, reset_mask, (*state, *weights))
        if resolve(self.backend, spec).walks_backward:
            return self._run(x, state, weights, lengths, reset_mask, reverse=True)
        return super()._run_backward(x, state, weights, lengths, reset_mask)

    def _namesake(self) -> nn.GRU | None:
        if (
            not self.reset_after
            or self.layer_norm
            or self.zoneout
            or self.backend in ("torch", "native", "triton", "cudnn")
        ):
            return None  # a kernel that is named gives way to nothing
        return nn.GRU(**self._options())

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
        return explain(self.backend, self._spec(x, checked, mask, list(self.parameters())))


def _check_extras(zoneout: float, layer_norm: bool, hidden_size: int) -> None:
    if not isinstance(zoneout, numbers.Real) or isinstance(zoneout, bool) or not 0 <= zoneout < 1:
        raise ValueError(
            f"zoneout must be a probability below 1 (at 1 no state would ever change), got {zoneout!r}"
        )
    if not isinstance(layer_norm, bool):
        raise TypeError(f"layer_norm must be True or False, got {layer_norm!r}")
    if layer_norm and hidden_size == 1:
        raise ValueError(
            "layer_norm=True needs hidden_size of 2 or more: one unit, normalised by itself, is always zero"
        )
