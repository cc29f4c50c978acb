"""Dropout for recurrent networks, by Merity, Keskar and Socher 2018 (arXiv:1708.02182), and starts for their gates.

* Locked (variational) dropout (Gal and Ghahramani 2016, arXiv:1512.05287): one mask for all steps of a window.
* Embedding dropout (ibid.): whole words of the vocabulary are dropped, wherever they stand in the window.
* Weight drop (Merity et al., after DropConnect, Wan et al. 2013): elements of the recurrent matrices are dropped, one
  draw for all steps of a window and all its sequences.
* Starts of the update (LSTM: forget) gate: its bias; chrono (Tallec and Ollivier 2018, arXiv:1804.11188): time
  constants spread up to a longest one; uniform (Gu et al. 2020, arXiv:1910.09890): gate values spread over (0, 1).

All of it works from outside on any core, from scratch or of `torch.nn`; it knows no equation. What a step keeps of its
state is z in `h' = z h + (1 - z) n` (`reset_after=True`, `nn.GRU`), 1 - z in the other variant and in minGRU, and an
LSTM's forget gate.

Dimensions: T time, B batch, F features, V vocabulary, E embedding, H hidden.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

Start = Literal["chrono", "uniform"]


def check_probability(name: str, value: float) -> float:
    """Return `value` as a float; raise ValueError unless it is a probability below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a probability, 0 <= {name} < 1, got {value!r}")
    return float(value)


def dropout(x: Tensor, p: float, training: bool, *, locked: bool = False) -> Tensor:
    """Dropout on x [T, B, F]; `locked`: a feature of a sequence is dropped at all steps or at none."""
    if not locked or not training or p == 0:
        return F.dropout(x, p, training)
    return x * F.dropout(x.new_ones(1, *x.shape[1:]), p)


def embed(embedding: nn.Embedding, tokens: Tensor, p: float, training: bool) -> Tensor:
    """Vectors [T, B, E] of tokens [T, B]; a share p of the vocabulary is dropped, the rest scaled by 1 / (1 - p)."""
    x = embedding(tokens)
    if not training or p == 0:
        return x
    kept = F.dropout(embedding.weight.new_ones(embedding.num_embeddings), p)
    return x * kept[tokens].unsqueeze(-1)


class WeightDrop(nn.Module):
    """The parametrization of a recurrent matrix that drops its elements in training; the parameter keeps them.

    rows: the rows that it acts on; the others pass unchanged.
    """

    def __init__(self, p: float, rows: slice) -> None:
        super().__init__()
        self.p, self.rows = p, rows

    def forward(self, weight: Tensor) -> Tensor:
        """Return the matrix [G*H, H] of this draw."""
        if not self.training:
            return weight
        if self.rows == slice(None):
            return F.dropout(weight, self.p)
        mask = torch.ones_like(weight)
        mask[self.rows] = F.dropout(mask[self.rows], self.p)
        return weight * mask

    def extra_repr(self) -> str:
        """The probability, and the rows where they are not all."""
        return f"p={self.p}" + (
            f", rows={self.rows.start}:{self.rows.stop}" if self.rows != slice(None) else ""
        )


def drop_weights(core: nn.Module, p: float, rows: Literal["all", "candidate"] = "all") -> None:
    """Give every recurrent matrix of `core` a `WeightDrop`.

    rows: "candidate" drops in those of the candidate only (a GRU's n, an LSTM's g), so that the gates see the whole
    state. Raises ValueError for a core without recurrent matrices.
    """
    check_probability("weight_drop", p)
    if rows not in ("all", "candidate"):
        raise ValueError(f"weight_drop_rows must be 'all' or 'candidate', got {rows!r}")
    layers: list[Any] = [layer for layer in core.modules() if hasattr(layer, "weight_hh_l0")]
    if not layers:
        raise ValueError(
            f"weight_drop: {type(core).__name__} has no recurrent matrix (weight_hh_l0) to drop from"
        )
    for layer in layers:
        for name in [n for n, _ in layer.named_parameters(recurse=False) if n.startswith("weight_hh")]:
            gates, hidden = getattr(layer, name).shape[0] // layer.hidden_size, layer.hidden_size
            # r, z, n of a GRU; i, f, g, o of an LSTM
            part = slice(2 * hidden, 3 * hidden) if rows == "candidate" and gates > 1 else slice(None)
            parametrize.register_parametrization(layer, name, WeightDrop(p, part))


def start_gates(
    core: nn.Module, start: Start | None = None, *, keep_bias: float | None = None, longest: int = 100
) -> None:
    """Set the biases of the gate by which every layer of `core` keeps its state.

    Args:
        start: "chrono": the unit's time constant is drawn from uniform(1, longest - 1), so its bias is the constant's
            logarithm (an LSTM's input gate gets the negative); "uniform": the gate's value is drawn from
            uniform(1/H, 1 - 1/H).
        keep_bias: the bias itself; positive keeps.
        longest: of "chrono", in steps.

    The biases of the input's and the state's product add up: the second is set to zero. Raises ValueError where the
    arguments contradict each other, and for a core without such a gate or bias.
    """
    if start is None and keep_bias is None:
        return
    if start is not None and keep_bias is not None:
        raise ValueError("give gate_start or keep_bias, not both: each sets the same biases")
    if start not in (None, "chrono", "uniform"):
        raise ValueError(f"gate_start must be 'chrono', 'uniform' or null, got {start!r}")
    if start == "chrono" and longest < 3:
        raise ValueError(f"longest_dependency must be at least 3 steps, got {longest}")
    layers = [layer for layer in core.modules() if hasattr(layer, "weight_ih_l0")]
    kinds = {type(layer).__name__.removeprefix("Torch") for layer in layers}
    if not layers or not kinds <= {"GRU", "LSTM", "MinGRU"}:
        raise ValueError(f"gate_start and keep_bias: {type(core).__name__} has no gate that keeps its state")
    for layer in layers:
        for name, bias in layer.named_parameters(recurse=False):
            if name.startswith("bias_ih"):
                other = getattr(layer, name.replace("bias_ih", "bias_hh"), None)
                _start(layer, bias, other, start, keep_bias, longest)
        if not getattr(layer, "bias", True):
            raise ValueError("gate_start and keep_bias need biases: leave model.bias=true")


@torch.no_grad()
def _start(
    layer: Any, bias: Tensor, other: Tensor | None, start: Start | None, keep_bias: float | None, longest: int
) -> None:
    hidden = layer.hidden_size
    kind = type(layer).__name__.removeprefix("Torch")
    if start == "chrono":
        value = bias.new_empty(hidden).uniform_(1, longest - 1).log()
    elif start == "uniform":
        value = bias.new_empty(hidden).uniform_(1 / hidden, 1 - 1 / hidden).logit()
    else:
        value = bias.new_full((hidden,), float(keep_bias or 0.0))
    rows = slice(0, hidden) if kind == "MinGRU" else slice(hidden, 2 * hidden)  # z; an LSTM's f
    keeps = kind == "LSTM" or (kind == "GRU" and getattr(layer, "reset_after", True))
    bias[rows] = value if keeps else -value
    if kind == "LSTM" and start is not None:
        bias[:hidden] = -value
    if other is not None:
        other[rows] = 0
        if kind == "LSTM" and start is not None:
            other[:hidden] = 0
