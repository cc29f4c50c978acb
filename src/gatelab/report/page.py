"""A report as one HTML page that needs no network, as Markdown to paste, or as CSV to compute with.

`templates/` holds the page; every text in it is escaped by jinja2. All show the same figures as `gatelab study` prints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gatelab.data.files import atomic_write_text, csv_text
from gatelab.data.messages import counted
from gatelab.report import final_scores
from gatelab.report.experiment_record import about, environment_of, ran_on, sections, shown_command, table_of
from gatelab.report.figures import (
    draw_curves,
    draw_heat_map,
    draw_series,
    importance_bars,
    learning_curves,
    over_parameter,
    parallel_coordinates,
    samples,
)
from gatelab.report.gather import KINDS, Facts, Subject, differences, read_facts
from gatelab.report.text import cost, headline
from gatelab.run.record.directory import now
from gatelab.run.record.environment import versions
from gatelab.study.analysis import one_at_a_time, otherwise
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import Row, answer, columns, leaderboard, table_of_trials, verdict
from gatelab.study.analysis.state import StudyState, Trial, show
from gatelab.tasks.contract import CurveSample, HeatMap, Sample, SeriesSample, TableSample

if TYPE_CHECKING:
    import plotly.graph_objects as go

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Link:
    """A text that leads to a file or folder; `href` is None where nothing is there."""

    text: str
    href: str | None


Cell = str | list[Link]


def write_page(
    subjects: Sequence[Subject],
    output: str | Path,
    *,
    notes: Sequence[str] = (),
    samples: bool = True,
    trust: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """Write the page; it is replaced in one step.

    Args:
        subjects: the parts of the report, in its order.
        output: the file; links to run directories are relative to it.
        notes: what could not be read.
        samples: let the best run of each subject show a sample.
        trust: accept, for the samples, targets that are not part of Gatelab.
        tick: called after each run that was read.

    Returns:
        the file.
    """
    return render(
        "page.html.j2",
        Path(output),
        title=title_of(subjects),
        about=_about(subjects),
        notes=notes,
        sections=[
            section(subject, Path(output), samples=samples, trust=trust, tick=tick) for subject in subjects
        ],
    )


def render(template: str, output: Path, **values: Any) -> Path:
    """Fill in a template of a page and write it, in one step; the values are the template's own."""
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template(template).render(
        **values, version=versions()["gatelab"], plotly=Markup(get_plotlyjs())
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(output, page.encode("utf-8", "backslashreplace").decode())  # names may be no text
    return output


def title_of(subjects: Sequence[Subject]) -> str:
    """`Report: size-text, size-series`, of many only the first names."""
    names = [subject.state.name for subject in subjects]
    more = f" and {len(names) - 4} more" if len(names) > 5 else ""
    return f"Report: {', '.join(names[:4] if more else names)}{more}"


def _about(subjects: Sequence[Subject]) -> str:
    runs = sum(len(trial.runs) for subject in subjects for trial in subject.state.trials)
    kinds = dict.fromkeys(KINDS[subject.kind] for subject in subjects)
    return f"{counted(runs, 'run')}, from {' and '.join(kinds)}. Written {now()[:16].replace('T', ' ')} UTC."


def place(figure: go.Figure, label: str, note: str = "") -> dict[str, Any]:
    """The values of the template's `figure`; `label` is what a screen reader says."""
    from markupsafe import Markup

    compact = json.dumps(_as_text(json.loads(figure.to_json())), separators=(",", ":"))
    return {
        "data": Markup(compact.replace("</", "<\\/")),
        "label": label,
        "note": note,
        "height": int(figure.layout.height or 420),
        "width": (figure.layout.meta or {}).get("width"),
    }


def _as_text(value: Any, key: str = "") -> Any:
    """A figure whose names and labels are shown as they are: Plotly takes `<b>` or a link in one for markup.

    Line breaks stay, and the templates of what is shown beside the pointer, which hold no names.
    """
    if isinstance(value, dict):
        return {name: _as_text(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner, key) for inner in value]
    if not isinstance(value, str) or key == "hovertemplate":
        return value
    return value.replace("&", "&amp;").replace("<", "&lt;").replace("&lt;br>", "<br>")


def section(
    subject: Subject, page: Path, *, samples: bool, trust: bool, tick: Callable[[], None]
) -> dict[str, Any]:
    """The values of one part of the template."""
    state = one_at_a_time.by_change(subject.state)
    facts = read_facts(state, tick)
    rows = leaderboard(state)
    shares = importance(state) if len(state.done) > 1 else None
    bars = importance_bars(state, shares) if shares else None
    different = differences(state, facts)
    return {
        "name": state.name,
        "headline": f"{answer(state, rows)} {headline(state)}.".strip(),
        "command": shown_command(state.command) if state.command else "",
        "entries": [(name, value) for name, value in _entries(subject, facts) if value],
        "gone": not facts and any(trial.runs for trial in state.trials),
        "about": [about(state), verdict(state, rows)],
        "ranking": _ranking(state, rows, facts, page) if rows else None,
        "effects": _effects(state),
        "otherwise": _otherwise(state.name, rows),
        "on_test": _on_test(state),
        "figures": list(_pictures(state, rows, facts)) if rows else [],
        "importance_bars": bars and place(bars, "Importance of the parameters"),
        "importance": " ".join(shares.notes) if shares else "",
        "sample": _sample(state.name, rows, page, trust) if rows and samples and facts else None,
        "unfinished": _unfinished(state, page),
        "differences": different and table(f"Configuration keys of {state.name} that differ", different),
    }


def _sample(name: str, rows: Sequence[Row], page: Path, trust: bool) -> dict[str, Any]:
    note, run, shown = samples(rows, trust=trust)
    parts = [_shown(name, one) for one in shown]
    return {"note": note, "run": run and link(run, page, run.name), "parts": parts}


def _shown(name: str, shown: Sample) -> dict[str, Any]:
    """The values of one sample: its note, and a figure, a text or a table."""
    found: dict[str, Any] = dict.fromkeys(("figure", "text", "table")) | {"note": shown.note}
    if isinstance(shown, SeriesSample):
        found["figure"] = place(draw_series(shown), f"Sample of {name}'s best run")
    elif isinstance(shown, CurveSample):
        found["figure"] = place(draw_curves(shown), f"{shown.label} by {shown.steps} of {name}'s best run")
    elif isinstance(shown, HeatMap):
        found["figure"] = place(draw_heat_map(shown), shown.note)
    elif isinstance(shown, TableSample):
        cells = map(list, zip(*shown.rows, strict=True))
        found["table"] = table(shown.note, dict(zip(shown.columns, cells, strict=True)))
    else:
        found["text"] = shown.text
    return found


def link(target: Path, page: Path, text: str) -> Link:
    """A link relative to the page, as the address of a folder: every other character than a letter is quoted."""
    if not target.exists():
        return Link(text, None)
    relative = Path(os.path.relpath(target.absolute(), page.absolute().parent))
    return Link(text, f"./{quote(os.fsencode(relative.as_posix()))}/")


def table(caption: str, shown: Mapping[str, Sequence[Cell]], marked: Sequence[str] = ()) -> dict[str, Any]:
    """The values of the template's `table`.

    Args:
        caption: what a screen reader says.
        shown: title -> a text, or links, for each row.
        marked: a class for each row.
    """
    align = {title: _align(cells) for title, cells in shown.items()}
    rows = [list(zip(align.values(), cells, strict=True)) for cells in zip(*shown.values(), strict=True)]
    return {
        "caption": caption,
        "titles": list(align.items()),
        "rows": list(zip(marked or [""] * len(rows), rows, strict=True)),
    }


def _align(cells: Sequence[Cell]) -> str:
    """Words to the left, numbers to the right."""
    words = any(
        not isinstance(cell, str) or cell[:1].isalpha() or cell[:1] in tuple("<_[('")
        for cell in cells
        if cell
    )
    return "word" if words else "number"


def _entries(subject: Subject, facts: Facts) -> Iterator[tuple[str, str]]:
    state = subject.state
    yield "begun", state.created[:16].replace("T", " ")
    yield "cost", cost(state)
    noted = [environment_of(found.environment) for found in facts.values()]
    known = list(
        dict.fromkeys(ran_on(one) for one in ([subject.environment] if subject.environment else noted))
    )
    for environment in known[:3]:
        yield "ran on", environment
    if len(known) > 3:
        yield "", f"and {len(known) - 3} other environments"


def _ranking(state: StudyState, rows: Sequence[Row], facts: Facts, page: Path) -> dict[str, Any]:
    """The leaderboard; rank, value and parameters first: on a phone the first columns are all that is seen."""
    found: dict[str, Sequence[Cell]] = dict(columns(state, list(rows)))
    late = {"trial", "sd", "n", "parameters", "seconds"} - {objective.name for objective in state.objectives}
    shown = {title or "rank": found[title] for title in sorted(found, key=lambda title: title in late)}
    trials = [row.trial for row in rows]
    steps = [_steps(trial, facts) for trial in trials]
    shown |= {"steps": steps} if any(steps) else {}
    for name in sorted({name for known in facts.values() for name in known.memory}):
        most = [_most(trial, facts, name) for trial in trials]
        shown |= {f"{name} MiB": most} if any(most) else {}
    shown["runs"] = [_links(trial, page) for trial in trials]
    marked = ["best" if row.front else "" if row.same or row.p is None else "worse" for row in rows]
    return table(f"Leaderboard of {state.name}", shown, marked)


def _effects(state: StudyState) -> dict[str, Any] | None:
    """What each change of the base does."""
    if not (found := one_at_a_time.effects(state)):
        return None
    cells: dict[str, Sequence[Cell]] = dict(one_at_a_time.columns(state, found))
    marked = ["" if effect.told else "worse" for effect in found]
    return {"mark": one_at_a_time.MARK, "table": table(f"Changes of {state.name}", cells, marked)}


def _otherwise(name: str, rows: Sequence[Row]) -> dict[str, Any] | None:
    """The trials scored otherwise, with a sentence for each method."""
    found = otherwise.scored_otherwise(rows)
    if not found:
        return None
    shown: dict[str, Sequence[Cell]] = dict(otherwise.columns(found))
    return {
        "mark": otherwise.MARK,
        "table": table(f"Trials of {name} scored otherwise", shown),
        "sentences": otherwise.sentences(found),
    }


def _on_test(state: StudyState) -> dict[str, Any] | None:
    """What was scored on the test split."""
    cells: dict[str, Sequence[Cell]] = dict(final_scores.columns(state))
    if not cells:
        return None
    return {"mark": final_scores.MARK, "table": table(f"Trials of {state.name} on the test split", cells)}


def _steps(trial: Trial, facts: Facts) -> str:
    """Optimiser steps of a run; `400 to 600` where a trial's runs differ."""
    known = {facts[run.directory].steps if run.directory in facts else run.steps for run in trial.runs}
    steps = sorted(step for step in known if step is not None)
    return "" if not steps else f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"


def _most(trial: Trial, facts: Facts, name: str) -> str:
    """Peak memory of the trial's runs; empty where it was not logged."""
    known = [facts[run.directory].memory.get(name) for run in trial.runs if run.directory in facts]
    most = max((value for value in known if value is not None), default=None)
    return "" if most is None else f"{most:,.0f}"


def _links(trial: Trial, page: Path) -> list[Link]:
    """A link to each run directory, named by its seed and fold."""
    folds = ["" if run.fold is None else f"f{run.fold}-" for run in trial.runs]
    return [link(run.directory, page, f"{f}s{run.seed}") for run, f in zip(trial.runs, folds, strict=True)]


def _pictures(state: StudyState, rows: Sequence[Row], facts: Facts) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and figure, in the order of the page."""
    first = state.objectives[0]
    for axis, note, figure in over_parameter(state):
        label = f"{first.name} over {axis}, one line for each choice; the figures stand in the leaderboard"
        yield f"{first.name} over {axis}", place(figure, label, note)
    for title, label, found in (
        (
            "Learning curves",
            f"{first.metric} and training loss over the steps",
            learning_curves(state, rows, facts),
        ),
        (
            "All parameters at once",
            "Parallel coordinates: one line a finished trial",
            parallel_coordinates(state),
        ),
    ):
        if found is not None:
            yield title, place(found[1], label, found[0])


def _unfinished(state: StudyState, page: Path) -> dict[str, Any] | None:
    """Trials without a final value, and runs of finished trials that failed, with their reasons."""
    trials = [trial for trial in state.trials if trial.state in ("failed", "pruned") or trial.error]
    if not trials:
        return None
    params = [", ".join(f"{key}={show(value)}" for key, value in trial.params.items()) for trial in trials]
    shown: dict[str, Sequence[Cell]] = {
        "trial": [str(trial.number) for trial in trials],
        "state": [trial.state for trial in trials],
        "why": [_why(state, trial) for trial in trials],
        "parameters": params,
        "runs": [_links(trial, page) for trial in trials],
    }
    return table(f"Failed and pruned trials of {state.name}", shown)


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


def to_markdown(subjects: Sequence[Subject], title: str, notes: Sequence[str] = ()) -> str:
    """Headline, leaderboard, verdict, importance and cost of each subject."""
    states = [one_at_a_time.by_change(subject.state) for subject in subjects]
    blocks = [f"# {title}"]
    for state in states:
        blocks += [f"## {state.name}", f"{answer(state, leaderboard(state))} {headline(state)}.".strip()]
        if state.command:
            blocks.append(f"```bash\n{shown_command(state.command)}\n```")
        if state.done:
            blocks += sections(state)
        if cells := final_scores.columns(state):
            blocks += [final_scores.MARK, table_of(cells)]
    return "\n\n".join([*blocks, *(f"Not read: {note}" for note in notes)]) + "\n"


def to_table(subjects: Sequence[Subject]) -> str:
    """`leaderboard.csv` of every subject, one below the other, with a column `study` in front."""
    tables = [(each.state.name, *table_of_trials(each.state, leaderboard(each.state))) for each in subjects]
    rows = [{"study": name, **row} for name, _, own in tables for row in own]
    last = ("solved_size", "parameters", "seconds", "runs", "error")
    columns = dict.fromkeys(key for _, header, _ in tables for key in header if key not in last)
    return csv_text(["study", *columns, *last], rows)
