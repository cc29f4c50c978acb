"""A report as one HTML page that needs no network: tables and interactive pictures, the library that draws them inside.

It holds the same figures as `gatelab study` prints. Where something cannot be shown (runs whose files are gone) that is
said. The page is put in place in one step.
"""

from __future__ import annotations

import html
import os
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.report.facts import Facts, differences, read_facts
from gatelab.report.figures import importance_bars, learning_curves, over_parameter, parallel_coordinates
from gatelab.report.gather import KINDS, Subject
from gatelab.report.record_data import environment_of, shown_command
from gatelab.report.record_page import ran_on
from gatelab.report.samples import sample
from gatelab.report.text import cost, headline
from gatelab.run.record.directory import now
from gatelab.run.record.environment import versions
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import Row, columns, leaderboard, verdict
from gatelab.study.analysis.state import StudyState, Trial, show
from gatelab.study.analysis.statistics import over_what

if TYPE_CHECKING:
    import plotly.graph_objects as go


HERE = Path(__file__).parent


def write_page(
    subjects: Sequence[Subject],
    output: str | Path,
    *,
    notes: Sequence[str] = (),
    samples: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """Write the page.

    Args:
        subjects: what it is about, in its order.
        output: the file; links to run directories are relative to it.
        notes: what could not be read.
        samples: let the best run of each subject forecast or write a little.
        tick: called after each run that was read.

    Returns:
        the file.
    """
    from plotly.offline import get_plotlyjs

    output = Path(output)
    figures = Figures()
    sections = [
        section(place, subject, output, figures, samples=samples, tick=tick)
        for place, subject in enumerate(subjects)
    ]
    title = title_of(subjects)
    page = string.Template((HERE / "page.html").read_text()).substitute(
        title=text(title),
        version=text(versions()["gatelab"]),
        style=(HERE / "page.css").read_text(),
        about=_about(subjects, notes),
        body="\n".join(sections),
        figures=figures.data(),
        plotly=get_plotlyjs(),
        script=(HERE / "page.js").read_text(),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, output)
    return output


def title_of(subjects: Sequence[Subject]) -> str:
    """`Report: size-text, size-series`, of many only the first names."""
    names = [subject.state.name for subject in subjects]
    more = f" and {len(names) - 4} more" if len(names) > 5 else ""
    return f"Report: {', '.join(names[:4] if more else names)}{more}"


def _about(subjects: Sequence[Subject], notes: Sequence[str]) -> str:
    runs = sum(len(trial.runs) for subject in subjects for trial in subject.state.trials)
    kinds = list(dict.fromkeys(KINDS[subject.kind] for subject in subjects))
    said = [
        paragraph(
            f"{runs} run{'s' * (runs != 1)}, from {' and '.join(kinds)}. Written {now()[:16].replace('T', ' ')} UTC.",
            kind="faint",
        )
    ]
    if len(subjects) > 1:
        entries = "".join(
            f'<li><a href="#part-{place}">{text(subject.state.name)}</a></li>'
            for place, subject in enumerate(subjects)
        )
        said.append(f'<nav aria-label="Parts of the report"><ul>{entries}</ul></nav>')
    said += [paragraph(f"Not read: {note}", kind="warn") for note in notes]
    return "\n".join(said)


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
        yield figures.place(found.figure, f"A sample of {state.name}'s best run")
    if found.text is not None:
        yield f'<pre class="text">{text(found.text)}</pre>'
    if found.table is not None:
        rows_of = zip(*found.table.rows, strict=True)
        yield table(found.table.note, dict(zip(found.table.columns, map(list, rows_of), strict=True)))
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


def text(value: object) -> str:
    """A text between tags or inside an attribute."""
    return html.escape(str(value))


def paragraph(*sentences: str, kind: str = "") -> str:
    """One paragraph of what there is to say; nothing without a sentence."""
    said = " ".join(sentence for sentence in sentences if sentence)
    opening = f'<p class="{kind}">' if kind else "<p>"
    return f"{opening}{text(said)}</p>" if said else ""


def link(target: Path, page: Path, shown: str) -> str:
    """A link from the page to a file or folder, relative to the page; the text alone where nothing is there."""
    if not target.exists():
        return text(shown)
    relative = os.path.relpath(target.absolute(), page.absolute().parent)
    return f'<a href="{text(Path(relative).as_posix())}/">{text(shown)}</a>'


def table(
    caption: str,
    columns: Mapping[str, Sequence[str]],
    *,
    marked: Sequence[str] = (),
    sortable: bool = True,
    raw: Sequence[str] = (),
) -> str:
    """A table in a box of its own, which scrolls where the page is narrow.

    Args:
        caption: said to those who do not see it.
        columns: title -> one text a row.
        marked: a class for each row.
        sortable: a click on a title sorts by it.
        raw: titles of columns whose texts are HTML already.
    """
    head = "".join(_title(name, columns[name], sortable) for name in columns)
    rows = []
    for place, cells in enumerate(zip(*columns.values(), strict=True)):
        kind = f' class="{marked[place]}"' if marked and marked[place] else ""
        shown = (
            f'<td class="{_align(columns[name])}">{cell if name in raw else text(cell)}</td>'
            for name, cell in zip(columns, cells, strict=True)
        )
        rows.append(f"<tr{kind}>{''.join(shown)}</tr>")
    box = f'<div class="box" role="region" tabindex="0" aria-label="{text(caption)}">'
    return (
        f"{box}<table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _title(name: str, cells: Sequence[str], sortable: bool) -> str:
    align = _align(cells)
    inner = f'<button type="button">{text(name)}</button>' if sortable else text(name)
    return f'<th scope="col" class="{align}">{inner}</th>'


def _align(cells: Sequence[str]) -> str:
    """Words to the left, numbers to the right."""
    known = [cell for cell in cells if cell]
    return "word" if any(cell[:1].isalpha() or cell[:1] in "<_[('" for cell in known) else "number"


class Figures:
    """The figures of a page: a place in the text for each, and their data behind it."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def place(self, figure: go.Figure, label: str, note: str = "") -> str:
        """The element that the figure is drawn into; `label` is what those hear who do not see it."""
        number = len(self._data)
        self._data.append(figure.to_json().replace("</", "<\\/"))
        meta = figure.layout.meta or {}
        least = f"min-width:{meta['width']}px;" if "width" in meta else ""
        caption = f"<figcaption>{text(note)}</figcaption>" if note else ""
        height = int(figure.layout.height or 420)
        return (
            f'<figure><div class="wide"><div class="plot" id="plot-{number}" data-figure="{number}" role="img" '
            f'aria-label="{text(label)}" style="{least}height:{height}px"></div></div>{caption}</figure>'
        )

    def data(self) -> str:
        """The figures as elements that the page's script reads."""
        return "\n".join(
            f'<script type="application/json" id="figure-{number}">{data}</script>'
            for number, data in enumerate(self._data)
        )
