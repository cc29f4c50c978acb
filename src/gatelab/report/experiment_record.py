"""The record of some studies below `experiments/`: written once from the studies, checked without them for ever after.

`experiments/NNN-slug/` holds results.csv (a row for each run), record.json (what was asked: title, question, commands,
settings, parameters, baselines, what the runs ran on), figure.png and README.md. The page is made from the first two,
but for the conclusion, which a person writes between its two marker comments. No path of a machine is in any of them.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gatelab.data.files import atomic_write_text, csv_text, write_json
from gatelab.data.messages import counted
from gatelab.report import final_scores
from gatelab.report.curves import baselines, choose_by, choose_x, named
from gatelab.report.picture import write_picture
from gatelab.run import RequestError
from gatelab.study.analysis import one_at_a_time, otherwise
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import answer, columns, leaderboard, verdict
from gatelab.study.analysis.read import read_study
from gatelab.study.analysis.state import Objective, Run, StudyState, Trial, duration, short_names, show
from gatelab.study.analysis.statistics import over_what
from gatelab.study.settings import ONE_AT_A_TIME

NAME = re.compile(r"(\d{3})-([a-z0-9]+(?:-[a-z0-9]+)*)")
MARKERS = ("<!-- conclusion: written by hand -->", "<!-- end of the conclusion -->")
SETTINGS = (
    "strategy",
    "seeds",
    "folds",
    "budget",
    "pruner",
    "n_trials",
    "workers",
    "slots",
    "threads",
    "seed",
)
COLUMNS = ("study", "trial", "state", "seed", "fold")
LAST = ("solved_size", "parameters", "seconds", "steps", "run", "error")
PLACES = ("paths.", "data.mirror=", "data.cache=", "launcher", "hydra.")
LONG, SHORT = 40, 30  # rows of a table
PIPE = r"\|"  # in a cell, where a plain one would end it


def record_target(given: str | Path) -> Path:
    """The folder of a record: `given`, or for a slug without a number that of the slug, if there is one, or the next.

    A name alone (`hidden-size`, `002-hidden-size`) means one in `experiments/`.

    Raises:
        RequestError: a name that cannot be a record's.
    """
    path = Path(given)
    folder = Path("experiments") if path.parent == Path() else path.parent
    if NAME.fullmatch(path.name):
        return folder / path.name
    if not NAME.fullmatch(f"000-{path.name}"):
        raise RequestError(f"{given}: a record is called NNN-slug or slug, e.g. hidden-size.")
    known = {match[2]: int(match[1]) for there in folder.glob("*") if (match := NAME.fullmatch(there.name))}
    return folder / f"{known.get(path.name, max(known.values(), default=0) + 1):03d}-{path.name}"


def write_record(
    studies: Sequence[str | Path],
    target: Path,
    question: str | None = None,
    conclusion: str | None = None,
    *,
    trust: bool = False,
) -> list[Path]:
    """Write the record of finished studies and return its files.

    Args:
        studies: their folders, in the order of the page.
        target: `experiments/NNN-slug`.
        question, conclusion: Markdown; without them those of the record that is there are kept.
        trust: open the storages that the studies name.

    Raises:
        RequestError: no studies, two of one name, or one that is not finished.
    """
    states = [read_study(study, trust=trust) for study in studies]
    names = [state.name for state in states]
    if not states or len(set(names)) < len(names):
        raise RequestError(f"{target}: give studies of different names, got {', '.join(names) or 'none'}.")
    for state in states:
        if state.state != "finished" or not state.done:
            why = f"is {state.state}" if state.done else "has no finished trial"
            raise RequestError(f"{state.directory}: the study {why}; a record is of finished ones.")
    before = read_record(target) if (target / "record.json").is_file() else {}
    asked = "; ".join(map(_question, states))
    found = {
        "format": 2,
        "title": before.get("title") or target.name.replace("-", ": ", 1).replace("-", " "),
        "question": question or before.get("question") or f"{asked}?",
        "studies": [_asked(state) for state in states],
    }
    text = (
        conclusion
        or _conclusion(target)
        or "\n\n".join(f"{state.name}: {_first_conclusion(state)}" for state in states)
    )
    atomic_write_text(target / "results.csv", _results(states))
    write_json(target / "record.json", found)
    return render(target, text)


def _question(state: StudyState) -> str:
    metrics = " and ".join(objective.metric for objective in state.objectives)
    if state.settings.get("strategy") == ONE_AT_A_TIME:
        return f"{state.name}: what does each change of the base do to {metrics}".replace("_", " ")
    names = " and ".join(short_names(state.keys).values()) or "configuration"
    return f"{state.name}: which {names} for the best {metrics}".replace("_", " ")


def _first_conclusion(state: StudyState) -> str:
    """Until a person writes one: of one change at a time what the changes do, else which trials are as good."""
    rows, by_change = leaderboard(state), state.settings.get("strategy") == ONE_AT_A_TIME
    return (answer(state, rows) if by_change else "") or verdict(state, rows)


def render(record: Path, conclusion: str | None = None) -> list[Path]:
    """Make README.md and figure.png of a record from its other files; the conclusion is kept, unless it is given.

    Raises:
        RequestError: a file that is missing or cannot be read.
    """
    page = _page(record, _conclusion(record) if conclusion is None else conclusion)
    atomic_write_text(record / "README.md", page)
    write_picture(unpack(record), record / "figure.png", note=_fingerprint(record))
    return sorted(path for path in record.iterdir() if path.is_file())


def check_record(record: Path) -> list[str]:
    """What does not hold about a record, one sentence each; empty if all is well. Writes nothing."""
    names = ("README.md", "results.csv", "record.json", "figure.png")
    if missing := [f"{name}: missing" for name in names if not (record / name).is_file()]:
        return missing
    try:
        page, states = _page(record, _conclusion(record)), unpack(record)
    except RequestError as error:
        return [str(error)]
    problems = []
    for state in states:
        wanted = max(1, len(state.settings.get("seeds") or [])) * int(state.settings.get("folds") or 1)
        short = [t.number for t in state.trials if t.state == "done" and len(t.runs) != wanted]
        problems += [
            f"results.csv: {state.name}, trial {n} is done without its {wanted} runs" for n in short[:1]
        ]
    there, made = (record / "README.md").read_text().splitlines(), page.splitlines()
    differing = (n for n in range(max(len(there), len(made))) if there[n : n + 1] != made[n : n + 1])
    if (n := next(differing, None)) is not None:
        problems.append(
            f"README.md, line {n + 1}: says {there[n : n + 1]}, and the data say {made[n : n + 1]}"
        )
    if _note_of(record / "figure.png") != _fingerprint(record):
        problems.append("figure.png: was drawn from other data")
    return problems


def read_record(folder: Path) -> dict[str, Any]:
    """The content of record.json.

    Raises:
        RequestError: it is missing or not a JSON object.
    """
    return _json(folder / "record.json")


def unpack(folder: Path) -> list[StudyState]:
    """The studies of a record.

    Raises:
        RequestError: a file is missing or damaged; it is named.
    """
    try:
        rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
        return [_state(folder, asked, rows) for asked in read_record(folder)["studies"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{folder}: results.csv or record.json is damaged ({type(error).__name__}: {error})."
        ) from None


def _results(states: Sequence[StudyState]) -> str:
    keys = list(dict.fromkeys(key for state in states for key in state.keys))
    values = ["value", *(f"value_{n}" for n in range(2, 1 + max(len(state.objectives) for state in states)))]
    rows: list[dict[str, Any]] = []
    for state in states:
        for trial in state.trials:
            row: dict[str, Any] = {"study": state.name, "trial": trial.number, "state": trial.state}
            row |= {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in trial.params.items()
            }
            row |= {f"value_{n}": value for n, value in enumerate(trial.values[1:], 2)}
            row |= {"solved_size": trial.hidden, "error": without_paths(trial.error or "")}
            finished = [run for run in trial.runs if run.value is not None]
            if not finished:
                rows.append({**row, "parameters": trial.parameters, "seconds": trial.seconds})
            rows += [{**row, **_run(run)} for run in finished]
    of_test = dict.fromkeys(key for row in rows for key in row if key.startswith(final_scores.PREFIX))
    return csv_text([*COLUMNS, *keys, *values, *LAST, *of_test], rows)


def _run(run: Run) -> dict[str, Any]:
    result = _json(run.directory / "result.json")
    found = {
        "parameters": result["parameters"],
        "seconds": result["seconds"]["fit"],
        "steps": result.get("steps"),
    }
    where = "/".join(run.directory.parts[-2:])
    found |= {"seed": run.seed, "fold": run.fold, "value": run.value, "run": where}
    return found | final_scores.scores(run.directory, result)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read ({error}).") from None


def _asked(state: StudyState) -> dict[str, Any]:
    first = next(run for trial in state.done for run in trial.runs)
    environment: dict[str, Any] = {}
    with contextlib.suppress(RequestError, KeyError, IndexError):  # of a run that noted none
        environment = environment_of(_json(first.directory / "run.json")["attempts"][-1]["environment"])
    return {
        "name": state.name,
        "command": shown_command(state.command),
        "settings": {key: state.settings.get(key) for key in SETTINGS},
        "objectives": [vars(objective) for objective in state.objectives],
        "space": [dict(entry) for entry in state.space],
        "baselines": baselines(state),
        "test_baselines": final_scores.baselines(state),
        "environment": environment,
    }


def _state(folder: Path, asked: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> StudyState:
    trials: dict[int, list[Trial]] = {}
    space = {str(entry["key"]): entry for entry in asked["space"]}
    for row in rows:
        if row["study"] == asked["name"]:
            trials.setdefault(int(row["trial"]), []).append(_trial(row, space))
    return StudyState(
        directory=folder.absolute(),
        name=asked["name"],
        settings=asked["settings"],
        overrides=(),
        space=tuple(asked["space"]),
        objectives=tuple(Objective(**objective) for objective in asked["objectives"]),
        trials=tuple(joined(number, parts) for number, parts in sorted(trials.items())),
        command=asked["command"],
        baselines=asked["baselines"],
    )


def _trial(row: Mapping[str, str], space: Mapping[str, Mapping[str, Any]]) -> Trial:
    """A row as a trial with one run; with none where the trial has no finished run."""
    whole = lambda text: int(float(text)) if text else None  # noqa: E731
    of_values = [key for key in row if re.fullmatch(r"value(_\d+)?", key)]
    known_columns = (*COLUMNS, *LAST, *of_values)
    keys = [k for k in row if k not in known_columns and not k.startswith(final_scores.PREFIX) and row[k]]
    known = {key: _distribution(row[key], space.get(key)) for key in keys}
    values = tuple(float(row[key]) for key in of_values if row[key])
    runs: list[Run] = []
    if row["value"]:
        replicate = whole(row["seed"]), whole(row["fold"])
        runs.append(Run(Path(row["run"]), values[0], *replicate, whole(row.get("steps"))))
    return Trial(
        number=int(row["trial"]),
        state=row["state"],
        params={key: value for key, (value, _) in known.items()},
        values=values if row["state"] == "done" else (),
        runs=tuple(runs),
        seconds=float(row["seconds"]) if row["seconds"] else None,
        parameters=whole(row["parameters"]),
        hidden=whole(row["solved_size"]),
        error=row["error"] or None,
        distributions={key: distribution for key, (_, distribution) in known.items()},
    )


def joined(number: int, parts: Sequence[Trial]) -> Trial:
    """One trial of several, one a run: the mean of their values and the seconds of all; else the first one's facts."""
    states, seconds = {part.state for part in parts}, [p.seconds for p in parts if p.seconds is not None]
    values = [part.values for part in parts if part.values]
    return replace(
        parts[0],
        number=number,
        state=states.pop() if len(states) == 1 else "done" if values else "failed",
        values=(fmean(value[0] for value in values), *values[0][1:]) if values else (),
        runs=tuple(run for part in parts for run in part.runs),
        seconds=round(sum(seconds), 2) if seconds else None,
        parameters=next((part.parameters for part in parts if part.parameters is not None), None),
        error="; ".join(dict.fromkeys(part.error for part in parts if part.error)) or None,
    )


def _distribution(text: str, entry: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """The value that a cell holds, and Optuna's distribution of its parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    choices = [json.dumps(c) if isinstance(c, list | dict) else c for c in (entry or {}).get("choices") or ()]
    for choice in choices:
        if text == (choice if isinstance(choice, str) else json.dumps(choice)):
            return choice, CategoricalDistribution(choices)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if entry is None or choices:  # a parameter of a space function
        return value, CategoricalDistribution([*choices, value])
    kind = IntDistribution if entry["kind"] == "int" else FloatDistribution
    return value, kind(entry["low"], entry["high"], log=bool(entry.get("log")))


def _page(record: Path, conclusion: str) -> str:
    asked, states = read_record(record), [one_at_a_time.by_change(state) for state in unpack(record)]
    commands = "\n".join(state.command for state in states)
    what = " and ".join(f"{state.objectives[0].name} of {state.name}" for state in states)
    over = choose_x(states[0]).rpartition(".")[2].replace("_", " ")
    blocks = [
        f"# {asked['title']}",
        f"**Question.** {asked['question']}",
        f"**Command.**\n\n```bash\n{commands}\n```",
        "`results.csv` has one row a run and `record.json` what was asked; `figure.png` and all of this page but the\n"
        "conclusion are made from them. `python -m scripts.checks.experiments` makes it again and compares.",
        f"## Result\n\n![{what} over {over}](figure.png)",
    ]
    results = list(csv.DictReader((record / "results.csv").read_text().splitlines()))
    for state, study in zip(states, asked["studies"], strict=True):
        mine = [row for row in results if row["study"] == state.name]
        blocks += [f"### {state.name}"] * (len(states) > 1) + sections(state)
        if cells := final_scores.section(state, mine, study.get("test_baselines", {})):
            blocks += [final_scores.MARK, table_of(cells)]
    environments = dict.fromkeys(ran_on(study["environment"]) for study in asked["studies"])
    blocks += [
        "## Conclusion",
        MARKERS[0],
        conclusion,
        MARKERS[1],
        f"**Versions.** {'; '.join(environments)}",
    ]
    return "\n\n".join(blocks) + "\n"


def _conclusion(record: Path) -> str:
    """What stands between the markers of the page; nothing if there is no page yet."""
    if not (record / "README.md").is_file():
        return ""
    found = re.search("(.*)".join(map(re.escape, MARKERS)), (record / "README.md").read_text(), re.S)
    if found is None:
        raise RequestError(
            f"{record / 'README.md'}: the conclusion must stand between '{MARKERS[0]}' and '{MARKERS[1]}'."
        )
    return found[1].strip()


def about(state: StudyState) -> str:
    """The metric, what its mean is taken over, and the trivial models' values."""
    metric = state.objectives[0]
    better = "lower" if metric.sign > 0 else "higher"
    known = ", ".join(named(state.baselines or {}))
    return f"{metric.metric} ({better} is better): {over_what(state)}." + (
        f" Trivial models on the same positions: {known}." if known else ""
    )


def sections(state: StudyState) -> list[str]:
    """A study in Markdown: metric and baselines, leaderboard, verdict, what each parameter or change does, cost."""
    state = one_at_a_time.by_change(state)
    metric, rows = state.objectives[0].metric, leaderboard(state)
    most = len(rows) if len(rows) <= LONG else SHORT
    cells = columns(state, rows)
    blocks = [
        about(state).replace(metric, f"`{metric}`", 1),
        table_of({title: texts[:most] for title, texts in cells.items()}),
    ]
    blocks += [f"The other {len(rows) - most} are in `results.csv`."] * (most < len(rows))
    for name in ("pruned", "failed"):
        trials = [trial for trial in state.trials if trial.state == name]
        texts = [f"{t.number}{f' ({t.error})' if t.error else ''}" for t in trials]
        blocks += [f"{name.capitalize()}: trial {', '.join(texts)}."] if texts else []
    marked = otherwise.scored_otherwise(rows)
    if marked:
        cells = otherwise.columns(marked)
        blocks += [
            "Scored otherwise. " + otherwise.MARK,
            table_of(cells),
        ]
        blocks += otherwise.sentences(marked)
    if effects := one_at_a_time.effects(state):
        cells = one_at_a_time.columns(state, effects)
        blocks += [one_at_a_time.MARK, table_of(cells)]
        blocks += [one_at_a_time.sentence(state, effects)]
    found, names = importance(state), short_names(state.keys)
    shares = [(names.get(share.key, share.key), f"{share.share:.1%}") for share in found.shares]
    blocks += [verdict(state, rows), *([table(["importance", "share"], shares)] if shares else [])]
    return [*blocks, *filter(None, [" ".join(found.notes)]), *_cost(state)]


def _cost(state: StudyState) -> list[str]:
    by = choose_by(state, choose_x(state))
    groups: dict[str, list[Trial]] = {}
    for trial in state.trials:
        groups.setdefault(show(trial.params.get(by, "none")) if by else "all", []).append(trial)
    if len(groups) > 1:
        groups["all"] = list(state.trials)
    lines = []
    for name, trials in groups.items():
        runs = sum(run.value is not None for trial in trials for run in trial.runs)
        seconds = sum(trial.seconds or 0.0 for trial in trials)
        sizes = sorted({trial.parameters for trial in trials if trial.parameters is not None})
        span = " to ".join(dict.fromkeys(f"{size:,}" for size in (*sizes[:1], *sizes[-1:])))
        lines.append((name, str(runs), duration(seconds), f"{seconds / runs:,.1f} s" if runs else "", span))
    titles = [short_names(state.keys)[by] if by else "", "runs", "training", "a run", "parameters"]
    return ["What it cost (seconds of training, test and validation not counted):", table(titles, lines)]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head, *lines = (
        f"| {' | '.join(cell.replace('|', PIPE) for cell in cells)} |" for cells in (titles, *rows)
    )
    return "\n".join([head, "|" + "---|" * len(titles), *lines])


def table_of(cells: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table of columns: title -> one text a row."""
    return table(list(cells), [*zip(*cells.values(), strict=True)])


def environment_of(noted: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of the environment that a run noted: versions, processor, threads, revision."""
    git = noted.get("git") or {}
    kept = {key: noted.get(key) for key in ("python", "versions", "cpu", "cpu_capability", "gpus", "threads")}
    return {**kept, "revision": git.get("revision"), "changed": bool(git.get("diff"))}


def ran_on(environment: Mapping[str, Any]) -> str:
    """The environment of `environment_of` in words."""
    versions = environment.get("versions") or {}
    known = [f"{n} {versions[n]}" for n in ("gatelab", "torch", "pytorch-lightning") if n in versions]
    known += [f"Python {environment['python']}"] if environment.get("python") else []
    known += [str(environment[key]) for key in ("cpu", "cpu_capability") if environment.get(key)]
    known += [str(gpu) for gpu in environment.get("gpus") or []]
    known += [f"{counted(environment['threads'], 'thread')} a run"] if environment.get("threads") else []
    if environment.get("revision"):
        changed = " with uncommitted changes" if environment.get("changed") else ""
        known.append(f"commit {environment['revision'][:12]}{changed}")
    return ", ".join(known) + "." if known else "Not recorded."


def shown_command(command: str) -> str:
    """A command that others can type: without the places of this machine, and by the program's plain name."""
    first, *words = shlex.split(command) or ["gatelab"]
    kept = [without_paths(word) for word in words if not word.startswith(PLACES)]
    if Path(first).name == "__main__.py":  # python -m gatelab
        first = "gatelab"
    return shlex.join([*(["python", first] if first.endswith(".py") else [Path(first).name]), *kept])


def without_paths(text: str) -> str:
    """Absolute paths cut down to their last part."""
    return re.sub(r"(?<![\w.:/])/(?:[\w.@+-]+/)+([\w.@+-]+)", r"\1", text)


def _fingerprint(record: Path) -> str:
    return hashlib.sha256(
        (record / "results.csv").read_bytes() + (record / "record.json").read_bytes()
    ).hexdigest()


def _note_of(figure: Path) -> str | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(figure) as image:
            return str(image.info.get("Description"))
    except (UnidentifiedImageError, OSError):
        return None
