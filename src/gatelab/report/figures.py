"""The interactive pictures of a report, as plotly figures without a colour scheme: the page adds light or dark.

Every colour of a line has a contrast of 3 at least on both backgrounds, lines differ by marker and dash, too, and which
points there are is decided where the pictures for print have it (`study/curves.py`, `study/frame.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gatelab.report.curves import Curves, Point, curves, slices
from gatelab.report.frame import Frame, frame_of, label, short
from gatelab.run.messages import LABELS
from gatelab.study.analysis.state import Objective, StudyState, Trial, short_names, show

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
    return LABELS.get(objective.name, objective.name.replace("_", " ")).partition(" (")[0]


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
