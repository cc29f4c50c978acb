"""Layers of different sizes on top of each other, with dropout of any kind between them.

`torch.nn`'s layers, and those from scratch that take their place, have one hidden size for all layers and draw a new
dropout mask at every step between them. `Stack` is a core of one-layer cores, and lifts both for all of them.

Dimensions: T time, B batch, D input, H hidden, S the sum of all layers' hidden sizes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gatelab.core.contract import make_core
from gatelab.core.regularization import check_probability, dropout


class Stack(nn.Module):
    """Run cores one after the other: `stack(x [T, B, D], state) -> (y [T, B, H of the last], state)`.

    Args:
        layers: cores, time-major and forward in time, each as wide at its input as the one before at its output.
        dropout: between the layers.
        locked: one dropout mask for all steps of a call.

    The state is that of its layers side by side, [1, B, S] (a pair of them for LSTMs), zero when missing.
    """

    bidirectional = batch_first = False
    num_layers = 1  # of the state

    def __init__(self, layers: Sequence[nn.Module], dropout: float = 0.0, *, locked: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout, self.locked = check_probability("dropout", dropout), locked
        sizes = [int(layer.hidden_size) for layer in layers]  # type: ignore[arg-type]
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.hidden_size = sum(sizes)
        self._columns = [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=0))]

    def forward(
        self, input: Tensor, hx: Any = None, lengths: Any = None, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run the sequence; the arguments are those of a `gatelab.core.GRU`, the state as the class says.

        Raises ValueError where a state does not fit.
        """
        x, finals = input, []
        for index, (layer, state) in enumerate(zip(self.layers, self.split(hx), strict=True)):
            if index:
                x = dropout(x, self.dropout, self.training, locked=self.locked)
            x, state = layer(x, state, lengths=lengths, reset_mask=reset_mask)
            finals.append(state if isinstance(state, tuple) else (state,))
        joined = tuple(torch.cat(parts, dim=-1) for parts in zip(*finals, strict=True))
        return x, joined if len(joined) > 1 else joined[0]

    def split(self, state: Any) -> list[Any]:
        """Return each layer's own state [1, B, H], or a pair of them, from that of the stack."""
        if state is None:
            return [None] * len(self.layers)
        pair = state if isinstance(state, tuple) else (state,)
        for part in pair:
            if part.dim() != 3 or part.shape[0] != 1 or part.shape[2] != self.hidden_size:
                raise ValueError(f"the state must be [1, B, {self.hidden_size}], got {list(part.shape)}")
        own = [tuple(part[..., columns].contiguous() for part in pair) for columns in self._columns]
        return own if isinstance(state, tuple) else [parts[0] for parts in own]

    def extra_repr(self) -> str:
        """The dropout between the layers."""
        return f"dropout={self.dropout}, locked={self.locked}"


def stack(
    core: Callable[..., Any], input_size: int, sizes: Sequence[int], dropout: float, *, locked: bool
) -> Stack:
    """A `Stack` of cores of these hidden sizes; `core` makes one, as a partial of a layer's class."""
    layers: list[nn.Module] = []
    width = input_size
    for size in sizes:
        one = partial(core, hidden_size=size, num_layers=1, dropout=0.0)
        layer = make_core(one, width, "Stack", None, None, reset_mask=None)
        layers.append(layer)
        width = layer.output_size
    return Stack(layers, dropout, locked=locked)
