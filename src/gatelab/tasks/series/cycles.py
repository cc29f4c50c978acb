"""A forecaster's cycle: what it asks of the data, and its picture."""

from typing import Final

from torch import nn

from gatelab.core.series.cycle import cycle_of
from gatelab.data.specs import SeriesSpec
from gatelab.tasks.contract import CurveSample, Sample

MOST_CYCLES: Final = 8
"""Channels that are drawn."""


def check_cycle(net: nn.Module, spec: SeriesSpec) -> None:
    """Raise ValueError for a cycle that the data cannot have."""
    from gatelab.data.series.steps import counts_steps

    if (cycle := cycle_of(net)) is None:
        return
    if spec.series:
        raise ValueError(
            f"task.net.cycle={cycle.steps} is of the channels of one table: give task.net.cycle=null; the series of a "
            "panel with times take data.calendar=[hour,weekday] or data.fourier={24: 3} instead"
        )
    if not counts_steps(spec.frequency):
        raise ValueError(
            f"task.net.cycle={cycle.steps} needs rows with times at equal steps: give their column (data.time=COLUMN) "
            "and fill gaps (data.gaps=fill), or task.net.cycle=null"
        )
    if cycle.steps > (rows := spec.lookback + spec.windows["train"] + spec.horizon - 1):
        raise ValueError(
            f"task.net.cycle={cycle.steps} is longer than the {rows:,} rows that train: give fewer steps"
        )


def cycle_samples(net: nn.Module, spec: SeriesSpec) -> list[Sample]:
    """The learnt cycle of the targets, of those with the widest swing if there are many; nothing without a cycle."""
    if (cycle := cycle_of(net)) is None:
        return []
    from gatelab.data.series.steps import counted_from

    levels = cycle.levels.detach()[:, list(spec.target_index)].double().cpu()
    swing = levels.amax(0) - levels.amin(0)
    shown = swing.argsort(descending=True)[:MOST_CYCLES].sort().values.tolist()
    centred = levels - levels.mean(0)
    which = (
        "" if len(shown) == len(spec.targets) else f", the {len(shown)} of {len(spec.targets)} that move most"
    )
    return [
        CurveSample(
            f"The learnt cycle of {cycle.steps} steps{which}: from its own mean, in standard deviations. Place 1 is "
            f"{counted_from(spec.frequency)}.",
            "level",
            "place in the cycle",
            {spec.targets[k]: centred[:, k].tolist() for k in shown},
        )
    ]
