"""Trackers beside `metrics.csv`: Weights & Biases and TensorBoard. They may fail; the run may not.

`wandb_logger` and `tensorboard_logger` are what `conf/logger/` names; `gatelab.run.loggers` opens and concludes what
they make. Gatelab names a run by its configuration, `wandb agent` by an id of its own. The run directory follows the
first, the run at Weights & Biases the second; so one run may be shown under several ids.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gatelab.run import RequestError
from gatelab.run.process_group import OF_ONE_RUN

if TYPE_CHECKING:
    from gatelab.trackers.tensorboard import TensorBoardTracker
    from gatelab.trackers.wandb.tracker import WandbTracker


def wandb_logger(
    run_dir: str,
    run_id: str,
    project: str = "gatelab",
    entity: str | None = None,
    group: str | None = None,
    job_type: str = "train",
    tags: Sequence[str] = (),
    mode: Literal["auto", "online", "offline"] = "auto",
) -> WandbTracker | None:
    """Weights & Biases, online with a key and a server that answers, else offline (`gatelab sync` uploads it later).

    `run_id` is kept in `run.json`, so that a resumed run stays one run; what `wandb agent` says about its run comes
    before everything here. `WANDB_MODE` says the same as `mode`, and `disabled` leaves the tracker out (None).
    """
    from gatelab.trackers.wandb.tracker import WandbTracker

    said = os.environ.get("WANDB_MODE")
    if said == "disabled":
        return None
    require("wandb", "wandb")
    settings = {
        "id": run_id,
        "name": "/".join(Path(run_dir).absolute().parts[-2:]),
        "project": project,
        "entity": entity,
        "group": group,
        "job_type": job_type,
        "tags": list(tags),
        "mode": "offline" if mode == "auto" and said in ("offline", "dryrun") else mode,
    }
    return WandbTracker(run_dir, {**settings, **agent_settings()})


def started_by_agent() -> bool:
    """Whether this process is the run of an agent."""
    return all(os.environ.get(name) for name in OF_ONE_RUN)


def agent_settings() -> dict[str, str]:
    """The agent's settings of the run, as `WandbTracker` takes them; empty without an agent."""
    if not started_by_agent():
        return {}
    given = {name: os.environ.get(f"WANDB_{name.upper()}") for name in ("project", "entity")}
    told = {"sweep_id": os.environ["WANDB_SWEEP_ID"], "id": os.environ["WANDB_RUN_ID"], "job_type": "sweep"}
    return told | {name: value for name, value in given.items() if value}


def tensorboard_logger(run_dir: str, run_id: str) -> TensorBoardTracker:
    """TensorBoard event files in `<run directory>/tensorboard`; it knows runs by folder, not by `run_id`."""
    require("tensorboard", "gatelab[tensorboard]")
    from gatelab.trackers.tensorboard import TensorBoardTracker

    return TensorBoardTracker(run_dir)


def require(module: str, package: str) -> None:
    """A tracker that is asked for by name must be there before the run begins.

    Raises:
        RequestError: it is not installed; the message has the command that mends it.
    """
    if importlib.util.find_spec(module) is None:
        raise RequestError(
            f"logger={module}: not installed. Run pip install '{package}', or leave the tracker out."
        )
