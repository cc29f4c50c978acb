"""The interactive pictures of a report, as plotly figures without a colour scheme: the page adds light or dark.

Every colour of a line has a contrast of at least 3 on both backgrounds; lines differ by marker and dash, too.
Points and frames are those of the picture for print (`picture.py`). The notes are shown below the figures.

The sample of the best run (forecasts beside the truth, a text, or a table) is of the validation split, because test
data is touched by `gatelab eval` only. What cannot be shown (no checkpoint, data that are gone) is said instead; a
report never fails for it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.report.curves import (
    Curves,
    Frame,
    Point,
    curves,
    label,
    named,
    remarks,
    short,
    slices,
    value_at,
    widened,
)
from gatelab.report.gather import Curve, Facts
from gatelab.run import RequestError
from gatelab.study.analysis.importance import Importance
from gatelab.study.analysis.leaderboard import Row
from gatelab.study.analysis.one_at_a_time import CHANGE, Effect, base_in_words, effects, in_words
from gatelab.study.analysis.state import Objective, StudyState, Trial, is_number, short_names, show
from gatelab.study.analysis.statistics import over_what, shown_p
from gatelab.tasks.contract import CurveSample, HeatMap, Sample, SeriesSample

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ("#2f7ed8", "#d9660d", "#16885a", "#9467bd", "#d6336c", "#0e8f9e", "#9c6b3a", "#7a7f87")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot")
FAINT = "#7a7f87"
NAMED = "<extra>%{fullData.name}</extra>"
RANKS = ((0.0, "#2f7ed8"), (0.4, "#6f86b8"), (0.7, "#a08a6a"), (1.0, "#d9660d"))
"""Colours of the parallel coordinates, from the best trial to the worst."""
MOST_POINTS, MOST_SHOWN = 40, 8
"""Points with learning curves in the page, and of these shown at first."""
AXIS_WIDTH = 82
"""Pixels of a parallel coordinate: its ticks can be read, and four of them fit on a phone."""


def new_figure(**layout: Any) -> go.Figure:
    """A figure without a colour scheme of its own."""
    import plotly.graph_objects as go

    clear = "rgba(0,0,0,0)"
    figure = go.Figure()
    figure.update_layout(template="none", hovermode="closest", paper_bgcolor=clear, plot_bgcolor=clear)
    figure.update_layout(
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0}
    )
    figure.update_layout(margin={"l": 58, "r": 12, "t": 34, "b": 48}, legend_itemsizing="constant", **layout)
    return figure


def axis_name(objective: Objective) -> str:
    """Name of an axis, short enough for a phone; the note below the figure has unit and direction."""
    return objective.label.partition(" (")[0]


def hover(state: StudyState, trial: Trial) -> str:
    """Text about a trial under the pointer."""
    return f"trial {trial.number}: {in_words(trial.params, short_names(state.keys))}"


def over_parameter(state: StudyState) -> list[tuple[str, str, go.Figure]]:
    """The first objective over hidden size, or over what the study varied: (axis, note, figure) of each.

    Of one change at a time the differences from the base. Empty with fewer than two finished trials.
    """
    if changes := effects(state):
        return [(CHANGE, f"{base_in_words(state)}; {over_what(state)}", _effects(state, changes))]
    keys = slices(state) if len(state.objectives) == 1 else [None]
    found = [curves(state, key) for key in keys] if len(state.done) > 1 else []
    return [
        (one.name, f"{label(state.objectives[0])}; {remarks(state, one)}", _over(state, one))
        for one in found
        if one
    ]


def _effects(state: StudyState, changes: Sequence[Effect]) -> go.Figure:
    """A line a change, the worst at the top; coloured where it can be told from no difference."""
    figure = new_figure(
        height=150 + 34 * len(changes),
        xaxis_title_text=f"{axis_name(state.objectives[0])}: difference from the base",
    )
    figure.add_vline(x=0.0, line={"color": FAINT, "width": 1.6}, layer="below")
    groups = {
        "worse": ([one for one in changes if one.told and not one.better], COLOURS[1]),
        "better": ([one for one in changes if one.told and one.better], COLOURS[2]),
        "cannot be told": ([one for one in changes if not one.told], FAINT),
    }
    for name, (some, colour) in groups.items():
        halves = [None if one.diverged else one.difference.half for one in some]
        figure.add_scatter(
            x=[None if one.diverged else one.difference.mean for one in some],
            y=[one.label for one in some],
            error_x={"array": halves, "thickness": 1.3, "width": 4} if any(halves) else None,
            customdata=[["" if one.p is None else f"<br>p {shown_p(one.p)}"] for one in some],
            mode="markers",
            name=name,
            marker={"color": colour, "size": 9},
            hovertemplate="%{x:+.5g}%{customdata[0]}" + NAMED,
        )
    names = [one.label for one in reversed(changes)]
    figure.update_yaxes(categoryorder="array", categoryarray=names, automargin=True)
    return figure


def _over(state: StudyState, found: Curves) -> go.Figure:
    figure = new_figure(
        height=430, xaxis_title_text=found.name, yaxis_title_text=axis_name(state.objectives[0])
    )
    lines = list(found.lines.items())
    for index, (line, points) in enumerate(lines):
        hidden = sum(_covers(later, points) for _, later in lines[index + 1 :])
        _add_line(figure, found, index, line or state.objectives[0].name, points, hidden)
    figure.add_scatter(
        x=[p.x for p in found.others],
        y=[p.summary.mean for p in found.others],
        text=[hover(state, p.trial) for p in found.others],
        mode="markers",
        name="not the best at this place",
        showlegend=bool(found.others),
        marker={"color": FAINT, "size": 5, "opacity": 0.6},
        hovertemplate="%{y:.5g}<br>%{text}<extra></extra>",
    )
    if (frame := found.frame) is not None:
        _set_frame(figure, frame, found.baselines)
    if found.ticks:
        texts = [text.replace("\n", "<br>") for text in found.ticks.values()]
        figure.update_xaxes(tickvals=list(found.ticks), ticktext=texts)
    if found.words:
        figure.update_xaxes(range=[-0.5, len(found.ticks) - 0.5])
    if found.base:
        low, high = (math.log10(end([point.x for point in found.points])) for end in (min, max))
        margin = max(0.04, 0.04 * (high - low))
        figure.update_xaxes(type="log", range=[low - margin, high + margin])
    return figure


def _covers(later: Sequence[Point], points: Sequence[Point]) -> bool:
    """True if a line that is drawn later lies on this one, as far as one can see."""
    there = {p.x: p.summary.mean for p in later}
    return all(math.isclose(there.get(p.x, math.nan), p.summary.mean, rel_tol=2e-3) for p in points)


def _add_line(
    figure: go.Figure, found: Curves, index: int, name: str, points: Sequence[Point], hidden: int
) -> None:
    """One choice's points; wider by the `hidden` lines that lie on it, so that it shows beside them."""
    colour = COLOURS[index % len(COLOURS)]
    halves = [p.summary.half for p in points]
    sizes = ["" if (n := p.trial.parameters) is None else f"<br>{n:,} parameters" for p in points]
    figure.add_scatter(
        x=[p.x for p in points],
        y=[p.summary.mean for p in points],
        error_y={"array": halves, "thickness": 1.3, "width": 4, "color": colour} if any(halves) else None,
        customdata=[[p.summary.n, p.trial.number, size] for p, size in zip(points, sizes, strict=True)],
        name=name,
        legendgroup=name,
        mode="markers" if found.ranged or found.words else "lines+markers",
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


def _set_frame(figure: go.Figure, frame: Frame, known: Mapping[str, float], **place: Any) -> None:
    """Set the frame of the y axis and draw the trivial models; the legend has their values."""
    for index, (name, value) in enumerate(known.items()):
        line = {"color": FAINT, "width": 1.6, "dash": ("dash", "dot", "dashdot", "longdash")[index % 4]}
        figure.add_hline(y=value, line=line, layer="below", name=name, showlegend=True, **place)
    ends = [math.log10(end) if frame.log else end for end in (frame.low, frame.high)]
    figure.update_yaxes(type="log" if frame.log else "linear", range=ends, **place)


def learning_curves(state: StudyState, rows: Sequence[Row], facts: Facts) -> tuple[str, go.Figure] | None:
    """Note and figure: validation above, training loss below, over the same steps; None where no run has a curve.

    All seeds of a point share its colour and its entry in the legend. The best points are shown at first, the others
    can be switched on; of very many only the best are in the page.
    """
    from plotly.subplots import make_subplots

    ranked = {row.trial.number: row.trial for row in rows} | {t.number: t for t in state.trials}
    known = [
        t for t in ranked.values() if any(r.directory in facts and facts[r.directory].valid for r in t.runs)
    ]
    if not known:
        return None
    drawn = known[:MOST_POINTS]
    below = any(r.directory in facts and facts[r.directory].train for t in drawn for r in t.runs)
    panels: dict[str, Any] = {"rows": 2, "row_heights": [0.6, 0.4]} if below else {"rows": 1}
    figure = new_figure(height=640 if below else 430)
    figure = make_subplots(cols=1, figure=figure, shared_xaxes=True, vertical_spacing=0.07, **panels)
    figure.update_xaxes(title_text="optimiser step", row=panels["rows"])
    figure.update_yaxes(title_text=axis_name(state.objectives[0]), row=1)
    if below:
        figure.update_yaxes(title_text="training loss", row=2)
    shown: tuple[list[Curve], list[Curve]] = ([], [])
    for index, trial in enumerate(drawn):
        for panel, curve in _add_curves(figure, state, trial, index, facts):
            if index < MOST_SHOWN:
                shown[panel - 1].append(curve)
    notes = [label(state.objectives[0]), *(["below it the training loss"] if below else [])]
    notes += [f"{len(drawn)} of {len(known)} points, the best first"] if len(drawn) < len(known) else []
    if len(drawn) > MOST_SHOWN:
        notes.append(f"{MOST_SHOWN} points are shown, the others can be switched on")
    notes.append(_set_frames(figure, shown, named(state.baselines or {})))
    return "; ".join(filter(None, notes)), figure


def _add_curves(
    figure: go.Figure, state: StudyState, trial: Trial, index: int, facts: Facts
) -> list[tuple[int, Curve]]:
    """Draw the curves of a trial's runs; the panel and the curve of each."""
    names = short_names(state.keys)
    parts = [show(v) if isinstance(v, str) else f"{names[k]} {show(v)}" for k, v in trial.params.items()]
    name = ", ".join(parts) or f"trial {trial.number}"
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
    added: list[tuple[int, Curve]] = []
    for run in trial.runs:
        found = facts.get(run.directory)
        if found is None or found.valid is None:
            continue
        for panel, curve in ((1, found.valid), (2, found.train)):
            if curve is None:
                continue
            figure.add_scatter(
                x=curve.steps,
                y=curve.values,
                mode="lines+markers" if len(curve.steps) <= (60 if panel == 1 else 3) else "lines",
                name=name,
                legendgroup=name,
                showlegend=not added,
                visible=True if index < MOST_SHOWN else "legendonly",
                line={"color": colour, "width": 1.6 if panel == 1 else 1.1, "dash": dash},
                marker={"size": 4},
                hovertemplate=f"step %{{x}}: %{{y:.5g}}<br>seed {run.seed}" + NAMED,
                row=panel,
                col=1,
            )
            added.append((panel, curve))
    return added


def _set_frames(
    figure: go.Figure, shown: tuple[Sequence[Curve], Sequence[Curve]], known: Mapping[str, float]
) -> str:
    """Frames without the beginning (a tenth of the steps) or diverged runs that would squeeze the others; a note."""
    cut = False
    for panel, lines in enumerate(shown, 1):
        early = 0.1 * max((step for curve in lines for step in curve.steps), default=0)
        late = [[v for s, v in zip(c.steps, c.values, strict=True) if s > early] or c.values for c in lines]
        if not late:
            continue
        low, high = in_sight([(min(values), max(values)) for values in late])
        cut = cut or any(max(curve.values) > high for curve in lines)
        known = known if panel == 1 else {}
        _set_frame(figure, widened(low, high, known.values()), known, row=panel, col=1)
    above = "the beginning, or a run that diverged, lies above the frame (a double click shows all)"
    return above if cut else ""


def in_sight(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The range of (lowest, highest) pairs, without the few, one in eight at most, that would squeeze the others."""
    middle = statistics.median((low + high) / 2 for low, high in spans)
    nearest = sorted(spans, key=lambda span: max(abs(end - middle) for end in span))
    kept = nearest[: len(spans) - len(spans) // 8]
    (low, high), (least, most) = (
        (min(s[0] for s in some), max(s[1] for s in some)) for some in (spans, kept)
    )
    return (least, most) if 0 < 3 * (most - least) < high - low else (low, high)


def parallel_coordinates(state: StudyState) -> tuple[str, go.Figure] | None:
    """Note and figure: one line a finished trial through all its parameters; None where nothing was varied, and of one
    change at a time.
    """
    trials = [trial for trial in state.done if all(math.isfinite(value) for value in trial.values)]
    keys = [key for key in state.keys if len({repr(trial.params.get(key)) for trial in trials}) > 1]
    if len(trials) < 2 or not keys or keys == [CHANGE]:
        return None
    names = short_names(state.keys)
    axes = [_axis(names[key], [trial.params.get(key) for trial in trials]) for key in keys]
    for fact in ("parameters", "seconds"):
        values = [value_at(trial, fact) for trial in trials]
        if None not in values and len(set(values)) > 1:
            axes.append(_axis(fact, values))
    for place, objective in enumerate(state.objectives):
        values = [trial.values[place] for trial in trials]
        low, high = in_sight([(value, value) for value in values])  # a run that diverged stands at the end
        axes.append(_axis(objective.name, [min(max(value, low), high) for value in values]))
    sign = state.objectives[0].sign
    order = sorted(range(len(trials)), key=lambda place: sign * trials[place].values[0])
    ranks = [order.index(place) / (len(trials) - 1) for place in range(len(trials))]
    figure = new_figure(height=400, meta={"width": AXIS_WIDTH * len(axes)})
    figure.update_layout(margin={"l": 60, "r": 60, "t": 50, "b": 30})
    line = {"color": ranks, "colorscale": RANKS, "cmin": 0, "cmax": 1}
    figure.add_parcoords(dimensions=axes, line=line, labelside="top")
    return (
        "one line a finished trial, from the best (blue) to the worst (orange); drag along an axis to select",
        figure,
    )


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A dimension: words one above the other; numbers over a factor of eight and more in equal factors."""
    label = name.replace("_", " ")
    if not all(is_number(value) for value in values):
        words = sorted({show(value) for value in values}, reverse=True)
        places = [words.index(show(value)) for value in values]
        return {"label": label, "values": places, "tickvals": list(range(len(words))), "ticktext": words}
    low, high, distinct = min(values), max(values), sorted(set(values))
    if not (low > 0 and high / low >= 8):
        few = len(distinct) <= 8 and all(isinstance(value, int) for value in distinct)
        return {"label": label, "values": values, **({"tickvals": distinct} if few else {})}
    ticks = distinct if len(distinct) <= 8 else [low * (high / low) ** (part / 4) for part in range(5)]
    texts = [short(tick) if tick >= 1e4 else f"{tick:.4g}" for tick in ticks]
    logs = [math.log(value) for value in values]
    return {"label": label, "values": logs, "tickvals": [math.log(tick) for tick in ticks], "ticktext": texts}


def importance_bars(state: StudyState, found: Importance) -> go.Figure | None:
    """One bar a parameter; None where nothing can be said."""
    if not found.shares:
        return None
    names = short_names(state.keys)
    shares = list(reversed(found.shares))
    figure = new_figure(height=96 + 34 * len(shares), xaxis={"tickformat": ".0%", "range": [0, 1]})
    figure.add_bar(
        x=[share.share for share in shares],
        y=[names[share.key].replace("_", " ") for share in shares],
        orientation="h",
        text=[f"{share.share:.1%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        marker={"color": COLOURS[0]},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure.update_yaxes(automargin=True)
    figure.update_layout(margin={"l": 8, "r": 48, "t": 34, "b": 32})
    return figure


def samples(rows: Sequence[Row], *, trust: bool = False) -> tuple[str, Path | None, Sequence[Sample]]:
    """The samples of the best trial's first run that has a checkpoint, as its task shows them; `trust`: `load_task`.

    Returns:
        whose they are, or why there are none; the run that made them; the samples.
    """
    from gatelab.run.load import load_task

    runs = [run.directory for row in rows[:1] for run in row.trial.runs]
    kept = next((run for run in runs if any((run / "checkpoints").glob("*.ckpt"))), None)
    if kept is None:
        return "No sample: the best trial's runs have no checkpoint here.", None, ()
    try:
        loaded = load_task(kept, trust=trust)
        shown = loaded.task.samples(loaded)
    except (RequestError, OSError, RuntimeError, ValueError, KeyError) as error:
        return f"No sample: {error}", None, ()
    if not shown:
        return "No sample: this task shows none.", None, ()
    return "By the best run's best checkpoint.", kept, shown


def draw_curves(shown: CurveSample) -> go.Figure:
    """A line for each name; the model's is the boldest."""
    figure = new_figure(height=320, xaxis_title_text=shown.steps, yaxis_title_text=shown.label)
    for place, (name, values) in enumerate(shown.curves.items()):
        line = {"color": COLOURS[0], "width": 2.4} if place == 0 else {"color": FAINT, "width": 1.5}
        if place > 1:
            line["dash"] = "dot"
        figure.add_scatter(
            x=[*range(1, len(values) + 1)], y=[*values], name=name.replace("_", " "), line=line
        )
    return figure


def draw_heat_map(shown: HeatMap) -> go.Figure:
    """A square for each value; the rows from above."""
    figure = new_figure(height=120 + 26 * len(shown.rows))
    # words may stand twice in a sentence, so the axes are places and the words their ticks
    figure.add_heatmap(
        z=[[*row] for row in shown.values],
        colorscale=((0.0, "rgba(128,128,128,0.05)"), (1.0, COLOURS[0])),
        zmin=0,
    )
    figure.update_xaxes(tickvals=[*range(len(shown.columns))], ticktext=[*shown.columns], side="top")
    figure.update_yaxes(tickvals=[*range(len(shown.rows))], ticktext=[*shown.rows], autorange="reversed")
    figure.update_layout(margin={"t": 90})
    return figure


def draw_series(shown: SeriesSample) -> go.Figure:
    """Forecasts beside the truth."""
    figure = new_figure(height=380, xaxis_title_text=shown.steps, yaxis_title_text=shown.label)
    for place, window in enumerate(shown.windows):
        steps = range(window.start - len(window.past), window.start + len(window.forecast))
        truth: list[Any] = window.times or [*steps]
        after = truth[len(window.past) :]
        colour = COLOURS[place % len(COLOURS)]
        for band in window.bands:
            figure.add_scatter(
                x=[*after, *reversed(after)],
                y=[*band.high, *reversed(band.low)],
                name=f"{band.percent} %",
                legendgroup=f"{band.percent} %",
                showlegend=place == 0,
                fill="toself",
                fillcolor=f"rgba({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))}, 0.14)",
                line={"width": 0},
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=truth[: len(window.past) + len(window.future)],
            y=[*window.past, *window.future],
            name="truth",
            legendgroup="truth",
            showlegend=place == 0,
            line={"color": FAINT, "width": 1.5},
        )
        line = {"color": colour, "width": 2.2}
        figure.add_scatter(x=after, y=window.forecast, name=f"forecast {place + 1}", line=line)
        figure.add_vline(
            x=after[0] if window.times else window.start - 0.5,
            line={"color": FAINT, "width": 1, "dash": "dot"},
        )
    return figure
