"""Checkpoint files that are either the old one or the whole new one, whatever kills the process.

`AtomicCheckpointIO` is Lightning's plugin that writes: into a temporary file beside the target, flushed to
the disk, then renamed over it. Lightning's own goes through the system's temporary folder and a move, which
copies when that lies on another file system. The `last.ckpt` that is replaced stays as `previous.ckpt`. When to
write is decided in `callbacks/checkpoints.py`. A run goes on from `find_latest_checkpoint`: `last.ckpt`, or the one
before it where that is damaged or gone.
"""

import contextlib
import io
import os
import shutil
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from gatelab.data.files import atomic_file, flush

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, written or chosen; the message says which and what to do."""


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints atomically, read them with `weights_only=True`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Replace `path` by the new checkpoint in one step.

        Raises:
            TypeError: the checkpoint holds something that `weights_only=True` would refuse to load.
            CheckpointError: the disk is full or not writable; the old file, if any, is untouched.
        """
        check_serializable(checkpoint, "the checkpoint")
        target = Path(path)
        content = io.BytesIO()  # in memory first: on a full disk, PyTorch's own error would hide the system's
        torch.save(checkpoint, content)
        try:
            with atomic_file(target) as file:
                file.write(content.getbuffer())
                if target.name == LAST:
                    flush(file)  # the new one lies on the disk before the old one is touched
                    _keep(target, target.with_name(PREVIOUS))
            _sync_folder(target.parent)
        except OSError as error:
            raise CheckpointError(_not_written(target, content.tell(), error)) from error

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | str | torch.device | dict[str, str] | None = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Load `path` as plain data.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the file is truncated, empty, or not a checkpoint of plain data.
        """
        return load_checkpoint(path, map_location=map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Delete the file if it is there."""
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike[str], map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`; raise as `AtomicCheckpointIO.load_checkpoint` does.

    Every byte is checked first against the sums that the file holds: PyTorch would read changed weights without a
    word.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if (changed := archive.testzip()) is not None:
                raise ValueError(f"its part {changed} is not what was written.")
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        if not isinstance(loaded, dict) or not isinstance(loaded.get("state_dict", {}), dict):
            raise TypeError("it holds no dictionary with weights.")
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        reason = (str(error) or repr(error)).splitlines()[0]
        raise CheckpointError(
            f"cannot read the checkpoint {path} ({Path(path).stat().st_size} bytes): {reason.rstrip('.')}. "
            "The file is damaged or no checkpoint of plain data: delete it to start anew"
        ) from error
    return loaded


class LatestCheckpoint(NamedTuple):
    """The newest whole checkpoint.

    path, checkpoint: the file and what it holds; damaged: a newer file that cannot be read, and why, or None.
    """

    path: Path
    checkpoint: dict[str, Any]
    damaged: tuple[Path, str] | None


def find_latest_checkpoint(folder: str | Path) -> LatestCheckpoint | None:
    """Return the newest checkpoint in `folder` that is whole, or None if there is none at all.

    Raises:
        CheckpointError: there are some, and none of them can be read.
    """
    errors: list[tuple[Path, str]] = []
    for name in (LAST, PREVIOUS):
        path = Path(folder) / name
        if not path.is_file():
            continue
        try:
            return LatestCheckpoint(path, load_checkpoint(path), errors[0] if errors else None)
        except CheckpointError as error:
            errors.append((path, str(error)))
    if errors:
        raise CheckpointError("; ".join(text for _, text in errors))
    return None


def check_serializable(value: Any, name: str) -> None:
    """Raise TypeError, naming the place, if `value` holds anything but plain data and tensors.

    Plain are None, bool, int, float, str, bytes, and dict, list, tuple and set of plain data (no subclasses
    but OrderedDict, Counter and torch.Size).
    """
    kind = type(value)
    if kind in _ATOMS or isinstance(value, torch.Tensor):
        return
    if kind in (dict, OrderedDict, Counter):
        for key, item in value.items():
            check_serializable(key, f"a key of {name}")
            check_serializable(item, f"{name}[{key!r}]")
    elif kind in (list, tuple, set, torch.Size):
        for index, item in enumerate(value):
            check_serializable(item, f"{name}[{index}]")
    else:
        raise TypeError(
            f"{name} is a {kind.__module__}.{kind.__qualname__}, which `torch.load(weights_only=True)` does not load; "
            "convert it to str, int, float, list or dict first"
        )


def _keep(target: Path, kept: Path) -> None:
    """Let `target` stand under the name `kept` too, so that there is a whole file at every moment."""
    if not target.is_file():
        return
    second = target.with_name(f".{target.name}.{os.getpid()}.old.tmp")
    second.unlink(missing_ok=True)
    try:
        os.link(target, second)
    except OSError:  # no hard links here: for a moment there is the kept file only
        os.replace(target, kept)
        return
    try:
        os.replace(second, kept)
    finally:
        second.unlink(missing_ok=True)  # it stays where it and the kept file were one already


def _not_written(target: Path, size: int, error: OSError) -> str:
    old = "The one before it is untouched" if target.exists() else "There is none before it"
    free = "unknown"
    with contextlib.suppress(OSError):
        free = f"{shutil.disk_usage(target.parent).free / 1e6:.1f} MB"
    return (
        f"cannot write the checkpoint {target}: {error.strerror or error} ({size / 1e6:.1f} MB to write, "
        f"{free} free there). {old}; make room, and the same command goes on from what there is"
    )


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that the rename survives a power cut, where folders can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
