"""One part of a report's page: everything about one subject, from its headline to the runs that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gatelab.report.facts import Facts, differences, read_facts
from gatelab.report.figures import over_parameter
from gatelab.report.gather import Subject
from gatelab.report.html import Figures, link, paragraph, table, text
from gatelab.report.learning import learning_curves
from gatelab.report.overview import importance_bars, parallel_coordinates
from gatelab.report.record_data import environment_of, shown_command
from gatelab.report.record_page import ran_on
from gatelab.report.samples import sample
from gatelab.report.tell import cost, headline
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import Row, columns, leaderboard, verdict
from gatelab.study.analysis.state import StudyState, Trial, show
from gatelab.study.analysis.statistics import over_what

GONE = "The runs' own files are not here, so there are no learning curves, samples and configurations."


def section(
    place: int,
    subject: Subject,
    page: Path,
    figures: Figures,
    *,
    samples: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> str:
    """The HTML of one subject; its pictures go to `figures`."""
    state = subject.state
    facts = read_facts(state, tick)
    rows = leaderboard(state)
    parts = [f'<section id="part-{place}" aria-labelledby="name-{place}">']
    parts.append(f'<h2 id="name-{place}">{text(state.name)}</h2>')
    parts += _head(subject, facts)
    if rows:
        parts += _ranking(state, rows, facts, page)
        parts += _over(state, figures)
        parts += _learning(state, rows, facts, figures)
        parts += _overview(state, figures)
        if samples and facts:
            parts += _sample(state, rows, page, figures)
    parts += _unfinished(state, page)
    parts += _differences(state, facts)
    return "\n".join([*parts, "</section>"])


def _head(subject: Subject, facts: Facts) -> Iterator[str]:
    state = subject.state
    yield paragraph(f"{headline(state)}.")
    if state.command:
        yield f"<pre>{text(shown_command(state.command))}</pre>"
    known = list(dict.fromkeys(ran_on(environment_of(found.environment)) for found in facts.values()))
    if subject.environment:
        known = [ran_on(subject.environment)]
    entries = [("begun", state.created[:16].replace("T", " ")), ("cost", cost(state))]
    entries += [("ran on", environment) for environment in known[:3]]
    if len(known) > 3:
        entries.append(("", f"and {len(known) - 3} other environments"))
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in entries if value)
    yield f"<dl>{listed}</dl>"
    if not facts and any(trial.runs for trial in state.trials):
        yield paragraph(GONE, kind="faint")


def _ranking(state: StudyState, rows: Sequence[Row], facts: Facts, page: Path) -> Iterator[str]:
    yield "<h3>Leaderboard</h3>"
    first = state.objectives[0]
    better = "lower" if first.sign > 0 else "higher"
    yield paragraph(f"{first.metric} ({better} is better): {over_what(state)}.", verdict(state, list(rows)))
    if state.baselines:
        known = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in state.baselines.items())
        yield paragraph(f"Trivial models on the same positions: {known}.")
    shown = _what_it_is_first(state, columns(state, list(rows)))
    trials = [row.trial for row in rows]
    steps = [_steps(trial, facts) for trial in trials]
    if any(steps):
        shown["steps"] = steps
    shown |= _memory(trials, facts)
    shown["runs"] = [_links(trial, page) for trial in trials]
    marked = ["best" if row.front else "" if row.same or row.p is None else "worse" for row in rows]
    yield table(f"Leaderboard of {state.name}", shown, marked=marked, raw=["runs"])


def _what_it_is_first(state: StudyState, found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Rank, value and parameters before the rest: on a phone the first columns are all that is seen."""
    titles = list(found)
    known = {"trial", "sd", "n", "parameters", "seconds"}
    titles.sort(key=lambda title: title in known - {objective.name for objective in state.objectives})
    return {title or "rank": found[title] for title in titles}


def _steps(trial: Trial, facts: Facts) -> str:
    """Optimiser steps of a run; `400 to 600` where a trial's runs differ."""
    known = {facts[run.directory].steps if run.directory in facts else run.steps for run in trial.runs}
    steps = sorted(step for step in known if step is not None)
    return "" if not steps else f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"


def _memory(trials: Sequence[Trial], facts: Facts) -> dict[str, list[str]]:
    """Columns for the most memory that a trial's runs took; none where it was not logged."""
    found: dict[str, dict[int, float]] = {}
    for trial in trials:
        for run in trial.runs:
            for name, value in (facts[run.directory].memory if run.directory in facts else {}).items():
                known = found.setdefault(f"{name} MiB", {})
                known[trial.number] = max(value, known.get(trial.number, 0.0))
    return {
        name: [f"{known[trial.number]:,.0f}" if trial.number in known else "" for trial in trials]
        for name, known in found.items()
    }


def _links(trial: Trial, page: Path) -> str:
    """A link to each run directory, named by its seed and fold."""
    names = []
    for run in trial.runs:
        fold = "" if run.fold is None else f"f{run.fold}-"
        names.append(link(run.directory, page, f"{fold}s{run.seed}"))
    return " ".join(names)


def _over(state: StudyState, figures: Figures) -> Iterator[str]:
    for axis, note, figure in over_parameter(state):
        name = state.objectives[0].name
        yield f"<h3>{text(name)} over {text(axis)}</h3>"
        label = f"{name} over {axis}, one line for each choice; the figures stand in the leaderboard"
        yield figures.place(figure, label, note)


def _learning(state: StudyState, rows: Sequence[Row], facts: Facts, figures: Figures) -> Iterator[str]:
    found = learning_curves(state, rows, facts)
    if found is not None:
        note, figure = found
        yield "<h3>Learning curves</h3>"
        yield figures.place(
            figure, f"{state.objectives[0].metric} and training loss over the steps of the runs", note
        )


def _overview(state: StudyState, figures: Figures) -> Iterator[str]:
    found = parallel_coordinates(state)
    if found is not None:
        note, figure = found
        yield "<h3>All parameters at once</h3>"
        yield figures.place(figure, "Parallel coordinates: one line a finished trial", note)
    if len(state.done) < 2:
        return
    shares = importance(state)
    yield "<h3>What matters</h3>"
    bars = importance_bars(state, shares)
    if bars is not None:
        said = ", ".join(f"{share.name} {share.share:.1%}" for share in shares.shares)
        yield figures.place(bars, f"Importance of the parameters: {said}")
    yield paragraph(*shares.notes, kind="faint")


def _sample(state: StudyState, rows: Sequence[Row], page: Path, figures: Figures) -> Iterator[str]:
    found = sample(rows)
    yield "<h3>A sample of the best run</h3>"
    yield paragraph(found.note, kind="faint")
    if found.figure is not None:
        yield figures.place(found.figure, f"Forecasts of {state.name}'s best run beside the truth")
    if found.text is not None:
        yield f'<pre class="text">{text(found.text)}</pre>'
    if found.run is not None:
        yield f"<p>{link(found.run, page, found.run.name)}</p>"


def _unfinished(state: StudyState, page: Path) -> Iterator[str]:
    """Trials without a final value, and runs of finished trials that went wrong, with what is known of why."""
    trials = [trial for trial in state.trials if trial.state in ("failed", "pruned") or trial.error]
    if not trials:
        return
    yield "<h3>Failed and pruned</h3>"
    params = [", ".join(f"{key}={show(value)}" for key, value in trial.params.items()) for trial in trials]
    shown = {
        "trial": [str(trial.number) for trial in trials],
        "state": [trial.state for trial in trials],
        "why": [_why(state, trial) for trial in trials],
        "parameters": params,
        "runs": [_links(trial, page) for trial in trials],
    }
    yield table(f"Failed and pruned trials of {state.name}", shown, raw=["runs"])


def _why(state: StudyState, trial: Trial) -> str:
    """Why a trial has no value. A page is passed on, so paths begin below `paths.root` or at `~`."""
    if trial.error is not None:
        text = trial.error
        for place, short in ((state.directory.parent.parent, ""), (Path.home(), "~/")):
            text = text.replace(f"{place}/", short) if place != Path("/") else text
        return text
    if trial.reported is None:
        return "no error was recorded"
    step, value = trial.reported
    return f"after validation {step} with {value:.5g}"


def _differences(state: StudyState, facts: Facts) -> Iterator[str]:
    keys, rows = differences(state, facts)
    if not keys:
        return
    yield "<h3>Where the configurations differ</h3>"
    yield paragraph("Only keys that differ; seeds and folds are left out.", kind="faint")
    shown = {"trial": [str(number) for number, _ in rows]}
    shown |= {key: [_value(values[place]) for _, values in rows] for place, key in enumerate(keys)}
    yield table(f"Configuration keys of {state.name} that differ", shown)


def _value(value: object) -> str:
    return show(value) if not isinstance(value, list | dict) else str(value)
