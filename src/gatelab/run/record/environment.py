"""Environment of a run: versions, git revision, processor, GPUs, threads; and no secrets in what is recorded.

Versions and the git revision are looked up once in a process, whatever is installed or edited later: the code that
runs is the one that the process began with. A process that starts others by forking looks them up for all of them
(`look_up`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
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
    "pandas",
    "tokenizers",
    "optuna",
    "wandb",
    "tensorboard",
    "triton",
)

# Environment variables that can change a result. An allow-list: whatever is not named here is never recorded.
# (CUBLAS_WORKSPACE_CONFIG is not: Lightning sets it itself, at the first deterministic run of a process.)
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUDA_VISIBLE_DEVICES",
    "GATELAB_NATIVE_ISA",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_NUM_THREADS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
MOST_DIFF = 200_000
MOST_UNTRACKED = 100
CODE = ("*.py", "*.c", "*.h", "dispatch.json")
"""Gatelab's own files that can change a result."""


def describe() -> dict[str, Any]:
    """Everything about this machine and installation that can change a result, as plain data."""
    import torch  # not needed to tell versions

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "git": repository(),
        "code": code_sha256(),
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native": native(),
        "gpus": gpus(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def look_up() -> None:
    """Look up what stays the same while the process lives, so that its forked children know it; no GPU is touched."""
    for fact in (repository, versions, code_sha256, native, cpu_name, driver, platform.platform):
        fact()


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


@functools.cache
def code_sha256() -> str:
    """sha256 of Gatelab's own code as it is installed, whether it lies in a checkout or not."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for file in sorted(file for pattern in CODE for file in package.rglob(pattern)):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@functools.cache
def native() -> dict[str, str] | None:
    """The GRU kernel that this process would load: its instruction set, and sha256 of the compiled file."""
    from gatelab.core.backends.native.kernel import NativeError, load

    try:
        library = load()
    except NativeError:
        return None
    return {"isa": library.isa, "sha256": hashlib.sha256(library.path.read_bytes()).hexdigest()}


def gpus() -> list[str]:
    """Names of the GPUs that torch sees."""
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


@functools.cache
def driver() -> str | None:
    """Version of the NVIDIA driver, without starting a process for it; None where there is none."""
    file = Path("/proc/driver/nvidia/version")
    found = re.search(r"Kernel Module.*?(\d+\.\d+[\d.]*)", file.read_text()) if file.is_file() else None
    return found[1] if found else None


@functools.cache
def cpu_name() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def repository() -> dict[str, Any] | None:
    """State of the checkout that the working folder lies in, else of Gatelab's own; None outside both."""
    return git_state(Path.cwd()) or git_state(Path(__file__).parent)


@functools.cache
def git_state(folder: Path) -> dict[str, Any] | None:
    """Revision, uncommitted difference and untracked files of the checkout that `folder` belongs to; None outside one.

    A difference of more than `MOST_DIFF` characters is cut, which its last line says.
    """
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return None
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    if len(diff) > MOST_DIFF:
        sha256 = hashlib.sha256(diff.encode()).hexdigest()
        note = f"[cut after {MOST_DIFF} of {len(diff)} characters; sha256 of all {sha256}]"
        whole = diff[: diff.rfind("\n", 0, MOST_DIFF) + 1]  # half a secret would not be known as one
        diff = f"{whole}{note}\n"
    listed = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    names = (listed or "").splitlines()
    more = [f"and {len(names) - MOST_UNTRACKED} more"] if len(names) > MOST_UNTRACKED else []
    return {"revision": revision.strip(), "diff": diff, "untracked": [*names[:MOST_UNTRACKED], *more]}


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
