"""What can be measured of a trained network's recurrent cores on a `Reading`, as plain data for a page or `--json`.

Per layer: how saturated the gates are, the units' time constants beside the autocorrelation time of what the layer
reads, fixed points of its cell and Lyapunov exponents. Per unit: the probe that tells most of it, and the loss without
it. Of the network: the loss against the context that is carried, how far outputs reach back, the attribution of one
prediction.

Letters: R sequences, T steps, n = the steps of all sequences, D input, H hidden, N losses.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

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
from gatelab.core.gates import CLOSED, OPEN, time_constants
from gatelab.tasks.explanation.layers import Layer, layers_of, listen, unit_of
from gatelab.tasks.explanation.reading import Call, Part, Prediction, Reading, powers
from gatelab.tasks.explanation.units import Tick, autocorrelation_time, check_probes, facts_of_units, varying

SMALL = 160
"""Units of a layer up to which fixed points are searched from many starts, saddles included."""


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
    losses, calls = listen(reading)
    layers = [
        layer for part, call in zip(reading.parts, calls, strict=True) for layer in layers_of(part, call)
    ]
    asked = [unit_of(layers, text) for text in units]
    check_probes(reading, layers, probes)
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
        "units": facts_of_units(reading, layers, losses, asked, probes, ablations, tick),
    }
    tick("context")
    found["context"] = None if units_only else _context(reading)
    tick("attribution")
    predicted = None if units_only else reading.prediction
    found["attribution"] = None if predicted is None else _attribution(predicted)
    found["maps"] = [one.__dict__ for one in reading.maps]
    return found


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
        "probes": sorted(varying(part, layers[0].valid, probes)) if layers else [],
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
