"""Train one frozen configuration in a process of its own: `python -m gatelab.run.frozen_run REQUEST`.

The request is a JSON file (`write_request`); nothing is composed any more. How the run ended is the last event beside
the request and the exit code: 0 done or pruned, 1 failed, 2 refused, 75 interrupted. Every rank of the run reads the
same request. The process dies with the one that started it.

An event is one JSON object a line. The process appends (`EventWriter`), whoever follows it reads (`EventReader`). A
line is one write, and a last line without its line break, which a kill or a full disk leaves, is not read.

    {"event": "begin", "rank": 0, "pid": 4711, "time": 1789000000.0}
    {"event": "validation", "rank": 0, "index": 0, "epoch": 0, "step": 32, "value": 1.25, "asks": true}
    {"event": "end", "rank": 0, "outcome": "done", "error": null, "run_dir": "runs/size/1a2b3c4d-s0"}

`index` counts validations from 0 over all attempts of the run, `step` optimiser steps, `epoch` from 0. `asks`: the run
waits for an answer (`gatelab.study.engine.run_trial`). Ranks beside the first write an end only if they fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatelab.data.files import write_json
from gatelab.data.messages import printable
from gatelab.run import Interrupted, RequestError
from gatelab.run.process_group import OF_ONE_RUN, die_with_parent
from gatelab.run.record.identity import Identity
from gatelab.run.record.secrets import by_variables, from_variables, masked_output, without_secrets
from gatelab.tasks.signals import rank, stoppable

FROZEN_RUN = "gatelab.run.frozen_run"
REQUEST_FORMAT = 2
EXIT_CODES = {"done": 0, "pruned": 0, "rank": 0, "failed": 1, "refused": 2, "interrupted": 75}


class EventWriter:
    """Append the events of one rank to a file, which is made if it is missing."""

    def __init__(self, path: Path, rank: int = 0) -> None:
        self.path, self.rank = path, rank

    def write(self, event: str, **facts: Any) -> None:
        """Append one event; it is in the system's hands when this returns, so a kill does not lose it."""
        line = json.dumps({"event": event, "rank": self.rank, "time": round(time.time(), 3), **facts}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


class Tail:
    """Read the whole lines of a file as they come; the file may be missing still."""

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def read(self) -> bytes:
        """The lines since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return b""
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole


class EventReader:
    """Read the events of a file as they come."""

    def __init__(self, path: Path) -> None:
        self.path, self._tail = path, Tail(path)

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        found = []
        for line in self._tail.read().splitlines():
            with contextlib.suppress(ValueError):  # another rank's line was torn by its kill
                found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict) and "event" in event]


Train = Callable[[Mapping[str, Any], EventWriter], dict[str, Any]]
"""Trains a request and returns the run's result; its callbacks may write events."""


def write_request(
    path: Path, config: Mapping[str, Any], identity: Identity, *, threads: int | None = None, **more: Any
) -> None:
    """Write a request, and remove what an earlier process with the same request left beside it.

    `threads`: of the tensor library; None: as the configuration says. `more` is for another entry point than this
    module's. The events of `NAME.json` are in `NAME.events.jsonl`.
    """
    events_file(path).unlink(missing_ok=True)
    request = {"format": REQUEST_FORMAT, "threads": threads, "identity": vars(identity)}
    write_json(path, {**request, "config": by_variables(dict(config)), **more}, private=True)


def events_file(request: Path) -> Path:
    """Where the process of a request writes its events."""
    return request.with_suffix(".events.jsonl")


def end_of(request: Path) -> dict[str, Any] | None:
    """How the process of a request says that it ended: `outcome`, `error`, `run_dir`; None if it did not say it.

    Where another rank failed, that is why the first one did.
    """
    ends = [event for event in EventReader(events_file(request)).read() if event["event"] == "end"]
    first = next((end for end in ends if end["rank"] == 0), None)
    others = [end for end in ends if end["rank"] > 0]
    if others and (first is None or first["outcome"] not in ("done", "pruned", "interrupted")):
        return others[0]
    return first


def child_environment() -> dict[str, str]:
    """This process' environment, right for a run in another working directory too."""
    env = {name: value for name, value in os.environ.items() if name not in OF_ONE_RUN}
    if "PYTHONPATH" in env:
        folders = env["PYTHONPATH"].split(os.pathsep)
        env["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    if env.get("GATELAB_DATA_MIRROR"):
        env["GATELAB_DATA_MIRROR"] = str(Path(env["GATELAB_DATA_MIRROR"]).absolute())
    return env


def train_request(
    request: Mapping[str, Any], events: EventWriter, callbacks: Sequence[Any] = ()
) -> dict[str, Any]:
    """Train what a request describes; `callbacks`, result and errors as `train_frozen`. Writes no events itself."""
    import torch

    from gatelab.run.train import train_frozen

    if request["threads"] is not None:
        torch.set_num_threads(int(request["threads"]))
    return train_frozen(
        from_variables(request["config"]),
        Identity(**request["identity"]),
        wait=True,
        keep_code_change=request.get("keep_code_change", False),
        callbacks=callbacks,
    )


def main(arguments: Sequence[str], train: Train = train_request) -> int:
    """Run one request; return the exit code."""
    with masked_output():
        return _main(arguments, train)


def _main(arguments: Sequence[str], train: Train) -> int:
    die_with_parent()
    path = Path(arguments[0]).absolute()
    events = EventWriter(events_file(path), rank())
    try:
        request = json.loads(path.read_text())
        if events.rank == 0:
            events.write("begin", pid=os.getpid())
        with stoppable(Interrupted):
            result = train(request, events)
            end = {"outcome": result["outcome"], "error": None, "run_dir": result.get("run_dir")}
    except BaseException as error:
        end = _explain(error)
        traceback.print_exc() if end["outcome"] == "failed" else print(end["error"], file=sys.stderr)
        if events.rank == 0 and end["outcome"] == "failed" and (killed := _killed_rank()):
            end = {"outcome": "lost", "error": killed}
    if events.rank == 0 or end["outcome"] in ("failed", "refused"):
        events.write("end", **end)
    return EXIT_CODES.get(end["outcome"], 1)


def _explain(error: BaseException) -> dict[str, Any]:
    ours = type(error).__module__.startswith("gatelab.")
    text = printable(without_secrets(f"{error}" if ours else f"{type(error).__name__}: {error}"))
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return {"outcome": "interrupted", "error": text}
    if isinstance(error, RequestError):
        return {"outcome": "refused", "error": text}
    return {"outcome": "failed", "error": text.strip()}


def _killed_rank() -> str | None:
    """The signal that killed another rank, if one was killed: then this rank's own error is only what followed."""
    for _ in range(10):  # the connection may break a moment before the process is gone
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if ended is not None:
            killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED) and ended.si_status != signal.SIGTERM
            text = f"process {ended.si_pid} of the run was killed by signal {ended.si_status}"
            return text if killed else None
        time.sleep(0.1)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
