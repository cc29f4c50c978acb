"""A study in a terminal: as text, as JSON, and while it runs as a live view, which only reads and prints on stderr.

The live view is a table in a terminal, elsewhere a line now and then. A look costs milliseconds: the journal is read
from where the last look ended, and finished trials are kept.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.data.messages import counted, printable, say
from gatelab.report import final_scores
from gatelab.run.frozen_run import EventReader, events_file
from gatelab.run.record.rows import readable_rows
from gatelab.study.analysis import one_at_a_time, otherwise
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import Row, answer, leaderboard, table, verdict
from gatelab.study.analysis.read import StudyReader
from gatelab.study.analysis.state import StudyState, Trial, duration, short_names, show
from gatelab.study.analysis.statistics import over_what, summary_of
from gatelab.study.engine.directory import StudyDirectory
from gatelab.tasks.signals import StopRequested

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


BAR = 24
MOST_ROWS = 24
PATIENCE = 10.0
"""Seconds without a living worker after which `watch` takes a study for stopped: a new one takes its time."""


def render(state: StudyState, *, limit: int | None = 20) -> Iterator[str | Table]:
    """The parts to print, in order: headline, cost, leaderboard, changes, other scores, importance, failures."""
    state = one_at_a_time.by_change(state)
    rows = leaderboard(state)
    yield headline(state)
    if rows:
        yield cost(state)
        yield f"{', '.join(o.metric for o in state.objectives)}: {over_what(state)}"
        yield table(state, rows, limit)
        yield " ".join(filter(None, (answer(state, rows), verdict(state, rows))))
        yield from _effects(state)
        yield from _otherwise(rows)
        yield from _on_test(state)
        yield from _importance(state)
    yield from failures(state)


def _effects(state: StudyState) -> Iterator[str | Table]:
    """What each change of the base does."""
    if found := one_at_a_time.effects(state):
        yield _texts_table("Beside the base", one_at_a_time.columns(state, found))
        yield one_at_a_time.MARK


def _otherwise(rows: Sequence[Row]) -> Iterator[str | Table]:
    """The trials scored otherwise, below the leaderboard that only static figures rank."""
    found = otherwise.scored_otherwise(rows)
    if not found:
        return
    yield _texts_table("Scored otherwise", otherwise.columns(found))
    yield printable("\n".join([otherwise.MARK, *otherwise.sentences(found)]))


def _on_test(state: StudyState) -> Iterator[str | Table]:
    """What was scored on the test split, in the order of the leaderboard."""
    cells = final_scores.columns(state)
    if cells:
        yield _texts_table("On the test split", cells)
        yield printable(final_scores.MARK)


def _texts_table(title: str, cells: Mapping[str, Sequence[str]]) -> Table:
    """A table of texts by column."""
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=title, title_justify="left")
    for name in cells:
        grid.add_column(escape(printable(name)))
    for texts in zip(*cells.values(), strict=True):
        grid.add_row(*(escape(printable(text)) for text in texts))
    return grid


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
    yield from filter(None, [" ".join(found.notes)])


def failures(state: StudyState, most: int = 5) -> Iterator[str]:
    """The failed trials with their errors, and where their logs are."""
    failed = [trial for trial in state.trials if trial.state == "failed"]
    if failed:
        yield f"\nfailed (logs: {state.directory / 'trials'}/NUMBER/)"
    for trial in failed[:most]:
        change = trial.params.get(one_at_a_time.CHANGE)
        which = f"{trial.number}, {change}" if change else f"{trial.number}"
        yield f"  trial {which}: {trial.error or 'no error was recorded'}"
    if len(failed) > most:
        yield f"  and {len(failed) - most} more"


def summary(state: StudyState) -> dict[str, Any]:
    """Everything about a study, as plain JSON data (no NaN, no infinity: null instead).

    Returns:
        `name`, `state`, `counts`, `best` (a trial, or null), `pareto` (numbers), `trials` (each: `number`, `state`,
        `params`, `value`, `values`, `run_dir` of its first run, `runs`, `rank`, `mean`, `sd`, `low`, `high`, `n`,
        `p_against_best`, `seconds`, `parameters`, `error`, ...), `importance`, `effects` (of one change at a time),
        `verdict` and how it was run.
    """
    from pydantic_core import to_json

    rows = {row.trial.number: row for row in leaderboard(state)}
    shares = importance(one_at_a_time.by_change(state))
    best = state.best
    document = {
        "name": state.name,
        "directory": str(state.directory),
        "state": state.state,
        "created": state.created,
        "command": state.command,
        "objectives": [vars(objective) for objective in state.objectives],
        "counts": state.counts,
        "best": _trial(best, rows.get(best.number)) if best else None,
        "pareto": [trial.number for trial in state.pareto],
        "effects": [_effect(one) for one in one_at_a_time.effects(state)],
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
        "trials": [_trial(trial, rows.get(trial.number)) for trial in state.trials],
    }
    return dict(json.loads(to_json(document, inf_nan_mode="null")))


def _effect(one: one_at_a_time.Effect) -> dict[str, Any]:
    s = one.difference
    facts = {"change": one.change, "trial": one.trial, "difference": s.mean, "low": s.low, "high": s.high}
    return facts | {"n": s.n, "p": one.p, "better": one.better}


def _trial(trial: Trial, row: Row | None) -> dict[str, Any]:
    runs = [
        {"run_dir": str(run.directory), "seed": run.seed, "fold": run.fold, "value": run.value}
        | ({"rows": scored} if (scored := readable_rows(run.directory)) else {})
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


@contextlib.contextmanager
def following(directory: str | Path, *, every: float = 1.0, lines_every: float = 30.0) -> Iterator[None]:
    """Show the study from a thread of this process while the block runs; `gatelab sweep` does.

    A view that fails says so once and never harms the study.

    Args:
        directory: of the study; it may be empty yet.
        every: seconds between two looks.
        lines_every: seconds between two lines, at least, where stderr is not a terminal.
    """
    end = threading.Event()
    view = _View(directory, lines_every, trust=True, starting=True)  # the sweep has opened its storage

    def show_until_end() -> None:
        try:
            with view:
                view.look()
                while not end.wait(every):
                    view.look()
                view.look(last=True)
        except Exception as error:  # a view must not stop the study
            say(f"the live view has ended: {type(error).__name__}: {error}")

    thread = threading.Thread(target=show_until_end, name="live view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(timeout=10.0)


def watch(
    directory: str | Path, *, every: float = 1.0, lines_every: float = 30.0, trust: bool = False
) -> None:
    """Show the study until it is finished or stopped, or the user leaves with Ctrl-C; `trust` as in `StudyReader`.

    Raises:
        RequestError: no study, or a file of it that cannot be read.
    """
    view, alive = _View(directory, lines_every, trust=trust), time.monotonic()
    with contextlib.suppress(StopRequested), view:
        while (state := view.look()).state != "finished":
            alive = alive if state.state == "stopped" else time.monotonic()
            if time.monotonic() - alive > PATIENCE:
                break
            time.sleep(every)
        view.look(last=True)


class _View:
    """A live table at a terminal, lines elsewhere; a context manager."""

    def __init__(
        self, directory: str | Path, lines_every: float, *, trust: bool, starting: bool = False
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self.reader = StudyReader(StudyDirectory(directory).path, trust=trust)
        self.lines_every = lines_every
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.starting = starting
        self._printed, self._printed_at = "", -math.inf

    def __enter__(self) -> _View:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def look(self, *, last: bool = False) -> StudyState:
        """Read the study and show it; `last` for the line that stays."""
        state = one_at_a_time.by_change(self.reader.read())
        self.starting = self.starting and not state.workers and not last
        if self.console.is_terminal:
            self.live.update(dashboard(state), refresh=True)
        shown = self.console.is_terminal and (not last or state.state == "finished")
        if not shown and (last or time.monotonic() - self._printed_at >= self.lines_every):
            self._print(one_line(state, starting=self.starting))
        return state

    def _print(self, line: str) -> None:
        self._printed_at = time.monotonic()
        if line != self._printed:
            say(line)
            self._printed = line


def one_line(state: StudyState, *, starting: bool = False) -> str:
    """The headline with the best so far."""
    parts = [headline(state, starting=starting), _best(state)]
    busy = state.utilisation
    parts += [f"slots {busy:.0%} busy"] if busy else []
    return "; ".join(part for part in parts if part)


def dashboard(state: StudyState) -> Group:
    """The live table: counts and a bar, the best so far, and a row for each running trial."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts = state.counts
    over = len(state.trials) - counts["running"] - counts["waiting"]
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(printable(state.name), style="bold"),
        ProgressBar(total=max(1, len(state.trials)), completed=over, width=30),
        Text(f"{over}/{len(state.trials)}"),
        Text(", ".join(f"{count} {name}" for name, count in counts.items())),
    )
    left, busy = state.seconds_left, state.utilisation
    facts = [_best(state) or "no trial has finished yet"]
    facts += [f"about {duration(left)} left"] if left else []
    facts += [f"slots {busy:.0%} busy"] if busy else []
    return Group(head, Text(printable(" · ".join(facts))), *([_running(state)] if counts["running"] else []))


def _best(state: StudyState) -> str:
    if len(state.objectives) > 1:
        return f"Pareto front: {counted(len(state.pareto), 'trial')}" if state.pareto else ""
    if (best := state.best) is None:
        return ""
    point = one_at_a_time.in_words(best.params, short_names(state.keys))
    return f"best {state.objectives[0].name} {summary_of(best).text()} (trial {best.number}: {point})"


def _running(state: StudyState) -> Table:
    from rich.markup import escape
    from rich.table import Table

    running = [trial for trial in state.trials if trial.state == "running"]
    names = short_names(state.keys)
    keys = [key for key in state.keys if any(key in trial.params for trial in running)]
    titles = ["trial", *(names[key] for key in keys), "progress", state.objectives[0].name, "running for"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True)
    for trial in running[:MOST_ROWS]:
        note, value = progress(state, trial)
        params = [escape(printable(show(trial.params[key]))) if key in trial.params else "" for key in keys]
        elapsed = "" if state.lost(trial) else duration(trial.elapsed(state.now) or 0.0)
        note = "its worker died" if state.lost(trial) else note
        table.add_row(str(trial.number), *params, note, "" if value is None else f"{value:.5g}", elapsed)
    if len(running) > MOST_ROWS:
        table.add_row(f"and {len(running) - MOST_ROWS} more")
    return table


def progress(state: StudyState, trial: Trial) -> tuple[str, float | None]:
    """`run 2/3, epoch 4` and the value of the last validation, from the events that the trial's runs have written.

    Without events, which lie on the worker's machine, the value that was last reported to Optuna.
    """
    directory = StudyDirectory(state.directory)
    begun, last = 0, None
    for number, run in enumerate(trial.runs, 1):
        if run.seed is not None:
            request = directory.request(trial.number, run.seed, run.fold)
            events = EventReader(events_file(request)).read()
            if events:
                begun = number
                last = next((e for e in reversed(events) if e["event"] == "validation"), None)
    parts = [f"run {max(1, begun)}/{len(trial.runs)}"] if len(trial.runs) > 1 else []
    if last is not None:
        return ", ".join([*parts, f"epoch {last['epoch'] + 1}"]), last["value"]
    return ", ".join(parts), trial.reported[1] if trial.reported else None
