"""Train one frozen configuration in a process of its own: `python -m gatelab.run.frozen_run REQUEST`.

The request is a JSON file (`write_request`); nothing is composed any more. How the run ended is the last event beside
the request (`gatelab.run.record.events`) and the exit code: 0 done or pruned, 1 failed, 2 refused, 75 interrupted.
Every rank of the run reads the same request. The process dies with the one that started it.
"""

from __future__ import annotations

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
from gatelab.run.errors import Interrupted, RequestError
from gatelab.run.process_group import die_with_parent
from gatelab.run.record.events import EventReader, EventWriter
from gatelab.run.record.identity import Identity
from gatelab.tasks.signals import rank, stoppable

FROZEN_RUN = "gatelab.run.frozen_run"
REQUEST_FORMAT = 2
EXIT_CODES = {"done": 0, "pruned": 0, "rank": 0, "failed": 1, "refused": 2, "interrupted": 75}

Train = Callable[[Mapping[str, Any], EventWriter], dict[str, Any]]
"""Trains a request and returns the run's result; its callbacks may write events."""


def write_request(
    path: Path, config: Mapping[str, Any], identity: Identity, *, threads: int | None = None, **more: Any
) -> None:
    """Write a request, and remove what an earlier process with the same request left beside it.

    Args:
        path: the file, `NAME.json`; the events are in `NAME.events.jsonl`.
        config: the run's resolved configuration; identity: of the run.
        threads: of the tensor library; None: as the configuration says.
        more: for another entry point than this module's.
    """
    events_file(path).unlink(missing_ok=True)
    write_json(
        path,
        {
            "format": REQUEST_FORMAT,
            "threads": threads,
            "identity": vars(identity),
            "config": dict(config),
            **more,
        },
    )


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
    from gatelab.trackers.wandb.agent import forget_agent

    env = dict(os.environ)
    if "PYTHONPATH" in env:
        folders = env["PYTHONPATH"].split(os.pathsep)
        env["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    if env.get("GATELAB_DATA_MIRROR"):
        env["GATELAB_DATA_MIRROR"] = str(Path(env["GATELAB_DATA_MIRROR"]).absolute())
    forget_agent(env)
    return env


def train_request(
    request: Mapping[str, Any], events: EventWriter, callbacks: Sequence[Any] = ()
) -> dict[str, Any]:
    """Train what a request describes; returns what `train_frozen` does.

    Args:
        events: of this process; nothing is written here.
        callbacks: Lightning callbacks beside the configured ones.

    Raises:
        as `gatelab.run.train.train`.
    """
    import torch

    from gatelab.run.train import train_frozen

    if request["threads"] is not None:
        torch.set_num_threads(int(request["threads"]))
    return train_frozen(request["config"], Identity(**request["identity"]), wait=True, callbacks=callbacks)


def main(arguments: Sequence[str], train: Train = train_request) -> int:
    """Run one request; return the exit code."""
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
    text = f"{error}" if ours else f"{type(error).__name__}: {error}"
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
