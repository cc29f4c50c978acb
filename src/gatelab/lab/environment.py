"""What a run ran on: versions, git revision, processor, GPUs, threads. Facts only, nothing secret.

Versions and the git revision are looked up once in a process, whatever is installed or edited later: the code that
runs is the one that the process began with. A process that starts others by forking looks them up for all of them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "gatelab",
    "torch",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "wandb",
)


def describe() -> dict[str, Any]:
    """Everything about this machine and installation that can change a result, as plain data."""
    import torch  # not needed to tell versions

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "git": git_state(Path(__file__).parent),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": gpus(),
        "cuda": torch.version.cuda,
    }


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def gpus() -> list[str]:
    """Names of the GPUs that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


@functools.cache
def cpu_name() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def git_state(folder: Path) -> dict[str, str] | None:
    """Revision and uncommitted difference of the checkout that `folder` belongs to; None outside one."""
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    return {"revision": revision.strip(), "diff": _git(folder, "diff", "HEAD", "--no-color") or ""}


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
