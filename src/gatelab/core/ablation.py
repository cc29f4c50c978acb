"""A unit of a recurrent core taken out: its state is the same at every step, so what it carried is gone.

The weights of the unit's gates are set so that its equation gives the constant c, whatever it reads. Of a GRU (the
letters of `cells.py`) the gate replaces all of the state, z = 0 where 1 keeps, and the candidate is n = tanh(b_n) = c.
Everything else runs as it did, by whatever backend.

Dimensions: H hidden.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from gatelab.core.baselines import LSTM, RNN, MinGRU
from gatelab.core.gates import weights_of
from gatelab.core.gru import GRU

FAR = 40.0
"""A bias by which a sigmoid is 0 or 1 to the last bit of float32, nearly of float64."""


def check_unit(core: Any, layer: int, unit: int, direction: int = 0) -> Any:
    """The module that holds a layer (a part of a `Stack`, else `core`), and the layer's number in it.

    Raises ValueError where there is no such unit.
    """
    layers = list(core.layers) if hasattr(core, "layers") else None
    count = len(layers) if layers is not None else core.num_layers
    if not 0 <= layer < count:
        raise ValueError(
            f"there is no layer{layer}: the core has layer0{f' ... layer{count - 1}' * (count > 1)}"
        )
    owner, place = (layers[layer], 0) if layers is not None else (core, layer)
    if direction and not owner.bidirectional:
        raise ValueError(f"there is no layer{layer}_reverse: the core goes forward only")
    if not 0 <= unit < owner.hidden_size:
        raise ValueError(f"layer{layer} has the units 0 ... {owner.hidden_size - 1}, not {unit}")
    return owner, place


@contextlib.contextmanager
def ablated(core: Any, layer: int, unit: int, value: float = 0.0, direction: int = 0) -> Iterator[None]:
    """Hold the state of a unit at `value` from the first step on, inside; the weights are back as they were after.

    value: within the range of the cell's states; that of an LSTM's output is +-.76, and a value beyond it is brought to
    the end of the range. With zoneout it is reached step by step. Weights are changed in place: not inside a training
    step.

    Raises ValueError where there is no such unit, or the core has no biases to hold it by.
    """
    owner, place = check_unit(core, layer, unit, direction)
    with _plain(owner):
        weights = weights_of(owner, place, direction)
        if weights.b_ih is None:
            raise ValueError(f"{type(owner).__name__} without biases: no unit of it can be held at a value")
        tensors = [w for w in weights if w is not None]
        kept = [w.detach().clone() for w in tensors]
        try:
            with torch.no_grad():
                _hold(owner, weights, unit, value)
            yield
        finally:
            with torch.no_grad():
                for tensor, old in zip(tensors, kept, strict=True):
                    tensor.copy_(old)


def _hold(owner: Any, weights: Any, unit: int, value: float) -> None:
    hidden = owner.hidden_size
    rows = list(range(unit, weights.w_ih.shape[0], hidden))
    if isinstance(owner, GRU | nn.GRU):
        del rows[0]  # r: where it scales the state that other units read, it goes on doing so
    normalised = weights.g_ih is not None  # then a row less would change the other units' normalisation
    for tensor in weights[2:] if normalised else weights:
        if tensor is not None:
            tensor[rows] = 0.0
    bias = weights.b_ih
    if isinstance(owner, MinGRU):
        bias[unit], bias[hidden + unit] = FAR, value
    elif isinstance(owner, LSTM | nn.LSTM):  # i = 1, f = 0, o = 1: h = tanh(tanh(b_g))
        for gate, a in enumerate((FAR, -FAR, _atanh(_atanh(value)), FAR)):
            bias[gate * hidden + unit] = a
    elif isinstance(owner, RNN | nn.RNN):
        bias[unit] = value if owner.nonlinearity == "relu" else _atanh(value)
    else:
        bias[hidden + unit] = -FAR if getattr(owner, "reset_after", True) else FAR
        bias[2 * hidden + unit] = _atanh(value)


def _atanh(value: float) -> float:
    return math.atanh(max(-1 + 1e-7, min(1 - 1e-7, value)))


@contextlib.contextmanager
def _plain(owner: nn.Module) -> Iterator[None]:
    """Have parametrized weights (weight drop) be plain tensors inside, as evaluation sees them."""
    if not parametrize.is_parametrized(owner):
        yield
        return
    with parametrize.cached():  # each is computed once, and stays the tensor that is changed
        yield
