"""Render a study as text (headline, leaderboard, importance, cost, failures), as JSON, and as files in its folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.data.files import atomic_write_text, write_json
from gatelab.data.messages import counted
from gatelab.report.picture import write_picture
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import Row, leaderboard, table, to_csv, verdict
from gatelab.study.analysis.read import read_study
from gatelab.study.analysis.state import StudyState, Trial, duration, short_names
from gatelab.study.analysis.statistics import over_what

if TYPE_CHECKING:
    from rich.table import Table


BAR = 24


def render(state: StudyState, *, limit: int | None = 20) -> Iterator[str | Table]:
    """The parts to print, in their order: headline, cost, leaderboard, verdict, importance, failures."""
    rows = leaderboard(state)
    yield headline(state)
    if rows:
        yield cost(state)
        yield f"{', '.join(o.metric for o in state.objectives)}: {over_what(state)}"
        yield table(state, rows, limit)
        yield verdict(state, rows)
        yield from _importance(state)
    yield from failures(state)


def headline(state: StudyState, *, starting: bool = False) -> str:
    """`hidden: running, 12 of 25 trials done, 2 running, 11 waiting, about 3 min 20 s left`.

    Args:
        starting: a study without a living worker is about to have one.
    """
    counts, parts = state.counts, []
    stopped = state.state == "stopped" and not starting
    for name in ("running", "pruned", "failed", "waiting"):
        cut_off = name == "running" and stopped
        if counts[name]:
            parts.append(f"{counts[name]} {'cut off' if cut_off else name}")
    left = state.seconds_left
    if left:
        parts.append(f"about {duration(left)} left")
    if stopped:
        limit = state.settings.get("max_failures")
        full = limit is not None and counts["failed"] >= int(limit)
        reason = (
            f"study.max_failures={limit} is reached: a larger one"
            if full
            else "no worker is alive: the same sweep command"
        )
        parts.append(f"{reason} continues it")
    word = "starting" if starting and state.state == "stopped" else state.state
    return ", ".join([f"{state.name}: {word}, {counts['done']} of {len(state.trials)} trials done", *parts])


def cost(state: StudyState) -> str:
    """`47 min 10 s of training, 75 finished runs, 2 slots 97% busy`; empty before anything is finished."""
    seconds = sum(trial.seconds or 0.0 for trial in state.trials)
    runs = sum(run.value is not None for trial in state.trials for run in trial.runs)
    busy = state.utilisation
    if not runs or busy is None:
        return ""
    done, slots = counted(runs, "finished run"), counted(state.slots, "slot")
    return f"{duration(seconds)} of training, {done}, {slots} {busy:.0%} busy"


def _importance(state: StudyState) -> Iterator[str | Table]:
    from rich.table import Table

    found, names = importance(state), short_names(state.keys)
    if found.shares:
        grid = Table("parameter", "importance", "")
        grid.columns[1].justify = "right"
        for share in found.shares:
            some = f" (in {share.trials} of {found.trials} trials)" if share.trials < found.trials else ""
            grid.add_row(names[share.key] + some, f"{share.share:.1%}", "█" * round(BAR * share.share))
        yield grid
    yield " ".join(found.notes)


def failures(state: StudyState, most: int = 5) -> Iterator[str]:
    """The failed trials with their errors, and where their logs are."""
    failed = [trial for trial in state.trials if trial.state == "failed"]
    if failed:
        yield f"\nfailed (logs: {state.directory / 'trials'}/NUMBER/)"
    for trial in failed[:most]:
        yield f"  trial {trial.number}: {trial.error or 'no error was recorded'}"
    if len(failed) > most:
        yield f"  and {len(failed) - most} more"


def summary(state: StudyState) -> dict[str, Any]:
    """Everything about a study, as plain JSON data (no NaN, no infinity: null instead).

    Returns:
        `name`, `state`, `counts`, `best` (a trial, or null), `pareto` (numbers), `trials` (each: `number`, `state`,
        `params`, `value`, `values`, `run_dir` of its first run, `runs`, `rank`, `mean`, `sd`, `low`, `high`, `n`,
        `p_against_best`, `seconds`, `parameters`, `error`, ...), `importance`, `verdict` and how it was run.
    """
    rows = {row.trial.number: row for row in leaderboard(state)}
    shares = importance(state)
    best = state.best
    document = {
        "name": state.name,
        "directory": str(state.directory),
        "state": state.state,
        "created": state.created,
        "command": state.command,
        "objectives": [vars(objective) for objective in state.objectives],
        "counts": state.counts,
        "best": _trial(state, best, rows.get(best.number)) if best else None,
        "pareto": [trial.number for trial in state.pareto],
        "verdict": verdict(state, list(rows.values())),
        "statistics": over_what(state),
        "importance": {
            "shares": [vars(share) for share in shares.shares],
            "trials": shares.trials,
            "notes": list(shares.notes),
        },
        "slots": state.slots,
        "workers_alive": len(state.workers),
        "seconds_left": state.seconds_left,
        "utilisation": state.utilisation,
        "settings": dict(state.settings),
        "overrides": list(state.overrides),
        "versions": dict(state.versions),
        "trials": [_trial(state, trial, rows.get(trial.number)) for trial in state.trials],
    }
    return {key: plain(value) for key, value in document.items()}


def _trial(state: StudyState, trial: Trial, row: Row | None) -> dict[str, Any]:
    runs = [
        {"run_dir": str(run.directory), "seed": run.seed, "fold": run.fold, "value": run.value}
        for run in trial.runs
    ]
    facts: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state,
        "params": dict(trial.params),
        "value": trial.value,
        "values": list(trial.values),
        "run_dir": runs[0]["run_dir"] if runs else None,
        "runs": runs,
        "seconds": trial.seconds,
        "parameters": trial.parameters,
        "solved_size": trial.hidden,
        "lost": trial.attempts,
        "error": trial.error,
        "owner": trial.owner,
        "started": trial.started.isoformat(timespec="milliseconds") if trial.started else None,
        "finished": trial.finished.isoformat(timespec="milliseconds") if trial.finished else None,
        "reported": dict(zip(("step", "value"), trial.reported or (None, None), strict=True)),
    }
    if row is not None:
        s = row.summary
        facts |= {"rank": row.rank, "mean": s.mean, "sd": s.sd, "low": s.low, "high": s.high, "n": s.n}
        facts |= {"p_against_best": row.p, "on_front": row.front}
    return facts


def plain(value: Any) -> Any:
    """JSON data without what JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_report(directory: str | Path, *, x: str | None = None, by: str | None = None) -> list[str]:
    """Write leaderboard.csv, summary.json, study.png and experiment/ into a study's folder, each replaced in one step.

    Args:
        x, by: of the picture, as `picture.curves` takes them.

    Returns:
        a line for each file, and how the best configuration is trained.

    Raises:
        RequestError: no study, or a file of it that cannot be read.
    """
    from gatelab.report.export_experiment import command, write_best

    state = read_study(directory)
    folder = state.directory
    atomic_write_text(folder / "leaderboard.csv", to_csv(state, leaderboard(state)))
    write_json(folder / "summary.json", summary(state))
    lines = [f"leaderboard  {folder / 'leaderboard.csv'}", f"summary      {folder / 'summary.json'}"]
    picture = write_picture([state], folder / "study.png", x=x, by=by)
    if picture:
        lines.append(f"picture      {picture}")
    for name, file in write_best(state).items():
        lines += [f"experiment   {file}", f"             {command(state, name)}"]
    return lines
