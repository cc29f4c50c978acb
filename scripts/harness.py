"""What the scripts share: commands in sessions of their own, measuring in turns, folders, tables and JSON.

A command is started in its own session, so that it can be stopped or killed with all that it started, and writes to
a log. Contenders are measured in turns: on a shared machine the speed drifts, and only what was measured at the same
time can be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.005
PRECISIONS = ("highest", "high", "medium")  # of matrix products in float32, as PyTorch names them


def gatelab(*arguments: str) -> list[str]:
    """The command line of `gatelab` under this Python."""
    return [sys.executable, "-m", "gatelab", *arguments]


def environment(root: Path = ROOT, **more: str) -> dict[str, str]:
    """This process's variables, with a checkout's package on the path and one thread for each process."""
    given = [
        path
        for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if path and path != str(ROOT / "src")
    ]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root / "src"), *given]),
        "OMP_NUM_THREADS": "1",
        **more,
    }


@dataclass(frozen=True)
class Checkout:
    """A checkout of Gatelab that is measured from outside: by its commands, in its own environment."""

    name: str
    root: Path = ROOT

    @property
    def python(self) -> str:
        """Its `.venv`'s Python; this one's for this checkout."""
        return sys.executable if self.root == ROOT else str(self.root / ".venv/bin/python")

    def gatelab(self, *arguments: str) -> list[str]:
        """Its command line."""
        return [self.python, "-m", "gatelab", *arguments]

    def start(self, arguments: Sequence[str], log: Path) -> Command:
        """Start a command in its environment."""
        return Command(arguments, log, environment(self.root), self.root)

    def seconds(self, arguments: Sequence[str], log: Path, limit: float = 600) -> float:
        """Run a command that must exit with 0; the seconds that it took."""
        return run(arguments, log, limit, environment(self.root), self.root)


def checkouts(options: argparse.Namespace) -> list[Checkout]:
    """This checkout, and the one that `--other` names."""
    if options.other is None:
        return [Checkout("this")]
    other = Checkout("other", options.other.resolve())
    if not Path(other.python).is_file():
        raise SystemExit(f"--other {options.other}: there is no .venv/bin/python")
    return [Checkout("this"), other]


class Command:
    """A command in its own session.

    Args:
        arguments: of the command; log: the file that its output is appended to; env: default: `environment()`;
        cwd: its working directory.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=cwd,
                env=environment() if env is None else dict(env),
                start_new_session=True,
            )
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """The exit code (negative: a signal), or None while it runs."""
        return self.process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most `seconds`; kill the session and return None then."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def finish(self, silence: float) -> int | None:
        """Wait for the end; kill the session and return None once it has said nothing for `silence` seconds."""
        said, since = 0, time.monotonic()
        while self.poll() is None:
            if (size := self.log.stat().st_size) != said:
                said, since = size, time.monotonic()
            elif time.monotonic() > since + silence:
                self.kill()
                return None
            time.sleep(POLL_SECONDS)
        return self.poll()

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until the condition holds; False if the command ended or `seconds` passed before."""
        end = time.monotonic() + seconds
        while not condition():
            if self.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it is still there."""
        if self.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """The end of what it said."""
        return tail(self.log, lines)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def run(
    arguments: Sequence[str],
    log: Path,
    seconds: float = 600,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> float:
    """Run a command that must exit with 0; the seconds that it took.

    Raises:
        RuntimeError: another exit code, or it took longer; the message has the end of its log.
    """
    began = time.perf_counter()
    code = (command := Command(arguments, log, env, cwd)).wait(seconds)
    if code != 0:
        ended = f"exit code {code}" if code is not None else f"nothing after {seconds:g} s"
        raise RuntimeError(f"{' '.join(arguments[2:6])} ...: {ended}\n{command.tail()}")
    return time.perf_counter() - began


def in_turns(
    calls: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """What each call returns in each round; who begins changes, and the first `warm_up` rounds do not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(warm_up + rounds):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            value = calls[name]()
            if turn >= warm_up:
                found[name].append(value)
    return found


def median_ratio(mine: Sequence[float], other: Sequence[float]) -> float:
    """How many times faster `mine` is: the median of the rounds' ratios."""
    return statistics.median(b / a for a, b in zip(mine, other, strict=True))


def compared(found: Mapping[str, Sequence[float]], peer: str) -> list[dict[str, Any]]:
    """A row for each contender that was measured in turns: seconds, and how many times as fast as `peer` it is."""
    return [
        {
            "what": name,
            "seconds": round(statistics.median(took), 2),
            "from": round(min(took), 2),
            "to": round(max(took), 2),
            "times as fast": round(median_ratio(took, found[peer]), 2),
        }
        for name, took in found.items()
    ]


@contextlib.contextmanager
def place(folder: Path | None, prefix: str, memory: bool = True) -> Iterator[Path]:
    """`folder`, which is made; without one a temporary folder, in memory if there is such a file system."""
    if folder is not None:
        if folder.exists():
            raise SystemExit(f"--folder {folder}: exists already")
        folder.mkdir(parents=True)
        yield folder.resolve()
        return
    shared = "/dev/shm" if memory and os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=prefix, dir=shared, ignore_cleanup_errors=True) as temporary:
        yield Path(temporary).resolve()


def parser(doc: str | None, *, folder: bool = False, other: bool = False) -> argparse.ArgumentParser:
    """A parser that shows the module's docstring; `folder` and `other` add these options."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if folder:
        made.add_argument(
            "--folder", type=Path, metavar="DIR", help="keep everything there; it must not exist"
        )
    if other:
        text = "a second checkout with its own .venv, measured in turns with this one"
        made.add_argument("--other", type=Path, metavar="PATH", help=text)
    return made


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as a table; numbers stand right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    print(title, flush=True)
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for key, value in rows[0].items():
        table.add_column(key, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=150).print(table, crop=False, no_wrap=True)


def write_json(path: Path, document: Any) -> None:
    """Write a document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds, or None if it is not there or not whole."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
