"""Show what is installed, what this machine can do, and which GRU backend runs on it and why."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from gatelab.cli.common import add_json, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Examine and print."""
    facts = examine()
    if options.json:
        print_json(facts)
        return 0
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, inner in value.items():
                print(f"  {name:18} {str(inner).replace(chr(10), chr(10) + ' ' * 21)}")
        else:
            print(f"{key:20} {', '.join(value) or 'none' if isinstance(value, list) else value}")
    return 0


def examine() -> dict[str, Any]:
    """Versions, hardware, the compiled kernel and its backends as plain data; of a key only whether there is one."""
    import torch

    from gatelab.core import GRU
    from gatelab.run import CONF_DIR
    from gatelab.run.record.environment import describe
    from gatelab.trackers.wandb.session import has_key

    facts = describe()
    facts.pop("git")
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
        "free_gigabytes": round(shutil.disk_usage(".").free / 1e9, 1),
        "compiler": shutil.which(os.environ.get("CC", "cc")),
        "wandb_key": has_key(),
        "gru": {"training": str(gru.explain(torch.zeros(16, 8, 32))), "one step": one_step},
    }
