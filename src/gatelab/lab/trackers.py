"""Trackers beside `metrics.csv`: Weights & Biases and TensorBoard. They may fail; the run may not."""

from __future__ import annotations

import netrc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gatelab.lab.errors import RequestError

if TYPE_CHECKING:
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger


def wandb_logger(
    run_dir: str,
    run_id: str,
    project: str = "gatelab",
    entity: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    mode: Literal["auto", "online", "offline"] = "auto",
) -> WandbLogger:
    """Weights & Biases, online with a key and offline without one (`wandb sync` uploads it later).

    `run_id` is kept in `run.json`, so that a resumed run stays one run.
    """
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(
        name="/".join(Path(run_dir).parts[-2:]),
        id=run_id,
        save_dir=run_dir,
        project=project,
        entity=entity,
        group=group,
        tags=list(tags),
        offline=mode == "offline" or (mode == "auto" and not has_wandb_key()),
        resume="allow",
    )


def has_wandb_key() -> bool:
    """Whether Weights & Biases could log in without asking."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def tensorboard_logger(run_dir: str, run_id: str) -> TensorBoardLogger:
    """TensorBoard event files in `<run directory>/tensorboard`; it knows runs by folder, not by `run_id`."""
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(save_dir=run_dir, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise RequestError(
            "logger=tensorboard needs the package: pip install 'gatelab[tensorboard]'."
        ) from None
