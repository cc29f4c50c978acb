"""The picture of a study: the metric over hidden size (or any parameter) with intervals, one line a cell.

Drawn without a display. Lines differ by marker as well as by colour, dark and light in turn, so that it can be read
in grey. In a study of several objectives it shows the first two and the Pareto front. Which points there are is
decided in `curves.py`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.report.curves import Curves, curves, slices
from gatelab.report.frame import FAINT, INK, draw_baselines, finish, label, scale_x, scale_y
from gatelab.study.analysis.state import StudyState, short_names, show
from gatelab.study.analysis.statistics import decimals, over_what

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = (
    ("#12436d", "o"),
    ("#ee8a3a", "s"),
    ("#157a6e", "^"),
    ("#b08fd8", "D"),
    ("#801650", "v"),
    ("#9a9a9a", "P"),
    ("#3d3d3d", "X"),
    ("#c9a227", "<"),
)
"""Colour and marker of each line; neighbours are dark and light."""
WIDTH, NARROW, HEIGHT, DPI = 7.4, 4.4, 4.6, 150


def write_picture(
    states: Sequence[StudyState],
    path: str | Path,
    *,
    x: str | None = None,
    by: str | None = None,
    note: str | None = None,
) -> Path | None:
    """Draw studies side by side into a PNG file, put in place in one step.

    Args:
        states: those without a finished trial are left out. One study over ranges gets a panel for each of its
            most important parameters, else each study gets one.
        path: of the file.
        x, by: as `curves` takes them.
        note: kept inside the file as its description.

    Returns:
        the path, or None where there was nothing to draw.

    Raises:
        RequestError: no such parameter.
    """
    drawn: list[tuple[StudyState, str | None]] = [(state, x) for state in states if state.done]
    if not drawn:
        return None
    if len(drawn) == 1 and x is None and len(states[0].objectives) == 1:
        drawn = [(drawn[0][0], key) for key in slices(drawn[0][0])]
    same = len({state.name for state, _ in drawn}) == 1
    figure, panels = _figure(len(drawn), WIDTH if len(drawn) == 1 or not same else NARROW, share=same)
    for axes, (state, key) in zip(panels, drawn, strict=True):
        first, last = axes is panels[0] or not same, axes is panels[-1] or not same
        draw(axes, state, x=key, by=by, first=first, last=last)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None, "Description": note})
    os.replace(temporary, path)
    return path


def _figure(panels: int, width: float, *, share: bool) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, HEIGHT), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=share)[0])


def draw(
    axes: Axes,
    state: StudyState,
    *,
    x: str | None = None,
    by: str | None = None,
    first: bool = True,
    last: bool = True,
) -> None:
    """Draw one study, which has a finished trial, into `axes`.

    Args:
        x, by: as `curves` takes them.
        first, last: of the panels of one study: the first has the titles, the last the legend.
    """
    if len(state.objectives) > 1 and x is None:
        _draw_front(axes, state)
        return
    found = curves(state, x, by)
    assert found is not None
    scale_x(axes, found, state)
    for index, name in enumerate(found.lines):
        colour, marker = STYLES[index % len(STYLES)]
        _draw_line(axes, found, name, colour, marker, _shift(found, index))
    for point in found.others:
        axes.plot(point.x, point.summary.mean, ".", ms=4, color="#bbbbbb", zorder=1)
    cut = scale_y(axes, [*(p for line in found.lines.values() for p in line), *found.others])
    draw_baselines(axes, state)
    best = _mark_best(axes, state, found)
    if last:
        _legend(axes, found)
    if first:
        axes.set_ylabel(label(state.objectives[0]), color=INK)
        finish(axes, state.name, best, _subtitle(state, found, cut))
    else:
        finish(axes, "", " ", " ")


def _subtitle(state: StudyState, found: Curves, cut: str) -> str:
    parts = [over_what(state)]
    if cut:
        parts.append(cut)
    if found.rest and not found.ranged:
        parts.append(f"lines: the best over {', '.join(found.rest)}")
    if state.state != "finished":
        parts.append(f"so far: {len(state.done)} of {len(state.trials)} trials")
    return "; ".join(parts)


def _draw_line(axes: Axes, found: Curves, name: str, colour: str, marker: str, shift: float) -> None:
    points = found.lines[name]
    at = [_shifted(axes, p.x, shift) for p in points]
    means = [p.summary.mean for p in points]
    for x, point in zip(at, points, strict=True):
        if len(point.values) > 1:
            axes.plot([x] * len(point.values), point.values, ".", ms=3.5, alpha=0.55, color=colour, zorder=2)
        if point.summary.half is not None:
            axes.errorbar(
                x, point.summary.mean, point.summary.half, color=colour, capsize=2.5, lw=1.1, zorder=3
            )
    style = "none" if found.ranged or found.words else "-"
    edge: dict[str, Any] = {"mec": "white", "mew": 0.7}
    axes.plot(at, means, ls=style, lw=1.7, color=colour, marker=marker, ms=6.5, label=name, zorder=4, **edge)


def _shift(found: Curves, index: int) -> float:
    """Lines stand a little beside each other, so that their intervals can be seen; 1 is one line further."""
    return 0.0 if found.ranged else index - (len(found.lines) - 1) / 2


def _shifted(axes: Axes, x: float, shift: float) -> float:
    if axes.get_xscale() == "log":
        return float(x * 2.0 ** (0.045 * shift))
    low, high = axes.get_xlim()
    return float(x + 0.008 * (high - low) * shift)


def _mark_best(axes: Axes, state: StudyState, found: Curves) -> str:
    """Put a ring around the best point; say in words which it is."""
    sign = state.objectives[0].sign
    every = [(index, point) for index, line in enumerate(found.lines.values()) for point in line]
    index, best = min(every, key=lambda pair: sign * pair[1].summary.mean)
    x = _shifted(axes, best.x, _shift(found, index))
    axes.plot(x, best.summary.mean, "o", ms=13, mfc="none", mec=INK, mew=1.1, zorder=6)
    names = short_names(state.keys)
    params = [f"{names[key]} {show(value)}" for key, value in best.trial.params.items()]
    return f"ring: the best, {best.summary.text(decimals([best.summary]))} with {', '.join(params)}"


def _legend(axes: Axes, found: Curves) -> None:
    """The lines' names beside the picture, in the order in which the lines end."""
    if list(found.lines) == [""]:
        return
    order = sorted(found.lines, key=lambda name: -found.lines[name][-1].summary.mean)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    title = (found.by or "").rpartition(".")[2].replace("_", " ")
    axes.legend(
        [handles[name] for name in order],
        order,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )


def _draw_front(axes: Axes, state: StudyState) -> None:
    """The first objective over the second, with the Pareto front as a step line."""
    first, second = state.objectives[:2]
    front = state.pareto
    numbers = {trial.number for trial in front}
    others = [trial for trial in state.done if trial.number not in numbers]
    axes.plot([t.values[1] for t in others], [t.values[0] for t in others], "o", ms=5, mfc="none", mec=FAINT)
    xs = [t.values[1] for t in front]
    if min(t.values[1] for t in state.done) > 0 and max(xs) / min(xs) >= 8:
        axes.set_xscale("log")
    if len(state.objectives) == 2:
        ordered = sorted(front, key=lambda t: t.values[1])
        where: Any = "post" if first.sign == second.sign == 1.0 else "mid"
        at, to = [t.values[1] for t in ordered], [t.values[0] for t in ordered]
        axes.step(at, to, where=where, color=STYLES[0][0], lw=1.2, zorder=2)
    axes.plot(xs, [t.values[0] for t in front], "o", ms=7, color=STYLES[0][0], mec="white", label="front")
    for trial in front:
        text = ", ".join(show(value) for value in trial.params.values())
        axes.annotate(
            text,
            (trial.values[1], trial.values[0]),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7,
            color=INK,
        )
    axes.set(xlabel=label(second), ylabel=label(first))
    shown = ", ".join(short_names(state.keys).values())
    line = f"filled: the Pareto front, {len(front)} of {len(state.done)} trials (labels: {shown})"
    finish(axes, state.name, line, over_what(state))
