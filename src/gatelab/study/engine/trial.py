"""The run's side of a study: `python -m gatelab.study.engine.trial REQUEST` trains the run that the request freezes.

It is an ordinary run (`lab.train`) with one more callback, which reports validations to the worker and stops the
run when the study's pruner says so. Every rank reads the same request. How it ended is written beside the request,
and said by the exit code: 0 done or pruned, 1 failed, 2 refused, 75 interrupted. It never talks to Optuna.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from gatelab.run.errors import Interrupted
from gatelab.run.record.directory import RunDirectory, write_json
from gatelab.study.engine.lifeline import die_with_parent
from gatelab.tasks.signals import rank, stoppable

REQUEST_FORMAT = 1
PRELOAD = (
    "gatelab.run.imports:load_lightning",
    "gatelab.study.engine.pruning",
    "gatelab.data.text.module",
    "gatelab.data.series.module",
    "gatelab.data.synthetic_module",
    "gatelab.tasks.language_model",
    "gatelab.tasks.forecast",
    "gatelab.tasks.optimizers",
    "gatelab.tasks.schedules",
    "gatelab.core.native.library",
    "torch.distributed",
    "torch.utils.serialization",
)
"""What runs import: the zygote does so once for all of them."""


def prepare() -> None:
    """Look up what all runs record alike; the zygote does so once for all of them."""
    from gatelab.run.record.environment import look_up

    look_up()


def main(arguments: list[str]) -> int:
    """Run one request; return the exit code."""
    die_with_parent(int(os.environ["GATELAB_PARENT"]) if "GATELAB_PARENT" in os.environ else None)
    os.environ["GATELAB_PARENT"] = str(os.getpid())  # of the ranks that Lightning starts
    path = Path(arguments[0]).absolute()
    request = json.loads(path.read_text())
    number = str(rank())
    try:
        with stoppable(Interrupted):
            end = run(request)
    except BaseException as error:
        end = _explain(error)
        traceback.print_exc() if end["outcome"] == "failed" else print(end["error"], file=sys.stderr)
        if number == "0" and end["outcome"] == "failed" and (dead := _killed_rank()):
            end = {"outcome": "lost", "error": dead}
    if number == "0":
        write_json(end_file(path), end)
    elif end["outcome"] in ("failed", "refused"):
        write_json(end_file(path, number), end)
    return {"done": 0, "pruned": 0, "rank": 0, "refused": 2, "interrupted": 75}.get(end["outcome"], 1)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Train what `request` describes; returns how it ended.

    Raises:
        as `train`.
    """
    import torch

    from gatelab.run import nodes
    from gatelab.run.as_rank import train_as_rank
    from gatelab.run.record.identity import Identity
    from gatelab.run.train import train_frozen
    from gatelab.study.engine.pruning import Pruning

    torch.set_num_threads(int(request["threads"]))
    plain = request["config"]
    callbacks = [Pruning(request)] if request["reports"] else []
    if rank() > 0:
        return train_as_rank(callbacks)
    identity = Identity(**request["identity"])
    with nodes.leading():
        result = _pruned_before(request, identity) or train_frozen(
            plain, identity, wait=True, callbacks=callbacks
        )
    return {"outcome": result["outcome"], "error": None, "run_dir": result["run_dir"]}


def _pruned_before(request: dict[str, Any], identity: Any) -> dict[str, Any] | None:
    """The result of a run that this very trial has pruned already: its worker died before it could say so."""
    result = RunDirectory(identity.directory(request["config"]["paths"]["runs"])).result()
    mine = {"study": request["study"], "trial": request["number"]}
    return result if result is not None and result.get("by") == mine else None


def end_file(request: Path, rank: str | None = None) -> Path:
    """Where a run says how it ended; a rank other than the first one only if it failed."""
    return request.with_suffix(f".rank{rank}.json" if rank else ".end.json")


def _explain(error: BaseException) -> dict[str, Any]:
    from gatelab.run.errors import RequestError

    text = f"{error}" if type(error).__module__.startswith("gatelab.") else f"{type(error).__name__}: {error}"
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return {"outcome": "interrupted", "error": text}
    if isinstance(error, RequestError):
        return {"outcome": "refused", "error": text}
    return {"outcome": "failed", "error": text.strip()}


def _killed_rank() -> str | None:
    """If another rank was killed: which signal did it. Then this rank's own error is only what followed."""
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
