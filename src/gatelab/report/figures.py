"""The interactive pictures of a report, as plotly figures without a colour scheme: the page adds light or dark.

Every colour of a line has a contrast of 3 at least on both backgrounds, lines differ by marker and dash, too, and which
points there are is decided where the pictures for print have it (`study/curves.py`, `study/frame.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatelab.report.facts import Curve, Facts
from gatelab.report.picture import (
    Curves,
    Frame,
    Point,
    curves,
    frame_of,
    in_sight,
    label,
    reach,
    short,
    slices,
    value_at,
)
from gatelab.study.analysis.importance import Importance
from gatelab.study.analysis.leaderboard import Row
from gatelab.study.analysis.state import Objective, StudyState, Trial, is_number, short_names, show
from gatelab.study.analysis.statistics import Summary

if TYPE_CHECKING:
    import plotly.graph_objects as go


COLOURS = ("#2f7ed8", "#d9660d", "#16885a", "#9467bd", "#d6336c", "#0e8f9e", "#9c6b3a", "#7a7f87")


SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")


DASHES = ("solid", "dash", "dot", "dashdot")


FAINT = "#7a7f87"


NAMED = "<extra>%{fullData.name}</extra>"


def new_figure(**layout: Any) -> go.Figure:
    """A figure without a colour scheme of its own."""
    import plotly.graph_objects as go

    legend = {
        "orientation": "h",
        "yref": "container",
        "yanchor": "bottom",
        "y": 0,
        "x": 0,
        "itemsizing": "constant",
    }
    figure = go.Figure()
    figure.update_layout(
        template="none",
        margin={"l": 58, "r": 12, "t": 34, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend=legend,
        hovermode="closest",
        **layout,
    )
    return figure


def axis_name(objective: Objective) -> str:
    """What an axis is called, short enough for a phone; `frame.label` tells the rest below the picture."""
    return objective.label.partition(" (")[0]


def over_parameter(state: StudyState) -> list[tuple[str, str, go.Figure]]:
    """The first objective over hidden size, or over what the study varied: (axis, what it shows, figure) of each.

    Empty with fewer than two finished trials.
    """
    if len(state.done) < 2:
        return []
    if len(state.objectives) > 1:
        return [_front(state)]
    return [_over(state, key) for key in slices(state)]


def _over(state: StudyState, key: str) -> tuple[str, str, go.Figure]:
    found = curves(state, key)
    assert found is not None
    name = short_names([found.x, *(k for k in state.keys if k != found.x)])[found.x].replace("_", " ")
    figure = new_figure(
        height=430, xaxis={"title": {"text": name}}, yaxis={"title": {"text": axis_name(state.objectives[0])}}
    )
    every = [p for line in found.lines.values() for p in line if math.isfinite(p.summary.mean)]
    lines = list(found.lines.values())
    for index, (line, points) in enumerate(found.lines.items()):
        hidden = sum(_covers(later, points) for later in lines[index + 1 :])
        _add_line(figure, found, index, line or state.objectives[0].name, points, hidden)
    if found.others:
        figure.add_scatter(
            x=[p.x for p in found.others],
            y=[p.summary.mean for p in found.others],
            text=[hover(state, p.trial) for p in found.others],
            mode="markers",
            name="not the best at this place",
            marker={"color": FAINT, "size": 5, "opacity": 0.6},
            hovertemplate="%{y:.5g}<br>%{text}<extra></extra>",
        )
    frame = frame_of(every) if every else None
    said = [label(state.objectives[0]), *_frame(figure, state, frame)]
    if frame is not None and (outside := frame.outside(every)):
        said.append(outside)
    _scale_x(figure, found)
    if found.rest and not found.ranged:
        said.append(f"lines: the best over {', '.join(found.rest)}")
    return name, "; ".join(said), figure


def _covers(later: Sequence[Point], points: Sequence[Point]) -> bool:
    """Whether a line that is drawn later lies on this one, to what can be seen."""
    there = {p.x: p.summary.mean for p in later}
    return all(math.isclose(there.get(p.x, math.nan), p.summary.mean, rel_tol=2e-3) for p in points)


def _add_line(
    figure: go.Figure, found: Curves, index: int, name: str, points: Sequence[Point], hidden: int
) -> None:
    """One choice's points; wider by the `hidden` lines that lie on it, so that it shows beside them."""
    colour = COLOURS[index % len(COLOURS)]
    halves = [p.summary.half for p in points]
    bars = {"type": "data", "array": halves, "thickness": 1.3, "width": 4, "color": colour}
    joined = not (found.ranged or found.words)
    figure.add_scatter(
        x=[p.x for p in points],
        y=[p.summary.mean for p in points],
        error_y=bars if any(halves) else None,
        customdata=[[p.summary.n, p.trial.number, _sized(p.trial)] for p in points],
        name=name,
        legendgroup=name,
        mode="lines+markers" if joined else "markers",
        line={"color": colour, "width": 2 + 4 * hidden, "dash": DASHES[index // len(COLOURS) % len(DASHES)]},
        marker={"color": colour, "size": 9 + 6 * hidden, "symbol": SYMBOLS[index % len(SYMBOLS)]},
        hovertemplate="%{x}: %{y:.5g}<br>n = %{customdata[0]}, trial %{customdata[1]}%{customdata[2]}"
        + NAMED,
    )
    runs = [(p.x, value) for p in points if len(p.values) > 1 for value in p.values]
    if runs:
        figure.add_scatter(
            x=[x for x, _ in runs],
            y=[value for _, value in runs],
            mode="markers",
            name=name,
            legendgroup=name,
            showlegend=False,
            marker={"color": colour, "size": 4, "opacity": 0.55},
            hovertemplate="one run: %{y:.5g}" + NAMED,
        )


def _sized(trial: Trial) -> str:
    return "" if trial.parameters is None else f"<br>{trial.parameters:,} parameters"


def hover(state: StudyState, trial: Trial) -> str:
    """What is shown about a trial under the pointer."""
    names = short_names(state.keys)
    return f"trial {trial.number}: " + ", ".join(f"{names[k]} {show(v)}" for k, v in trial.params.items())


def _scale_x(figure: go.Figure, found: Curves) -> None:
    """Words and listed numbers get their own ticks; a factor of four and more is shown in equal factors."""
    xs = sorted({p.x for line in found.lines.values() for p in line} | {p.x for p in found.others})
    if found.words:
        ticks = [show(tick) for tick in found.ticks or ()]
        figure.update_xaxes(tickvals=list(range(len(ticks))), ticktext=ticks, range=[-0.5, len(ticks) - 0.5])
        return
    whole = all(float(x).is_integer() for x in xs)
    if xs[0] > 0 and xs[-1] / xs[0] >= 4 and (whole or found.log):
        margin = max(0.04, 0.04 * math.log10(xs[-1] / xs[0]))
        ends = [math.log10(xs[0]) - margin, math.log10(xs[-1]) + margin]
        figure.update_xaxes(type="log", range=ends)
        if whole and found.ticks is None:
            powers = [2**n for n in range(31) if xs[0] <= 2**n <= xs[-1]]
            figure.update_xaxes(tickvals=powers, ticktext=[short(power) for power in powers])
    if found.ticks is not None and len(xs) <= 12:
        figure.update_xaxes(tickvals=xs, ticktext=[short(x) if x >= 1e4 else f"{x:g}" for x in xs])


def _frame(figure: go.Figure, state: StudyState, frame: Frame | None) -> list[str]:
    """Set the frame of the y axis and draw the trivial baselines; those that are far away are said in words."""
    low, high = (frame.bottom, frame.top) if frame else (math.inf, -math.inf)
    far = []
    for index, (name, value) in enumerate((state.baselines or {}).items()):
        if frame is not None and not frame.near(value):
            far.append(f"{name.replace('_', ' ')} {value:.4g}")
        elif frame is not None:
            margin = 0.06 * (frame.top - frame.bottom)
            low, high = min(low, value - margin), max(high, value + margin)
        add_baseline(figure, index, name, value)
    if frame is not None and frame.log:
        figure.update_yaxes(
            type="log", range=[math.log10(low if low > 0 else frame.bottom), math.log10(high)]
        )
    elif frame is not None:
        figure.update_yaxes(range=[low, high])
    return [f"trivial models outside the frame: {', '.join(far)} (zoom out to see them)"] if far else []


def add_baseline(figure: go.Figure, index: int, name: str, value: float, **place: Any) -> None:
    """A trivial model's value as a line across the whole picture; the legend switches it off."""
    text = f"{name.replace('_', ' ')} {value:.4g}"
    line = {"color": FAINT, "width": 1.6, "dash": ("dash", "dot", "dashdot", "longdash")[index % 4]}
    figure.add_hline(y=value, name=text, showlegend=True, line=line, layer="below", **place)


def _front(state: StudyState) -> tuple[str, str, go.Figure]:
    first, second = state.objectives[:2]
    figure = new_figure(
        height=430, xaxis={"title": {"text": axis_name(second)}}, yaxis={"title": {"text": axis_name(first)}}
    )
    front = state.pareto
    numbers = {trial.number for trial in front}
    rest = [trial for trial in state.done if trial.number not in numbers]
    for name, trials, index in (("on the Pareto front", front, 0), ("the others", rest, 7)):
        figure.add_scatter(
            x=[t.values[1] for t in trials],
            y=[t.values[0] for t in trials],
            text=[hover(state, t) for t in trials],
            name=name,
            mode="markers",
            marker={"color": COLOURS[index], "symbol": SYMBOLS[index], "size": 10 if index == 0 else 7},
            hovertemplate="%{y:.5g}, %{x:.5g}<br>%{text}<extra></extra>",
        )
    said = f"{label(first)} and {label(second)}; {len(front)} of {len(state.done)} trials are on the Pareto front"
    return second.name, said, figure


MOST_POINTS, MOST_SHOWN = 40, 8


def learning_curves(state: StudyState, rows: Sequence[Row], facts: Facts) -> tuple[str, go.Figure] | None:
    """What the picture shows, in words, and the picture; None where no run has a curve."""
    ranked = [row.trial for row in rows]
    numbers = {trial.number for trial in ranked}
    trials = [*ranked, *(trial for trial in state.trials if trial.number not in numbers)]
    known = [t for t in trials if any(r.directory in facts and facts[r.directory].valid for r in t.runs)]
    if not known:
        return None
    drawn = known[:MOST_POINTS]
    figure = _panels(state)
    names = short_names(state.keys)
    panels: dict[int, list[Curve]] = {1: [], 2: []}
    for index, trial in enumerate(drawn):
        name = _name(trial, names)
        style = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        shown = True if index < MOST_SHOWN else "legendonly"
        first = True
        for run in trial.runs:
            found = facts.get(run.directory)
            if found is None or found.valid is None:
                continue
            for panel, curve in ((1, found.valid), (2, found.train)):
                if curve is not None:
                    if index < MOST_SHOWN:
                        panels[panel].append(curve)
                    _add(figure, panel, curve, name, style, legend=first, shown=shown, seed=run.seed)
                    first = False
    said = [f"{label(state.objectives[0])}; below it the training loss"]
    said += [f"{len(drawn)} of {len(known)} points, the best first"] if len(drawn) < len(known) else []
    if len(drawn) > MOST_SHOWN:
        said.append(f"{MOST_SHOWN} points are shown, the others can be switched on")
    return "; ".join([*said, *_frames(figure, state, panels)]), figure


def _frames(figure: go.Figure, state: StudyState, panels: Mapping[int, Sequence[Curve]]) -> list[str]:
    """Set the frames and draw the trivial models that are near; what is left out, in words."""
    said, far = [], []
    low, high, cut = _reach(panels[1])
    margin = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    bottom, top = low, high
    for index, (name, value) in enumerate((state.baselines or {}).items()):
        if low - (high - low) / 2 <= value <= high + (high - low) / 2:
            add_baseline(figure, index, name, value, row=1, col=1)
            bottom, top = min(bottom, value), max(top, value)
        else:
            far.append(f"{name.replace('_', ' ')} {value:.4g}")
    figure.update_yaxes(range=[bottom - margin, top + margin], row=1, col=1)
    if panels[2]:
        low, high, cut_below = _reach(panels[2])
        margin = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
        figure.update_yaxes(range=[low - margin, high + margin], row=2, col=1)
        cut = cut or cut_below
    said += [f"trivial models outside the frame: {', '.join(far)}"] if far else []
    said += (
        ["the beginning, or a run that diverged, lies above the frame (a double click shows all)"]
        if cut
        else []
    )
    return said


def _reach(curves: Sequence[Curve]) -> tuple[float, float, bool]:
    """The least and the largest value; without the beginning, or one curve in eight, that would squeeze all others.

    The beginning is the first tenth of the steps. The last of the three says whether something was left out.
    """
    early = 0.1 * max(step for curve in curves for step in curve.steps)
    every = _ends(curves, -1.0)
    late = _ends(curves, early) or every
    ends, cut = (late, True) if _squeezed(every, late) else (every, False)
    for count in range(1, len(ends) // 8 + 1):
        rest = sorted(ends, key=lambda pair: pair[1])[:-count]
        if _squeezed(ends, rest):
            return _least(rest), max(high for _, high in rest), True
    return _least(ends), max(high for _, high in ends), cut


def _ends(curves: Sequence[Curve], after: float) -> list[tuple[float, float]]:
    """The least and the largest value of each curve after a step; curves that end before it are left out."""
    kept = [[v for step, v in zip(c.steps, c.values, strict=True) if step > after] for c in curves]
    return [(min(values), max(values)) for values in kept if values]


def _squeezed(every: Sequence[tuple[float, float]], some: Sequence[tuple[float, float]]) -> bool:
    """Whether `some` would have less than two fifths of a frame for `every`."""
    whole, part = (max(high for _, high in ends) - _least(ends) for ends in (every, some))
    return whole > 2.5 * part > 0


def _least(ends: Sequence[tuple[float, float]]) -> float:
    return min(low for low, _ in ends)


def _name(trial: Trial, names: dict[str, str]) -> str:
    """`gru, hidden_size 64`."""
    parts = [show(v) if isinstance(v, str) else f"{names[k]} {show(v)}" for k, v in trial.params.items()]
    return ", ".join(parts) or f"trial {trial.number}"


def _panels(state: StudyState) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = new_figure()
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.6, 0.4], figure=figure
    )
    figure.update_layout(height=640)
    figure.update_yaxes(title={"text": axis_name(state.objectives[0])}, row=1, col=1)
    figure.update_yaxes(title={"text": "training loss"}, row=2, col=1)
    figure.update_xaxes(title={"text": "optimiser step"}, row=2, col=1)
    return figure


def _add(
    figure: go.Figure,
    panel: int,
    curve: Curve,
    name: str,
    style: tuple[str, str],
    *,
    legend: bool,
    shown: bool | str,
    seed: int | None,
) -> None:
    markers = panel == 1 and len(curve.steps) <= 60
    figure.add_scatter(
        x=curve.steps,
        y=curve.values,
        mode="lines+markers" if markers else "lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        visible=shown,
        line={"color": style[0], "width": 1.6 if panel == 1 else 1.1, "dash": style[1]},
        marker={"size": 4},
        hovertemplate=f"step %{{x}}: %{{y:.5g}}<br>seed {seed}" + NAMED,
        row=panel,
        col=1,
    )


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
