"""Parallel coordinates of all trials of a study, and the bars that say how much each parameter matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatelab.report.curves import Point, value_at
from gatelab.report.figures import COLOURS, hover, new_figure
from gatelab.report.frame import in_sight, reach, short
from gatelab.study.analysis.estimate import is_number
from gatelab.study.analysis.importance import Importance
from gatelab.study.analysis.state import StudyState, Trial, short_names, show
from gatelab.study.analysis.statistics import Summary

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUARTERS = (
    ("worst quarter", "#d9660d"),
    ("third quarter", "#a08a6a"),
    ("second quarter", "#6f86b8"),
    ("best quarter", "#2f7ed8"),
)
"""Drawn in this order, so that the best lie on top."""
WIDTH = 105
"""Pixels of an axis: the least at which its ticks can be read."""


@dataclass(frozen=True)
class Axis:
    """One upright axis: where each trial crosses it, 0 to 1 from the bottom, and what is written beside it."""

    name: str
    places: list[float]
    ticks: list[tuple[float, str]]


def parallel_coordinates(state: StudyState) -> tuple[str, go.Figure] | None:
    """What to know, and one line a finished trial through all its parameters; None where nothing was varied.

    Drawn as ordinary lines: plotly's own trace of this kind needs WebGL, which many a browser lacks.
    """
    trials = [trial for trial in state.done if all(math.isfinite(value) for value in trial.values)]
    keys = [key for key in state.keys if len({repr(trial.params.get(key)) for trial in trials}) > 1]
    if len(trials) < 2 or not keys:
        return None
    names = short_names(state.keys)
    axes = [_axis(names[key], [trial.params.get(key) for trial in trials]) for key in keys]
    for fact in ("parameters", "seconds"):
        values = [value_at(trial, fact) for trial in trials]
        if None not in values and len(set(values)) > 1:
            axes.append(_axis(fact, values))
    axes += [_objective(o.name, trials, place) for place, o in enumerate(state.objectives)]
    figure = new_figure(height=400, showlegend=True)
    figure.update_layout(
        margin={"l": 40, "r": 40, "t": 40, "b": 40}, meta={"width": WIDTH * len(axes)}, legend={"y": -0.02}
    )
    _lines(figure, state, trials, axes)
    _uprights(figure, axes)
    return "one line a finished trial; touch a line to see which, the legend switches quarters off", figure


def _lines(figure: go.Figure, state: StudyState, trials: Sequence[Trial], axes: Sequence[Axis]) -> None:
    """The trials by rank in quarters, each quarter one trace with gaps between its trials."""
    sign = state.objectives[0].sign
    order = sorted(range(len(trials)), key=lambda place: sign * trials[place].values[0])
    quarter = {place: 3 - 4 * rank // len(order) for rank, place in enumerate(order)}
    for number, (name, colour) in enumerate(QUARTERS):
        members = [place for place in range(len(trials)) if quarter[place] == number]
        xs: list[float | None] = []
        ys: list[float | None] = []
        texts: list[str] = []
        for place in members:
            xs += [*range(len(axes)), None]
            ys += [*(axis.places[place] for axis in axes), None]
            shown = (
                f"{hover(state, trials[place])}<br>{state.objectives[0].name} {trials[place].values[0]:.5g}"
            )
            texts += [shown] * (len(axes) + 1)
        line = {"color": colour, "width": 2.0 if number == 3 else 1.2}
        figure.add_scatter(
            x=xs,
            y=ys,
            text=texts,
            name=name,
            mode="lines+markers",
            line=line,
            marker={"size": 5},
            opacity=1.0 if number == 3 else 0.75,
            hovertemplate="%{text}<extra></extra>",
            visible=bool(members),
        )


def _uprights(figure: go.Figure, axes: Sequence[Axis]) -> None:
    """The axes themselves, with their ticks."""
    plain = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "showline": False}
    figure.update_yaxes(**plain, range=[-0.06, 1.06], fixedrange=True)
    names = [axis.name.replace("_", " ") for axis in axes]
    figure.update_xaxes(
        tickvals=list(range(len(axes))),
        ticktext=names,
        side="top",
        range=[-0.25, len(axes) - 0.45],
        fixedrange=True,
        showgrid=True,
        gridwidth=2,
    )
    for x, axis in enumerate(axes):
        for y, written in axis.ticks:
            figure.add_annotation(
                x=x, y=y, text=written, showarrow=False, xanchor="left", xshift=6, font={"size": 11}
            )


def _axis(name: str, values: Sequence[Any]) -> Axis:
    """Words one above the other; numbers over a factor of eight and more in equal factors."""
    if not all(is_number(value) for value in values):
        words = sorted({show(value) for value in values}, reverse=True)
        scale = max(1, len(words) - 1)
        heights = {word: place / scale for place, word in enumerate(words)}
        return Axis(
            name, [heights[show(value)] for value in values], [(y, word) for word, y in heights.items()]
        )
    numbers = [float(value) for value in values]
    low, high = min(numbers), max(numbers)
    equal = low > 0 and high / low >= 8
    distinct = sorted(set(numbers))
    ticks = distinct if len(distinct) <= 8 and equal else _spread(low, high, equal)
    if all(value.is_integer() for value in distinct):
        ticks = sorted({float(round(tick)) for tick in ticks})

    def height(value: float) -> float:
        if equal:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low) if high > low else 0.5

    return Axis(name, [height(value) for value in numbers], [(height(tick), _text(tick)) for tick in ticks])


def _objective(name: str, trials: Sequence[Trial], place: int) -> Axis:
    """Numbers, but for a few that would squeeze the others (a run that diverged): they stand at the axis' end."""
    points = [Point(0.0, Summary(1, t.values[place]), (t.values[place],), t) for t in trials]
    low, high = reach(in_sight(points))
    axis = _axis(name, [min(max(trial.values[place], low), high) for trial in trials])
    beyond = {
        1.0: any(t.values[place] > high for t in trials),
        0.0: any(t.values[place] < low for t in trials),
    }
    words = {1.0: "over", 0.0: "under"}
    ticks = [(y, f"{words[y]} {text}" if beyond.get(y) else text) for y, text in axis.ticks]
    return Axis(name, axis.places, ticks)


def _spread(low: float, high: float, equal: bool) -> list[float]:
    """Five numbers from `low` to `high` in equal steps, or in equal factors."""
    parts = [place / 4 for place in range(5)]
    return [low * (high / low) ** part if equal else low + (high - low) * part for part in parts]


def _text(value: float) -> str:
    return short(value) if value >= 1e4 else f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def importance_bars(state: StudyState, found: Importance) -> go.Figure | None:
    """One bar a parameter, what is left behind them in grey; None where nothing can be said."""
    if not found.shares:
        return None
    names = short_names(state.keys)
    shares = list(reversed(found.shares))
    figure = new_figure(height=96 + 34 * len(shares), xaxis={"tickformat": ".0%", "range": [0, 1]})
    figure.add_bar(
        x=[share.share for share in shares],
        y=[names.get(share.name, share.name).replace("_", " ") for share in shares],
        orientation="h",
        text=[f"{share.share:.1%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        marker={"color": [COLOURS[0] if share.key else COLOURS[7] for share in shares]},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure.update_yaxes(automargin=True)
    figure.update_layout(margin={"l": 8, "r": 48, "t": 34, "b": 32})
    return figure
