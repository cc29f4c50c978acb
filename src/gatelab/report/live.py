"""Live view of a study: a table in a terminal, elsewhere a line now and then. On stderr; it only reads.

A look costs milliseconds: the journal is read from where the last look ended, and finished trials are kept.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.data.messages import counted
from gatelab.report.text import headline
from gatelab.run.frozen_run import EventReader, events_file
from gatelab.study.analysis.read import StudyReader
from gatelab.study.analysis.state import StudyState, Trial, duration, short_names, show
from gatelab.study.analysis.statistics import decimals, summarise, values_of
from gatelab.study.engine.directory import StudyDirectory

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

MOST_ROWS = 24
PATIENCE = 10.0
"""Seconds without a living worker after which `watch` takes a study for stopped: a new one takes its time."""


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
    view = _View(directory, lines_every, starting=True)

    def show_until_end() -> None:
        try:
            with view:
                view.look()
                while not end.wait(every):
                    view.look()
                view.look(last=True)
        except Exception as error:  # a view must not stop the study
            print(f"the live view has ended: {type(error).__name__}: {error}", file=sys.stderr)

    thread = threading.Thread(target=show_until_end, name="live view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(timeout=10.0)


def watch(directory: str | Path, *, every: float = 1.0, lines_every: float = 30.0) -> None:
    """Show the study until it is finished or stopped, or the user leaves with Ctrl-C.

    Raises:
        RequestError: no study, or a file of it that cannot be read.
    """
    view, alive = _View(directory, lines_every), time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), view:
        while (state := view.look()).state != "finished":
            alive = alive if state.state == "stopped" else time.monotonic()
            if time.monotonic() - alive > PATIENCE:
                break
            time.sleep(every)
        view.look(last=True)


class _View:
    """A live table at a terminal, lines elsewhere; a context manager."""

    def __init__(self, directory: str | Path, lines_every: float, *, starting: bool = False) -> None:
        from rich.console import Console
        from rich.live import Live

        self.reader = StudyReader(StudyDirectory(directory).path)
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
        state = self.reader.read()
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
            print(line, file=sys.stderr, flush=True)
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
        Text(state.name, style="bold"),
        ProgressBar(total=max(1, len(state.trials)), completed=over, width=30),
        Text(f"{over}/{len(state.trials)}"),
        Text(", ".join(f"{count} {name}" for name, count in counts.items())),
    )
    left, busy = state.seconds_left, state.utilisation
    facts = [_best(state) or "no trial has finished yet"]
    facts += [f"about {duration(left)} left"] if left else []
    facts += [f"slots {busy:.0%} busy"] if busy else []
    return Group(head, Text(" · ".join(facts)), *([_running(state)] if counts["running"] else []))


def _best(state: StudyState) -> str:
    if len(state.objectives) > 1:
        return f"Pareto front: {counted(len(state.pareto), 'trial')}" if state.pareto else ""
    if state.best is None:
        return ""
    summary = summarise(list(values_of(state.best.runs).values()) or [state.best.values[0]])
    value = summary.text(decimals([summary]))
    return f"best {state.objectives[0].name} {value} (trial {state.best.number}: {_point(state, state.best)})"


def _point(state: StudyState, trial: Trial) -> str:
    names = short_names(state.keys)
    return ", ".join(f"{names[key]} {show(value)}" for key, value in trial.params.items())


def _running(state: StudyState) -> Table:
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
        params = [show(trial.params[key]) if key in trial.params else "" for key in keys]
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
