"""What the best run of a study does: forecasts against the truth, or a text that it writes. Cheap: a few windows.

Forecasts are of the validation split, because test data is touched by `gatelab eval` only. What cannot be shown (no
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

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from gatelab.run.load import LoadedRun

WINDOWS, CHARACTERS, TEMPERATURE = 3, 400, 0.8


@dataclass(frozen=True)
class Sample:
    """What is shown.

    Attributes:
        note: what it is, or why there is none.
        run: the run that made it; None where there is none.
        figure: forecasts against the truth.
        text: that the model wrote.
    """

    note: str
    run: Path | None = None
    figure: go.Figure | None = None
    text: str | None = None


def sample(rows: Sequence[Row]) -> Sample:
    """The sample of the best trial's first run that has a checkpoint."""
    runs = [run.directory for row in rows[:1] for run in row.trial.runs]
    kept = [
        run
        for run in runs
        if any((run / "checkpoints" / f"{name}.ckpt").is_file() for name in ("best", "last"))
    ]
    if not kept:
        return Sample("No sample: the best trial's runs have no checkpoint here.")
    try:
        return _of(kept[0])
    except (RequestError, OSError, RuntimeError, ValueError, KeyError) as error:
        return Sample(f"No sample: {error}")


def _of(run: Path) -> Sample:
    from gatelab.data import SeriesSpec
    from gatelab.run.generate import generate
    from gatelab.run.load import load_task

    loaded = load_task(run)
    if loaded.run.tokenizer_file.is_file():
        text = generate(run, "", tokens=CHARACTERS, temperature=TEMPERATURE)
        note = (
            f"Written by the best run's best checkpoint from nothing, at temperature {TEMPERATURE}, seed 0."
        )
        return Sample(note, run, text=text)
    if isinstance(loaded.task.spec, SeriesSpec) and loaded.task.spec.horizon > 1:
        return _forecasts(loaded)
    return Sample("No sample: this task gives neither a text nor a curve.")


def _forecasts(loaded: LoadedRun) -> Sample:
    """Of the first target, windows that follow each other without an overlap, from the beginning of the split."""
    from gatelab.run.load import load_data
    from gatelab.run.plots import window_forecast

    data = load_data(loaded.record)
    spec = loaded.task.spec
    figure = new_figure(height=380, yaxis={"title": {"text": f"{spec.targets[0]} (original units)"}})
    figure.update_xaxes(title={"text": "steps of the validation split"})
    last = data.eval_batch_size - 1
    places = [min(place * spec.horizon, last) for place in range(WINDOWS)]
    for place, window in enumerate(places):
        past, future, forecast = (v.tolist() for v in window_forecast(loaded.task, data, window, 0, "valid"))
        after = list(range(window, window + len(future)))
        past = past[-2 * spec.horizon :] if place == 0 else past[:0]
        truth = [*range(window - len(past), window), *after]
        first = place == 0
        line = {"color": FAINT, "width": 1.5}
        figure.add_scatter(
            x=truth, y=[*past, *future], name="truth", legendgroup="truth", showlegend=first, line=line
        )
        line = {"color": COLOURS[place % len(COLOURS)], "width": 2.2}
        figure.add_scatter(x=after, y=forecast, name=f"forecast {place + 1}", line=line)
        figure.add_vline(x=window - 0.5, line={"color": FAINT, "width": 1, "dash": "dot"})
    note = (
        f"The best run's best checkpoint on {WINDOWS} windows of the validation split: {spec.horizon} steps ahead "
        f"from {spec.lookback} steps of the past."
    )
    return Sample(note, loaded.run.path, figure=figure)
