"""The units of a network: the probe that tells most of each, and the loss without it.

And how much of a unit's variance a property of the step tells, how long a signal resembles itself.

Letters: R sequences, T steps, n = the steps of all sequences, H hidden, D numbers of an input.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gatelab.core.ablation import ablated
from gatelab.core.gates import time_constants
from gatelab.tasks.explanation.layers import Layer, layer_name
from gatelab.tasks.explanation.reading import Part, Reading

OFTEN = 20
"""Losses that a target must have for its own figure."""
GROUPS = 64
"""The most values of a probe that are told apart; more are put into as many groups of equal size."""
Tick = Callable[[str], None]


def varying(part: Part, valid: Tensor, asked: Sequence[str]) -> dict[str, np.ndarray]:
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


def check_probes(reading: Reading, layers: Sequence[Layer], asked: Sequence[str]) -> None:
    """Raise ValueError for a probe that is asked for and is not there."""
    known = {name for part in reading.parts for name in part.probes}
    if missing := [name for name in asked if name not in known]:
        there = f"there are: {', '.join(sorted(known))}" if known else "this task has none"
        raise ValueError(f"probe {missing[0]!r}: there is none of that name here; {there}")
    for layer in layers:
        varying(layer.part, layer.valid, asked)


def facts_of_units(
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
    known = {name: values[mask] for name, values in varying(layer.part, layer.valid, probes).items()}
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
    name = f"{layer_name(layers, layer)}:{unit}"
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


def autocorrelation_time(x: Tensor, lengths: Tensor | None = None) -> float:
    """Steps after which the autocorrelation of x [T, R, D] falls below 1/e, all numbers together; NaN if it never does.

    Between two steps it is interpolated; sequences are taken from their own mean, up to the shortest length.
    """
    steps = len(x) if lengths is None else int(lengths.min())
    x = x[:steps].double()
    x = x - x.mean(0)
    power = float(x.square().mean())
    if power == 0 or steps < 2:
        return math.nan
    last = 1.0
    for lag in range(1, steps):
        now = float((x[lag:] * x[:-lag]).mean()) / power
        if now < math.exp(-1):
            return lag - 1 + (last - math.exp(-1)) / (last - now)
        last = now
    return math.nan


def share_told(states: Tensor, probe: np.ndarray) -> Tensor:
    """The share of each unit's variance [H] that a probe [n] tells: adjusted R^2 of the mean of each of its values.

    `states` [n, H]. Where the probe is NaN a step is left out; more than `GROUPS` values are put into groups of equal
    size. It is 0 on average for a probe that tells nothing.
    """
    known = ~np.isnan(probe)
    values, chosen = probe[known], states[torch.from_numpy(known)].double()
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) > GROUPS:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, GROUPS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
    return share_of_codes(chosen, codes)


def share_of_codes(states: Tensor, codes: np.ndarray) -> Tensor:
    """As `share_told`, of what has one of a few codes at each step [n]."""
    _, codes = np.unique(codes, return_inverse=True)
    n, groups = len(states), int(codes.max()) + 1 if len(codes) else 0
    if groups < 2 or n <= groups + 1:
        return torch.zeros(states.shape[1], dtype=torch.float64)
    total = (states - states.mean(0)).square().sum(0).clamp(min=1e-12)
    within = (states - group_means(states, codes)).square().sum(0)
    return 1 - (within / (n - groups)) / (total / (n - 1))


def group_means(states: Tensor, codes: np.ndarray) -> Tensor:
    """For each step [n] the mean of the states [n, H] over all steps of its code."""
    _, codes = np.unique(codes, return_inverse=True)
    index = torch.from_numpy(codes)
    sums = torch.zeros(int(index.max()) + 1, states.shape[1], dtype=states.dtype).index_add_(0, index, states)
    return (sums / torch.bincount(index)[:, None])[index]


def often(codes: np.ndarray, least: int) -> np.ndarray:
    """The codes [n], with those that stand fewer than `least` times as one: the mean of a few is the few themselves."""
    distinct, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return np.where(counts[places] < least, distinct.min() - 1, codes)
