"""What is installed, what this machine can do, and what of it Gatelab will use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from gatelab.core import GRU
from gatelab.run.config.configs import CONF_DIR
from gatelab.run.record.environment import describe
from gatelab.trackers.wandb.server import has_wandb_key


def examine(root: str | Path = ".") -> dict[str, Any]:
    """Everything as plain data; nothing secret (a key's presence, never the key)."""
    facts = describe()
    facts.pop("git")
    existing = Path(root).absolute()
    while not existing.exists():
        existing = existing.parent
    mirror = os.environ.get("GATELAB_DATA_MIRROR")
    gru = GRU(32, 64)
    with torch.no_grad():
        one_step = str(gru.explain(torch.zeros(1, 1, 32)))
    return {
        **facts,
        "cores": os.cpu_count(),
        "configurations": str(CONF_DIR),
        "mirror": mirror,
        "mirror_exists": mirror is not None and Path(mirror).is_dir(),
        "free_gigabytes": round(shutil.disk_usage(existing).free / 1e9, 1),
        "compiler": shutil.which(os.environ.get("CC", "cc")),
        "wandb_key": has_wandb_key(),
        "gru": {
            "training": str(gru.explain(torch.zeros(16, 8, 32))),
            "one step": one_step,
        },
    }
