"""Where the parts of the check run, and how much they do."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """`quick` is for a test on a CPU; `folder` is shared by the parts; `seconds` is the time that a part has."""

    device: str
    quick: bool
    folder: Path
    seconds: float = 600.0


def machine(device: str) -> Row:
    """What the numbers depend on."""
    import torch

    about: Row = {"python": platform.python_version(), "torch": torch.__version__, "device": device}
    if device == "cuda":
        about |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        about["cudnn"] = str(torch.backends.cudnn.version())
    return about


def set_tf32(on: bool) -> None:
    """Whether float32 products may round their factors to ten bits."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def dtype_of(precision: str) -> Any:
    """The dtype of the tensors in a precision."""
    import torch

    return getattr(torch, {"tf32": "float32"}.get(precision, precision))


def in_a_line(error: Exception) -> str:
    """An exception, shortened."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def said(error: Exception) -> str:
    """The same; one of the device itself is raised again, since no later call can be believed (but of a failed capture
    they can).
    """
    if "CUDA error" in str(error) and "captur" not in str(error):
        raise error
    return in_a_line(error)
