"""The states and gates of a recurrent layer at every step, for looking at what a network does with its memory.

It runs a core once more, layer by layer, as in evaluation (no dropout, zoneout in expectation), and puts every
step's gates into the equations of `cells.py` at once: they need the state before the step, which is the output of
the step before. It trains nothing, and it draws no random number.

Dimensions: T time, B batch, D input, H hidden.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.backends import Spec, resolve
from gatelab.core.baselines import LSTM, RNN, MinGRU
from gatelab.core.cells import Weights, linear, lstm_step, rnn_step
from gatelab.core.gru import GRU
from gatelab.core.recurrent import NAMES, Recurrent
from gatelab.core.stack import Stack
from gatelab.core.unroll import unroll

Layers = GRU | nn.GRU | LSTM | nn.LSTM | MinGRU


CLOSED, OPEN = 0.05, 0.95
"""A gate outside of these is saturated: hardly any gradient passes it."""


class LayerRun(NamedTuple):
    """One layer in one direction on its way through a batch, each [T, B, *] in the order in which it walks.

    Attributes:
        layer: "layer0", "layer0_reverse", "layer1", ...; core: the module that it belongs to; weights: its parameters.
        x: what it reads; before, after: its state h before and after each step, [T, B, H].
        backward: whether it walks from the last step to the first.
    """

    layer: str
    core: Any
    weights: Weights
    x: Tensor
    before: Tensor
    after: Tensor
    backward: bool

    def in_time(self, values: Tensor) -> Tensor:
        """Values [T, ...] in the order of time."""
        return values.flip(0) if self.backward else values


class Gates(NamedTuple):
    """The gates of one layer in one direction, each [T, B, H], in the order of time.

    Attributes:
        layer: "layer0", "layer0_reverse", "layer1", ...
        values: by name, between 0 and 1. GRU: `reset`, `update`; LSTM: `input`, `forget`, `output`; minGRU: `update`.
            `update` is the share of the state that a step replaces, whichever way z points in the equation: 1 - z
            in `h' = (1 - z) n + z h` (`reset_after=True`, nn.GRU), z in `h' = (1 - z) h + z n`
            (`reset_after=False`, minGRU).
        log_keep: the logarithm of the share that is kept, ln(1 - update) or ln(forget); never above 0.
    """

    layer: str
    values: dict[str, Tensor]
    log_keep: Tensor


def time_constants(log_keep: Tensor) -> Tensor:
    """The time constant of each unit [H], in steps, from the logarithms of what it keeps [..., H].

    A unit that keeps the share k_t of its state at step t multiplies what it held by exp(-1 / tau) a step on average:
    tau = -1 / mean of ln k_t, which is -1 / ln k for a constant gate.
    """
    # a gate that is open to the last bit has ln k = 0: its unit never forgets
    return -1 / log_keep.float().flatten(0, -2).mean(0).clamp(max=-1e-9)


def has_gates(core: Any) -> bool:
    """Whether `gates` knows this core; a simple recurrent network has none."""
    if isinstance(core, Stack):
        return all(has_gates(layer) for layer in core.layers)
    return isinstance(core, Layers)


def gates(core: Any, x: Tensor, state: Any = None) -> Iterator[Gates]:
    """Yield the gates of every layer and direction of `core` on x [T, B, D], time first.

    `state` is the initial state in the form that the core takes, zero when missing. Raises TypeError for a core
    that has no gates (`has_gates`).
    """
    if not has_gates(core):
        raise TypeError(f"{type(core).__name__} has no gates")
    for run in layer_runs(core, x, state):
        yield gates_of(run)


def gates_of(run: LayerRun) -> Gates:
    """The gates of one layer, which must have some (`has_gates(run.core)`)."""
    values, log_keep = _gates(run.core, run.x, run.before, run.weights)
    named = {name: run.in_time(value) for name, value in values.items()}
    return Gates(run.layer, named, run.in_time(log_keep))


def layer_runs(core: Any, x: Tensor, state: Any = None) -> Iterator[LayerRun]:
    """Yield how every layer and direction of `core` goes through x [T, B, D]; the arguments are those of `gates`.

    Raises TypeError for a core that is none of Gatelab's or torch.nn's recurrent layers.
    """
    parts = core.layers if isinstance(core, Stack) else [core]
    if not all(isinstance(part, Layers | RNN | nn.RNN) for part in parts):
        raise TypeError(f"{type(core).__name__} is no recurrent layer whose steps are known")
    modes = {module: module.training for module in core.modules()}
    try:
        for module in modes:
            module.training = False
        if isinstance(core, Stack):
            for index, (layer, own) in enumerate(zip(core.layers, core.split(state), strict=True)):
                yield from (run._replace(layer=f"layer{index}") for run in _of_layers(layer, x, own))
                x, _ = layer(x, own)
        else:
            yield from _of_layers(core, x, state)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _of_layers(core: Any, x: Tensor, state: Any) -> Iterator[LayerRun]:
    directions = 2 if core.bidirectional else 1
    states = (state,) if isinstance(state, Tensor) else state
    if states is None:
        shape = (core.num_layers * directions, x.shape[1], core.hidden_size)
        states = (x.new_zeros(shape),) * (2 if isinstance(core, LSTM | nn.LSTM) else 1)
    for layer in range(core.num_layers):
        outputs = []
        for direction in range(directions):
            weights = weights_of(core, layer, direction)
            initial = tuple(s[layer * directions + direction] for s in states)
            forward = x.flip(0) if direction else x
            y = _run(core, forward, initial, weights)
            before = torch.cat((initial[0].unsqueeze(0), y[:-1]))
            name = f"layer{layer}" + "_reverse" * direction
            run = LayerRun(name, core, weights, forward, before, y, bool(direction))
            outputs.append(run.in_time(y))
            yield run
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)


def weights_of(core: Any, layer: int, direction: int) -> Weights:
    """The parameters of one layer (0 ... L-1) in one direction of a `Recurrent` or a layer of `torch.nn`."""
    if isinstance(core, Recurrent):
        return core.weights(layer, direction)
    suffix = f"_l{layer}" + "_reverse" * direction
    return Weights(*(getattr(core, name + suffix, None) for name in NAMES))  # type: ignore[arg-type]


def _run(core: Any, x: Tensor, initial: tuple[Tensor, ...], weights: Weights) -> Tensor:
    """The layer's states after each step [T, B, H]."""
    if isinstance(core, Recurrent):
        return core._run(x, initial, weights, None, None)[0]
    if isinstance(core, nn.GRU):
        kind, hidden = x.device.type, core.hidden_size
        spec = Spec(kind, x.dtype, True, False, False, hidden=hidden, batch=x.shape[1], steps=x.shape[0])
        run = resolve("auto", spec).run
        return run(x, initial[0], *weights, reset_after=True, lengths=None, reset_mask=None)[0]
    w_ih, w_hh, b_ih, b_hh = weights[:4]
    projected = F.linear(x, w_ih, b_ih)
    if isinstance(core, nn.RNN):
        shape: Any = core.nonlinearity
        return unroll(lambda i, s: (rnn_step(i, s[0], w_hh, b_hh, shape),), projected, initial)[0]
    return unroll(lambda i, s: lstm_step(i, s[0], s[1], w_hh, b_hh), projected, initial)[0]


def _gates(core: Any, x: Tensor, before: Tensor, weights: Weights) -> tuple[dict[str, Tensor], Tensor]:
    """Gates and ln(kept share) from the input and the state before each step, by the equations of `cells.py`."""
    w_ih, w_hh, b_ih, b_hh, g_ih, g_hh = weights
    hidden = core.hidden_size
    if isinstance(core, MinGRU):
        z = F.linear(x, w_ih, b_ih)[..., :hidden]
        return {"update": torch.sigmoid(z)}, F.logsigmoid(-z)
    if isinstance(core, LSTM | nn.LSTM):
        i, f, _, o = (F.linear(x, w_ih, b_ih) + F.linear(before, w_hh, b_hh)).chunk(4, dim=-1)
        named = {"input": i, "forget": f, "output": o}
        return {name: torch.sigmoid(a) for name, a in named.items()}, F.logsigmoid(f)
    rows = slice(0, 2 * hidden)  # r and z; the candidate is no gate

    def part(a: Tensor | None) -> Tensor | None:
        return None if a is None else a[rows]

    of_input = linear(x, w_ih[rows], part(b_ih), part(g_ih), hidden)
    r, z = (of_input + linear(before, w_hh[rows], part(b_hh), part(g_hh), hidden)).chunk(2, dim=-1)
    replace = -z if getattr(core, "reset_after", True) else z
    return {"reset": torch.sigmoid(r), "update": torch.sigmoid(replace)}, F.logsigmoid(-replace)
