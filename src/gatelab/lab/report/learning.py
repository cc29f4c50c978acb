"""Learning curves of a report: validation above, training loss below, over the same steps; one colour a point.

All seeds of a point share its colour and its entry in the legend. The best points are shown at first, the others can be
switched on; of very many only the best are in the page at all, and it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gatelab.lab.report.facts import Curve, Facts
from gatelab.lab.report.figures import COLOURS, DASHES, NAMED, add_baseline, axis_name, new_figure
from gatelab.lab.study.frame import label
from gatelab.lab.study.leaderboard import Row
from gatelab.lab.study.state import StudyState, Trial, short_names, show

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
    reached: list[float] = []
    for index, trial in enumerate(drawn):
        name = _name(trial, names)
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        first = True
        for run in trial.runs:
            found = facts.get(run.directory)
            if found is None or found.valid is None:
                continue
            reached += found.valid.values
            for panel, curve in ((1, found.valid), (2, found.train)):
                if curve is not None:
                    shown = True if index < MOST_SHOWN else "legendonly"
                    _add(figure, panel, curve, name, (colour, dash), legend=first, shown=shown, seed=run.seed)
                    first = False
    far = []
    low, high = min(reached), max(reached)
    for index, (name, value) in enumerate((state.baselines or {}).items()):
        if low - (high - low) / 2 <= value <= high + (high - low) / 2:
            add_baseline(figure, index, name, value, row=1, col=1)
        else:
            far.append(f"{name.replace('_', ' ')} {value:.4g}")
    said = [f"{label(state.objectives[0])}; below it the training loss"]
    said += [f"{len(drawn)} of {len(known)} points, the best first"] if len(drawn) < len(known) else []
    said += (
        [f"{MOST_SHOWN} points are shown, the others can be switched on"] if len(drawn) > MOST_SHOWN else []
    )
    said += [f"trivial models outside the frame: {', '.join(far)}"] if far else []
    return "; ".join(said), figure


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
