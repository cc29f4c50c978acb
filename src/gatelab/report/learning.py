"""Learning curves of a report: validation above, training loss below, over the same steps; one colour a point.

All seeds of a point share its colour and its entry in the legend. The best points are shown at first, the others can be
switched on; of very many only the best are in the page at all, and it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gatelab.report.facts import Curve, Facts
from gatelab.report.figures import COLOURS, DASHES, NAMED, add_baseline, axis_name, new_figure
from gatelab.report.frame import label
from gatelab.study.analysis.leaderboard import Row
from gatelab.study.analysis.state import StudyState, Trial, short_names, show

if TYPE_CHECKING:
    import plotly.graph_objects as go

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
