"""Checkpoint files that are either the old one or the whole new one, whatever kills the process.

`AtomicCheckpointIO` is Lightning's plugin that writes: into a temporary file beside the target, flushed to
the disk, then renamed over it. Lightning's own goes through the system's temporary folder and a move, which
copies when that lies on another file system. When and under which names to write is decided in
`callbacks/checkpoints.py`.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from gatelab.tasks.plain import check_plain


class CheckpointError(RuntimeError):
    """A checkpoint file that cannot be read; the message names the file and what to do."""


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints atomically, read them with `weights_only=True`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Replace `path` by the new checkpoint in one step.

        Raises:
            TypeError: the checkpoint holds something that `weights_only=True` would refuse to load.
            OSError: the disk is full or not writable; the old file, if any, is untouched.
        """
        check_plain(checkpoint, "the checkpoint")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with AtomicFile(target) as file:
            torch.save(checkpoint, file)

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
    """Load a checkpoint with `weights_only=True`; raise as `AtomicCheckpointIO.load_checkpoint` does."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        reason = (str(error) or repr(error)).splitlines()[0]
        raise CheckpointError(
            f"cannot read the checkpoint {path} ({Path(path).stat().st_size} bytes): {reason} "
            "The file is damaged or no checkpoint of plain data: delete it to start anew"
        ) from error
    return loaded


class AtomicFile(contextlib.AbstractContextManager[BinaryIO]):
    """Open a temporary file beside `target` for writing; on success flush it to the disk and rename it over
    `target`.

    On an error the temporary file is removed and `target` stays what it was. The name holds the process id,
    so that two processes do not write into one temporary file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")

    def __enter__(self) -> BinaryIO:
        self.file = self.temporary.open("wb")
        return self.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.replace(self.temporary, self.target)
                _sync_folder(self.target.parent)
        finally:
            self.file.close()
            self.temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that the rename survives a power cut, where folders can be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
