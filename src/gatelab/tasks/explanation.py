"""What can be measured of a trained network's recurrent cores on a `Reading`, as plain data for a page or `--json`.

Per layer: how saturated the gates are, the units' time constants beside the autocorrelation time of what the layer
reads, fixed points of its cell and Lyapunov exponents. Per unit: the probe that tells most of it, and the loss without
it. Of the network: the loss against the context that is carried, how far outputs reach back, the attribution of one
prediction.

Letters: R sequences, T steps, n = the steps of all sequences, D input, H hidden, N losses.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gatelab.core.ablation import ablated, check_unit
from gatelab.core.attribution import integrated_gradients
from gatelab.core.dynamics import (
    Cell,
    FixedPoints,
    cells,
    driven,
    fixed_points,
    has_cells,
    lyapunov_exponents,
    reach,
)
from gatelab.core.gates import CLOSED, OPEN, gates_of, has_gates, layer_runs, time_constants
from gatelab.tasks.reading import Call, Part, Prediction, Reading, listening, powers
from gatelab.tasks.shares import GROUPS, autocorrelation_time, group_means, often, share_of_codes, share_told

OFTEN = 20
"""Losses that a target must have for its own figure."""
SMALL = 160
"""Units of a layer up to which fixed points are searched from many starts, saddles included."""
Tick = Callable[[str], None]


class Layer(NamedTuple):
    """A layer of a part on its way through the sample; states [R, T, H], valid [R, T], x [T, R, D] in its direction."""

    name: str
    part: Part
    states: Tensor
    valid: Tensor
    x: Tensor
    owner: Any
    gates: dict[str, Tensor]
    log_keep: Tensor | None

    @property
    def place(self) -> tuple[int, int]:
        """The number of the layer, and its direction."""
        number, _, reverse = self.name.removeprefix("layer").partition("_")
        return int(number), int(reverse == "reverse")

    @property
    def flat(self) -> Tensor:
        """The states of all steps that count [n, H]."""
        return self.states[self.valid]


@torch.no_grad()
def explain(
    reading: Reading,
    *,
    units: Sequence[str] = (),
    probes: Sequence[str] = (),
    ablations: int = 12,
    units_only: bool = False,
    tick: Tick = lambda label: None,
) -> dict[str, Any]:
    """Measure all that the page shows; the network must be in evaluation mode.

    Args:
        units: further ones to look at, as "layer0:17" or "encoder/layer0:17" where there are several cores.
        probes: the only ones to look for; none: all that vary in the sample.
        ablations: units that are taken out, each by one more pass over the sample.
        units_only: leave out reach, dynamics, context and attribution, which take most of the time.
        tick: told what is measured next.

    Raises:
        ValueError: there is no such unit or probe.
    """
    tick("reading")
    losses, calls = _listen(reading)
    layers = [layer for part, call in zip(reading.parts, calls, strict=True) for layer in _layers(part, call)]
    asked = [_unit(layers, text) for text in units]
    _check_probes(reading, layers, probes)
    parts = []
    for part, call in zip(reading.parts, calls, strict=True):
        own = [layer for layer in layers if layer.part is part]
        tick(f"{part.name}: dynamics")
        parts.append(_part(part, call, own, probes, units_only))
    tick("units")
    found = {
        "note": reading.note,
        "unit": reading.unit,
        "loss": float(losses.double().mean()),
        "losses": len(losses),
        "parts": parts,
        "units": _units(reading, layers, losses, asked, probes, ablations, tick),
    }
    tick("context")
    found["context"] = None if units_only else _context(reading)
    tick("attribution")
    predicted = None if units_only else reading.prediction
    found["attribution"] = None if predicted is None else _attribution(predicted)
    found["maps"] = [one.__dict__ for one in reading.maps]
    return found


# what is looked at


def _listen(reading: Reading) -> tuple[Tensor, list[Call]]:
    with contextlib.ExitStack() as stack:
        heard = [stack.enter_context(listening(part.core)) for part in reading.parts]
        losses = reading.losses()
    silent = [part.name for part, calls in zip(reading.parts, heard, strict=True) if not calls]
    if silent:
        raise ValueError(f"the network did not call its {silent[0]}, so there is nothing to see of it")
    calls = [calls[0] for calls in heard]
    for part, call in zip(reading.parts, calls, strict=True):
        call.lengths = call.lengths if part.lengths is None else part.lengths
    return losses, calls


def _layers(part: Part, call: Call) -> Iterator[Layer]:
    """The layers of a part; sequences of different lengths are walked one by one."""
    steps, rows = call.x.shape[:2]
    lengths = [steps] * rows if call.lengths is None else [int(length) for length in call.lengths]
    valid = torch.arange(steps) < torch.tensor(lengths)[:, None]
    if call.lengths is None:
        walks = [list(layer_runs(part.core, call.x, call.state))]
    else:
        walks = [
            list(layer_runs(part.core, call.x[:n, r : r + 1], _of_row(call.state, r)))
            for r, n in enumerate(lengths)
        ]
    for runs in zip(*walks, strict=True):
        first = runs[0]

        def whole(pieces: Sequence[Tensor]) -> Tensor:
            padded = [torch.nn.functional.pad(p, (0, 0, 0, 0, 0, steps - len(p))) for p in pieces]
            return torch.cat(padded, dim=1).transpose(0, 1)

        states = whole([run.in_time(run.after) for run in runs])
        named: dict[str, Tensor] = {}
        keep = None
        if has_gates(first.core):
            found = [gates_of(run) for run in runs]
            named = {name: whole([one.values[name] for one in found])[valid] for name in found[0].values}
            keep = whole([one.log_keep for one in found])[valid]
        shortest = min(len(run.x) for run in runs)
        x = torch.cat([run.x[:shortest] for run in runs], dim=1)
        yield Layer(first.layer, part, states, valid, x, first.core, named, keep)


def _of_row(state: Any, row: int) -> Any:
    """The state of one sequence, from one of all [L, R, H] or a pair of them."""
    if isinstance(state, tuple):
        return tuple(_of_row(part, row) for part in state)
    return None if state is None else state[:, row : row + 1]


def _unit(layers: Sequence[Layer], text: str) -> tuple[Layer, int]:
    """The layer and the number of a unit that is asked for; raises ValueError with those that there are."""
    place, _, number = text.rpartition(":")
    part, _, name = place.rpartition("/")
    fitting = [one for one in layers if one.name == name and part in ("", one.part.name)]
    known = ", ".join(_name(layers, one) for one in layers)
    if len(fitting) != 1 or not number.isdigit():
        raise ValueError(
            f"unit {text}: give a layer and a number, e.g. {_name(layers, layers[0])}:0; layers: {known}"
        )
    check_unit(fitting[0].part.core, fitting[0].place[0], int(number), fitting[0].place[1])
    return fitting[0], int(number)


def _name(layers: Sequence[Layer], layer: Layer) -> str:
    several = len({one.part.name for one in layers}) > 1
    return f"{layer.part.name}/{layer.name}" if several else layer.name


# per part and layer


def _part(
    part: Part, call: Call, layers: Sequence[Layer], probes: Sequence[str], units_only: bool
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": part.name,
        "core": type(part.core).__name__,
        "kind": part.kind,
        "steps": [list(row) for row in part.steps],
        "drawn": {name: np.asarray(rows).tolist() for name, rows in part.drawn.items()},
        "autocorrelation_time": autocorrelation_time(call.x, call.lengths),
        "probes": sorted(_varying(part, layers[0].valid, probes)) if layers else [],
        "layers": [_layer(layer) for layer in layers],
        "reach": None,
        "cells": [],
    }
    if units_only:
        return shown
    if not getattr(part.core, "bidirectional", False):
        x = call.x
        if call.lengths is not None:  # the longer half, as far as all of it goes
            middle = int(call.lengths.median())
            x = x[:middle, call.lengths >= middle]
        steps = min(len(x), 129)
        wanted = powers(steps - 1)
        norms = reach(part.core, x[-steps:, :8], wanted, probes=4)
        shown["reach"] = {"steps": wanted, "norm": norms.tolist()}
    if has_cells(part.core):
        pairs = zip(cells(part.core), layers, strict=True)
        shown["cells"] = [_dynamics(cell, layer) for cell, layer in pairs]
    return shown


def _layer(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "layer": layer.name,
        "units": layer.states.shape[-1],
        "gates": {},
        "time_constants": None,
    }
    for name, values in layer.gates.items():
        found["gates"][name] = {
            "mean": float(values.mean()),
            "closed": float((values < CLOSED).float().mean()),
            "open": float((values > OPEN).float().mean()),
            "closed_of_unit": (values < CLOSED).float().mean(0).tolist(),
            "open_of_unit": (values > OPEN).float().mean(0).tolist(),
        }
    if layer.log_keep is not None:
        found["time_constants"] = time_constants(layer.log_keep).tolist()
    return found


def _dynamics(cell: Cell, layer: Layer) -> dict[str, Any]:
    """Fixed points without input and under the mean input, and the exponents of the cell as the sample drives it."""
    draw = torch.Generator().manual_seed(0)
    flat = layer.flat.double()
    if cell.state_size != flat.shape[1]:  # an LSTM's c is not looked at: its searches begin near the origin
        flat = torch.cat((flat, flat), dim=-1)
    count = max(6, min(64, 4096 // cell.state_size)) if cell.state_size <= SMALL else 6
    starts = flat[torch.randint(len(flat), (count,), generator=draw)]
    mean = layer.x.double().flatten(0, 1).mean(0)
    found: dict[str, Any] = {"layer": layer.name, "state": cell.state_size}
    for name, x in (("without_input", torch.zeros_like(mean)), ("mean_input", mean)):
        f = cell.under(x)
        walked = starts
        for _ in range(300):
            walked = f(walked)
        many = torch.cat((starts, walked)) if cell.state_size <= SMALL else walked
        points = fixed_points(f, many, steps=40 if cell.state_size <= SMALL else 12, tolerance=1e-8)
        moving = float((f(walked) - walked).norm(dim=-1).max())
        found[name] = {**_points(points), "after_300_steps": moving, "saddles": cell.state_size <= SMALL}
    steps = min(len(layer.x), 160)
    exponents = lyapunov_exponents(
        driven(cell, layer.x[:steps, :4]),
        starts[:4][: layer.x.shape[1]],
        min(8, cell.state_size),
        skipped=steps // 4,
    )
    found["lyapunov"] = exponents.mean(0).tolist()
    return found


def _points(found: FixedPoints) -> dict[str, Any]:
    values = found.eigenvalues[:1]
    return {
        "starts": found.starts,
        "found": found.found,
        "points": len(found.points),
        "unstable": found.unstable.tolist(),
        "eigenvalues": [[float(v.real), float(v.imag)] for v in values[0]] if len(values) else [],
        "time_constants": [round(float(v), 6) for v in found.time_constants[0][:8]] if len(values) else [],
    }


# per unit


def _varying(part: Part, valid: Tensor, asked: Sequence[str]) -> dict[str, np.ndarray]:
    """The part's probes that vary in the sample; raises ValueError for one that is asked for and does not."""
    mask = valid.numpy()
    there = {}
    for name, values in part.probes.items():
        known = values[mask & ~np.isnan(values)]
        if len(np.unique(known)) > 1:
            there[name] = values
    if missing := [name for name in asked if name in part.probes and name not in there]:
        raise ValueError(
            f"probe {missing[0]!r}: what was read has no such structure; it has {', '.join(there) or 'none'}. Give "
            "another probe, or another --input"
        )
    return {name: values for name, values in there.items() if not asked or name in asked}


def _check_probes(reading: Reading, layers: Sequence[Layer], asked: Sequence[str]) -> None:
    known = {name for part in reading.parts for name in part.probes}
    if missing := [name for name in asked if name not in known]:
        there = f"there are: {', '.join(sorted(known))}" if known else "this task has none"
        raise ValueError(f"probe {missing[0]!r}: there is none of that name here; {there}")
    for layer in layers:
        _varying(layer.part, layer.valid, asked)


def _units(
    reading: Reading,
    layers: Sequence[Layer],
    losses: Tensor,
    asked: Sequence[tuple[Layer, int]],
    probes: Sequence[str],
    ablations: int,
    tick: Tick,
) -> list[dict[str, Any]]:
    """The units that are asked for, the best of each probe, and the slowest: what they follow, and the loss without."""
    told = {id(layer): _told_by(layer, probes) for layer in layers}
    chosen = _chosen(layers, told, asked, max(ablations, len(asked)))
    return [_unit_facts(reading, layers, told, losses, layer, unit, why, tick) for layer, unit, why in chosen]


class Told(NamedTuple):
    """Shares of the variance of each of a layer's units [H].

    Attributes:
        by: those that each probe tells; beyond: the part of it that what was just read does not tell as well.
        current: those that what was just read tells, where that is known.
    """

    by: dict[str, Tensor]
    beyond: dict[str, Tensor]
    current: Tensor | None


def _told_by(layer: Layer, probes: Sequence[str]) -> Told:
    mask = layer.valid.numpy()
    known = {name: values[mask] for name, values in _varying(layer.part, layer.valid, probes).items()}
    states = layer.flat.double()
    by = {name: share_told(states, values) for name, values in known.items()}
    if layer.part.current is None:
        return Told(by, by, None)
    codes = often(layer.part.current[mask], OFTEN)
    rest = states - group_means(states, codes)
    left = rest.var(0) / states.var(0).clamp(min=1e-12)
    return Told(
        by,
        {name: share_told(rest, values) * left for name, values in known.items()},
        share_of_codes(states, codes),
    )


def _chosen(
    layers: Sequence[Layer],
    told: dict[int, Told],
    asked: Sequence[tuple[Layer, int]],
    most: int,
) -> list[tuple[Layer, int, str]]:
    found: dict[tuple[int, int], tuple[Layer, int, str]] = {}

    def add(layer: Layer, unit: int, why: str) -> None:
        if len(found) < most:
            found.setdefault((id(layer), unit), (layer, unit, why))

    for layer, unit in asked:
        add(layer, unit, "asked for")
    names = list(dict.fromkeys(name for shares in told.values() for name in shares.beyond))
    for name in names:
        pairs = [(layer, told[id(layer)].beyond[name]) for layer in layers if name in told[id(layer)].beyond]
        layer, shares = max(pairs, key=lambda pair: float(pair[1].max()))
        add(layer, int(shares.argmax()), f"follows most: {name}")
    for layer in layers:
        if layer.log_keep is not None:
            add(layer, int(time_constants(layer.log_keep).argmax()), "the slowest of its layer")
    for layer in layers:  # those that write most into the state of the layer itself
        spread = layer.flat.std(0)
        for unit in spread.argsort(descending=True)[:2].tolist():
            add(layer, unit, "varies most")
    return list(found.values())


def _unit_facts(
    reading: Reading,
    layers: Sequence[Layer],
    told: dict[int, Told],
    losses: Tensor,
    layer: Layer,
    unit: int,
    why: str,
    tick: Tick,
) -> dict[str, Any]:
    name = f"{_name(layers, layer)}:{unit}"
    tick(f"without {name}")
    states = layer.flat[:, unit]
    known = told[id(layer)]
    shares = {probe: float(values[unit]) for probe, values in known.by.items()}
    beyond = {probe: float(values[unit]) for probe, values in known.beyond.items()}
    best = max(beyond, key=lambda probe: beyond[probe], default=None)
    current = None if known.current is None else float(known.current[unit])
    constant = median = None
    if layer.log_keep is not None:
        own = layer.log_keep[:, unit : unit + 1]
        # steps that clear the state decide the mean; the median is what holds between them
        constant, median = (
            float(time_constants(keep)[0]) for keep in (own, own.median(0, keepdim=True).values)
        )
    rows = len(layer.part.steps)
    return {
        "unit": name,
        "part": layer.part.name,
        "why": why,
        "mean": float(states.mean()),
        "sd": float(states.std()),
        "time_constant": constant,
        "time_constant_median": median,
        "probe": best,
        "told": shares[best] if best else None,
        "beyond": beyond[best] if best and current is not None else None,
        "told_by": shares,
        "told_by_current": current,
        "curve": _curve(layer, unit, best),
        "ablated": _without(reading, losses, layer, unit),
        "states": [[round(float(v), 4) for v in row] for row in layer.states[:rows, :, unit]],
    }


def _curve(layer: Layer, unit: int, probe: str | None) -> dict[str, list[float]] | None:
    """The unit's mean and standard deviation at each value of its probe that stands often enough."""
    if probe is None:
        return None
    mask = layer.valid.numpy()
    values, states = layer.part.probes[probe][mask], layer.flat[:, unit].numpy()
    found: dict[str, list[float]] = {"value": [], "mean": [], "sd": []}
    distinct = np.unique(values[~np.isnan(values)])
    if len(distinct) > 4 * GROUPS:
        return None
    for value in distinct:
        here = states[values == value]
        if len(here) >= OFTEN:
            found["value"].append(float(value))
            found["mean"].append(float(here.mean()))
            found["sd"].append(float(here.std()))
    return found


def _without(reading: Reading, losses: Tensor, layer: Layer, unit: int) -> dict[str, Any]:
    """The rise of the loss when the unit is held at its mean, with its standard error, and where it is largest."""
    number, direction = layer.place
    try:
        with ablated(layer.part.core, number, unit, float(layer.flat[:, unit].mean()), direction):
            without = reading.losses()
    except ValueError as error:  # a core that has no biases
        return {"refused": str(error)}
    rise = (without - losses).double()
    found: dict[str, Any] = {
        "rise": float(rise.mean()),
        "error": float(rise.std() / math.sqrt(len(rise))),
        "targets": [],
    }
    if reading.targets:
        where: dict[str, list[int]] = {}
        for place, target in enumerate(reading.targets):
            where.setdefault(target, []).append(place)
        often = {target: torch.tensor(places) for target, places in where.items() if len(places) >= OFTEN}
        rows: list[dict[str, Any]] = [
            {
                "target": target,
                "count": len(places),
                "loss": float(losses[places].double().mean()),
                "rise": float(rise[places].mean()),
                "error": float(rise[places].std() / math.sqrt(len(places))),
            }
            for target, places in often.items()
        ]
        found["targets"] = sorted(rows, key=lambda row: -row["rise"])[:3]
    return found


# of the network


def _context(reading: Reading) -> dict[str, Any] | None:
    """The loss with so much context over that with all of it, with standard errors of the difference."""
    if reading.carried is None or not len(reading.contexts):
        return None
    found: dict[str, Any] = {
        "counts": reading.context_unit,
        "k": [],
        "loss": [],
        "rise": [],
        "error": [],
        "positions": [],
    }
    for k in reading.contexts:
        some, whole = (part.double() for part in reading.carried(k))
        rise = some - whole
        found["k"].append(k)
        found["loss"].append(float(some.mean()))
        found["rise"].append(float(rise.mean()))
        found["error"].append(float(rise.std() / math.sqrt(len(rise))))
        found["positions"].append(len(rise))
    return found


def _attribution(prediction: Prediction, steps: int = 64) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = integrated_gradients(prediction.score, prediction.x, prediction.baseline, steps)
    values = found.values.reshape(len(prediction.steps), -1)
    shown = values if prediction.features else values.sum(-1, keepdim=True)
    return {
        "note": prediction.note,
        "kind": prediction.kind,
        "steps": list(prediction.steps),
        "features": list(prediction.features),
        "values": shown.tolist(),
        "score": found.score,
        "baseline": found.baseline,
        "points": steps,
        "completeness_error": found.error,
    }
