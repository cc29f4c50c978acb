"""The picture of a study for print: what `curves.py` found, and what each change of a base does.

Drawn without a display. Lines differ by marker as well as by colour, dark and light in turn, so that they can be told
apart in grey.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.data.files import atomic_file
from gatelab.report.curves import Curves, Point, best_point, curves, label, remarks, slices
from gatelab.study.analysis.one_at_a_time import CHANGE, Effect, base_in_words, by_change, effects
from gatelab.study.analysis.state import StudyState
from gatelab.study.analysis.statistics import ALPHA, over_what

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ABREAST = 2
"""Studies side by side; more stand below."""
STYLES = (
    ("#12436d", "o"), ("#ee8a3a", "s"), ("#157a6e", "^"), ("#b08fd8", "D"),
    ("#801650", "v"), ("#9a9a9a", "P"), ("#3d3d3d", "X"), ("#c9a227", "<"),
)  # fmt: skip
"""Colour and marker of each line; neighbours are dark and light."""
FAINT = "#777777"
WIDTH, NARROW, HEIGHT, DPI = 7.4, 4.4, 4.6, 150
LONG = 40
"""Letters of a change on one line."""
FAR = 30
"""Times the middle change: one that is further from the base would squeeze the others into a line."""
MOST_LETTERS = 80
"""Of the words below an axis; more would overlap, and stand at an angle."""


def write_picture(
    states: Sequence[StudyState],
    path: str | Path,
    *,
    x: str | None = None,
    by: str | None = None,
    note: str | None = None,
) -> Path | None:
    """Draw studies, two in a row, into a PNG file, which is replaced in one step.

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
    from matplotlib.figure import Figure

    shown = list(states) if x or by else [by_change(state) for state in states]
    drawn: list[tuple[StudyState, str | None]] = [(state, x) for state in shown if state.done]
    if not drawn:
        return None
    if len(drawn) == 1 and x is None and len(drawn[0][0].objectives) == 1:
        drawn = [(drawn[0][0], key) for key in slices(drawn[0][0])]
    same = len({state.name for state, _ in drawn}) == 1
    width = WIDTH if len(drawn) == 1 or not same else NARROW
    across = len(drawn) if same else min(len(drawn), ABREAST)
    down = math.ceil(len(drawn) / across)
    height = max(HEIGHT, *(1.8 + 0.3 * len(effects(state)) for state, _ in drawn))
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    panels = [*figure.subplots(down, across, squeeze=False, sharey=same).flat]
    for axes in panels[len(drawn) :]:
        axes.remove()
    for axes, (state, key) in zip(panels[: len(drawn)], drawn, strict=True):
        first, last = axes is panels[0] or not same, axes is panels[-1] or not same
        draw(axes, state, x=key, by=by, first=first, last=last)
    path = Path(path)
    with atomic_file(path) as file:
        figure.savefig(file, dpi=DPI, format="png", metadata={"Software": None, "Description": note})
    return path


def draw(
    axes: Axes,
    state: StudyState,
    *,
    x: str | None = None,
    by: str | None = None,
    first: bool = True,
    last: bool = True,
) -> None:
    """Draw one study, which has a finished trial, into `axes`; of one change at a time the differences from the base.

    Args:
        x, by: as `curves` takes them.
        first, last: of the panels of one study: the first has the titles, the last the legend.
    """
    if x in (None, CHANGE) and by is None and (changes := effects(state)):
        _draw_effects(axes, state, changes)
        return
    found = curves(state, x, by)
    assert found is not None
    _scale_axes(axes, found)
    for index, (name, points) in enumerate(found.lines.items()):
        # lines stand a little beside each other, so that all intervals can be seen
        shift = 0.0 if found.ranged else index - (len(found.lines) - 1) / 2
        _draw_line(axes, found, name, points, index, shift)
    others = [(p.x, p.summary.mean) for p in found.others]
    axes.scatter([x for x, _ in others], [mean for _, mean in others], s=5, color="#bbbbbb", zorder=1)
    for index, (name, value) in enumerate(found.baselines.items()):
        axes.axhline(value, color=FAINT, ls=("--", ":", "-.")[index % 3], lw=1.1, zorder=1, label=name)
    if last and (found.baselines or list(found.lines) != [""]):
        title = (found.by or "").rpartition(".")[2].replace("_", " ")
        axes.legend(title=title, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    if first:
        axes.set_ylabel(label(state.objectives[0]))
        finish(axes, state.name, best_point(state, found), remarks(state, found))
    else:
        finish(axes, "")


def _draw_effects(axes: Axes, state: StudyState, changes: Sequence[Effect]) -> None:
    """A line a change, the worst at the top; filled where it can be told from no difference."""
    axes.axvline(0.0, color=FAINT, lw=1.1, zorder=1)
    for place, one in enumerate(reversed(changes)):
        colour = STYLES[2 if one.better else 4][0] if one.told else FAINT
        axes.errorbar(
            math.nan if one.diverged else one.difference.mean,
            place,
            xerr=None if one.diverged else one.difference.half,
            color=colour,
            marker="o",
            markerfacecolor=colour if one.told else "white",
            elinewidth=1.1,
            capsize=2.5,
            zorder=4,
        )
    sizes = sorted(abs(one.difference.mean) for one in changes if not one.diverged)
    if sizes and sizes[-1] > FAR * (near := statistics.median_high(sizes[:-1] or sizes)) > 0:
        axes.set_xscale("symlog", linthresh=2 * near)  # as it is near 0, and in equal factors beyond
    axes.set_yticks(range(len(changes)), [_folded(one.label) for one in reversed(changes)])
    axes.set_ylim(-0.5, len(changes) - 0.5)
    axes.set_xlabel(f"{label(state.objectives[0])}: difference from the base")
    tested = [one.difference.n for one in changes if one.p is not None]
    pairs = " to ".join(map(str, dict.fromkeys([min(tested, default=0), max(tested, default=0)])))
    of = f"95 % interval over {pairs} pairs of runs; filled: p <= {ALPHA}, each by itself"
    finish(axes, state.name, base_in_words(state), of if tested else over_what(state))


def _folded(change: str) -> str:
    """A long change on two lines."""
    return change.replace(" → ", "\n→ ") if len(change) > LONG else change


def _scale_axes(axes: Axes, found: Curves) -> None:
    axes.set_xlabel(found.name)
    axes.margins(x=0.06)
    if found.base:
        axes.set_xscale("log", base=found.base)
        axes.minorticks_off()
    if found.ticks:
        texts = list(found.ticks.values())
        turned = sum(max(map(len, text.split("\n"))) for text in texts) > MOST_LETTERS
        axes.set_xticks(list(found.ticks), texts, rotation=25 * turned, ha="right" if turned else "center")
    if found.words:
        axes.set_xlim(-0.5, len(found.ticks) - 0.5)
    if (frame := found.frame) is not None:
        axes.set_yscale("log" if frame.log else "linear")
        axes.set_ylim(frame.low, frame.high)
    if axes.get_yscale() == "linear":  # whole numbers, not what is added to one in a corner
        axes.ticklabel_format(axis="y", useOffset=False)


def _draw_line(
    axes: Axes, found: Curves, name: str, points: Sequence[Point], index: int, shift: float
) -> None:
    colour, marker = STYLES[index % len(STYLES)]
    xs = [point.x for point in found.points]
    wide = 1.0 if found.words else (max(xs) - min(xs)) / 6
    at = [p.x * 2.0 ** (0.045 * shift) if found.base else p.x + 0.05 * wide * shift for p in points]
    runs = [(x, value) for x, p in zip(at, points, strict=True) if len(p.values) > 1 for value in p.values]
    axes.scatter([x for x, _ in runs], [y for _, y in runs], s=4, alpha=0.55, color=colour, zorder=2)
    axes.errorbar(
        at,
        [p.summary.mean if math.isfinite(p.summary.mean) else math.nan for p in points],
        [p.summary.half or math.nan for p in points],
        label=name,
        color=colour,
        marker=marker,
        markeredgecolor="white",
        linestyle="none" if found.ranged or found.words else "-",
        elinewidth=1.1,
        capsize=2.5,
        zorder=4,
    )


def finish(axes: Axes, title: str, *lines: str) -> None:
    """Title, small lines below it, grid and spines."""
    axes.set_title(title, loc="left", fontweight="bold", pad=6.0 + 11.5 * len(lines))
    axes.text(0.0, 1.015, "\n".join(lines), transform=axes.transAxes, fontsize=8.2, color=FAINT)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
