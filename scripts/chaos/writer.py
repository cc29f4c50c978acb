"""A process that saves one state after the other, as fast as it can, and says after each save that it returned.

What is saved can be checked by itself: every number of a state is its step. The process is forked, so that it begins at
once, and killed from outside (`strike`).
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gatelab.tasks import AtomicCheckpointIO, CheckpointError, load_checkpoint
from gatelab.tasks.checkpoint_io import find_latest_checkpoint

Save = Callable[[dict[str, Any], Path], None]


def state(step: int, size: int) -> dict[str, Any]:
    """A state of about `size` bytes that shows by itself whether it is whole."""
    return {
        "global_step": step,
        "state_dict": {f"w{i}": torch.full((size // 16,), float(step)) for i in range(4)},
    }


def is_whole(checkpoint: dict[str, Any]) -> bool:
    """Whether every number is the step."""
    return all(bool((w == checkpoint["global_step"]).all()) for w in checkpoint["state_dict"].values())


def saver(plugin: str) -> Save:
    """Gatelab's way to write a checkpoint, or Lightning's."""
    if plugin == "lightning":
        from pytorch_lightning.plugins.io import TorchCheckpointIO

        return TorchCheckpointIO().save_checkpoint
    return AtomicCheckpointIO().save_checkpoint


def strike(folder: Path, size: int, temporary: Path, plugin: str, rng: random.Random) -> tuple[int, bool]:
    """Let a writer go on in `folder` from what there is, and kill it at a random moment.

    Args:
        temporary: the system's temporary folder for the writer.

    Returns:
        the last step whose save had returned, and whether the kill fell into a save.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _write(folder, size, temporary, plugin, write)
    os.close(write)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read)
        said = _read_one(read)
        for _ in range(rng.randint(1, 4)):
            began = time.monotonic()
            said += _read_one(read)
        time.sleep(
            rng.uniform(0.0, time.monotonic() - began)
        )  # at any moment of a save, however slow the disk is
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(read, 1 << 16):
            said += more
    inside = any(folder.glob(".*.tmp")) or any(temporary.glob("*"))
    for path in [*folder.glob(".*.tmp"), *temporary.glob("*")]:
        path.unlink()
    return int(said.split(b"\n")[-2]), inside


def judge(folder: Path, returned: int) -> tuple[list[str], list[str]]:
    """What is corrupt, and what is lost, after a kill."""
    corrupt, lost = [], []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            if not is_whole(load_checkpoint(path)):
                corrupt.append(f"{path}: holds a mixture")
        except CheckpointError as error:
            corrupt.append(str(error))
    with contextlib.suppress(CheckpointError):
        found = find_latest_checkpoint(folder)
        if found is None or found.checkpoint["global_step"] < returned:
            lost.append(
                f"{folder}: step {returned} was saved, {found.checkpoint['global_step'] if found else 'none'} is left"
            )
    return corrupt, lost


def _write(folder: Path, size: int, temporary: Path, plugin: str, pipe: int) -> None:
    """Be the writer; never returns."""
    code = 1
    with contextlib.suppress(BaseException):
        tempfile.tempdir = str(temporary)
        save = saver(plugin)
        found = find_latest_checkpoint(folder)
        step = found.checkpoint["global_step"] if found else 0
        os.write(pipe, f"{step}\n".encode())
        while True:
            step += 1
            save(state(step, size), folder / "last.ckpt")
            os.write(pipe, f"{step}\n".encode())
    os._exit(code)


def _read_one(pipe: int) -> bytes:
    said = b""
    while b"\n" not in said:
        ready, _, _ = select.select([pipe], [], [], 60.0)
        more = os.read(pipe, 4096) if ready else b""
        if not more:
            raise RuntimeError("the writer never began")
        said += more
    return said
