"""A sample of the best run of a study, as its task shows it: forecasts beside the truth, a text, or a table.

Samples are of the validation split, because test data is touched by `gatelab eval` only. What cannot be shown (no
checkpoint, data that are gone) is said instead; a report never fails for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.report.figures import COLOURS, FAINT, new_figure
from gatelab.run.errors import RequestError
from gatelab.study.analysis.leaderboard import Row
from gatelab.tasks.contract import SeriesSample, TableSample, TextSample

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Sample:
    """What is shown.

    Attributes:
        note: what it is, or why there is none.
        run: the run that made it; None where there is none.
        figure, text, table: the sample, in one of these forms.
    """

    note: str
    run: Path | None = None
    figure: go.Figure | None = None
    text: str | None = None
    table: TableSample | None = None


def sample(rows: Sequence[Row], *, trust: bool = False) -> Sample:
    """The sample of the best trial's first run that has a checkpoint; `trust` as `gatelab.run.load.load_task`."""
    runs = [run.directory for row in rows[:1] for run in row.trial.runs]
    kept = [
        run
        for run in runs
        if any((run / "checkpoints" / f"{name}.ckpt").is_file() for name in ("best", "last"))
    ]
    if not kept:
        return Sample("No sample: the best trial's runs have no checkpoint here.")
    try:
        return _of(kept[0], trust)
    except (RequestError, OSError, RuntimeError, ValueError, KeyError) as error:
        return Sample(f"No sample: {error}")


def _of(run: Path, trust: bool) -> Sample:
    from gatelab.run.load import load_task

    loaded = load_task(run, trust=trust)
    shown = loaded.task.sample(loaded)
    if shown is None:
        return Sample("No sample: this task shows none.")
    note = f"By the best run's best checkpoint. {shown.note}"
    if isinstance(shown, TextSample):
        return Sample(note, run, text=shown.text)
    if isinstance(shown, TableSample):
        return Sample(note, run, table=shown)
    return Sample(note, run, figure=_draw(shown))


def _draw(shown: SeriesSample) -> go.Figure:
    figure = new_figure(height=380, yaxis={"title": {"text": shown.label}})
    figure.update_xaxes(title={"text": shown.steps})
    for place, window in enumerate(shown.windows):
        after = list(range(window.start, window.start + len(window.future)))
        truth = [*range(window.start - len(window.past), window.start), *after]
        figure.add_scatter(
            x=truth,
            y=[*window.past, *window.future],
            name="truth",
            legendgroup="truth",
            showlegend=place == 0,
            line={"color": FAINT, "width": 1.5},
        )
        line = {"color": COLOURS[place % len(COLOURS)], "width": 2.2}
        figure.add_scatter(x=after, y=window.forecast, name=f"forecast {place + 1}", line=line)
        figure.add_vline(x=window.start - 0.5, line={"color": FAINT, "width": 1, "dash": "dot"})
    return figure
