"""Trackers beside `metrics.csv`: Weights & Biases and TensorBoard. They may fail; the run may not."""

from __future__ import annotations

import netrc
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gatelab.lab.errors import RequestError

if TYPE_CHECKING:
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger


def wandb_logger(
    run_dir: str,
    project: str = "gatelab",
    entity: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    mode: Literal["auto", "online", "offline"] = "auto",
) -> WandbLogger:
    """Weights & Biases, online with a key and offline without one (`wandb sync` uploads it later).

    The tracker's run id follows from the run directory, so that a resumed run stays one run.
    """
    from pytorch_lightning.loggers import WandbLogger

    run_id = "-".join(run_dir.rstrip("/").split("/")[-2:]).replace(".", "-")
    return WandbLogger(
        name=run_id,
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


def tensorboard_logger(run_dir: str) -> TensorBoardLogger:
    """TensorBoard event files in `<run directory>/tensorboard`."""
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(save_dir=run_dir, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise RequestError(
            "logger=tensorboard needs the package: pip install 'gatelab[tensorboard]'."
        ) from None
