"""Trackers beside `metrics.csv`: Weights & Biases and TensorBoard. They may fail; the run may not.

The functions below are what `conf/logger/` names; `tracked.py` opens and concludes what they make.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gatelab.lab.errors import RequestError

if TYPE_CHECKING:
    from gatelab.lab.trackers.wandb_tracker import WandbTracker


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

    `run_id` is kept in `run.json`, so that a resumed run stays one run. `WANDB_MODE` says the same as `mode`, and
    `disabled` leaves the tracker out (None).
    """
    from gatelab.lab.trackers.wandb_tracker import WandbTracker

    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    return WandbTracker(
        run_dir, wandb_settings(run_dir, run_id, project, entity, group, job_type, tags, mode)
    )


def wandb_settings(
    run_dir: str,
    run_id: str,
    project: str = "gatelab",
    entity: str | None = None,
    group: str | None = None,
    job_type: str = "train",
    tags: Sequence[str] = (),
    mode: str = "auto",
) -> dict[str, Any]:
    """What the process that talks to Weights & Biases is told; `WANDB_MODE=offline` is `mode: offline`."""
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        mode = "offline"
    settings: dict[str, Any] = {
        "id": run_id,
        "name": "/".join(Path(run_dir).absolute().parts[-2:]),
        "project": project,
    }
    settings |= {"entity": entity, "group": group, "job_type": job_type, "tags": list(tags), "mode": mode}
    return settings


def tensorboard_logger(run_dir: str, run_id: str) -> Any:
    """TensorBoard event files in `<run directory>/tensorboard`; it knows runs by folder, not by `run_id`."""
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(save_dir=run_dir, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise RequestError(
            "logger=tensorboard needs the package: pip install 'gatelab[tensorboard]'."
        ) from None
