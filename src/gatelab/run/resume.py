"""Conditions under which a run directory is continued: its configuration, its data, its checkpoint, free space.

Everything here happens before anything in the run directory is changed, except that a damaged file is renamed. What is
loaded into the model is Lightning's business.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatelab.data.files import set_aside
from gatelab.data.messages import few, say
from gatelab.run import RequestError
from gatelab.run.load import changed_data, mismatch
from gatelab.run.record.code import changed_code, edited
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import first_difference
from gatelab.run.record.secrets import without_secrets
from gatelab.tasks.checkpoint_io import (
    BEST,
    CheckpointError,
    LatestCheckpoint,
    find_latest_checkpoint,
    load_checkpoint,
)

FILES = 4
"""Checkpoints that exist at once at most: best, last, previous, and the one being written."""
STATE_PER_WEIGHT = 3
"""A weight and two moments of Adam; an estimate for a run that has no checkpoint yet."""
BESIDE_BYTES = 8_000_000
"""Room for the record, the log, and what else a run writes."""


def require_same_configuration(run: RunDirectory, config: Mapping[str, Any]) -> None:
    """See to it that what is recorded in `run` is the configuration that is asked for: its name has 8 digits of a hash.

    Raises:
        RequestError: another configuration is recorded there.
    """
    if not run.run_file.is_file():
        return
    if difference := first_difference(run.read()["config"], without_secrets(dict(config))):
        key, theirs, ours = difference
        raise RequestError(
            f"{run.path}: holds the run of another configuration, {key} is {theirs} there and {ours} here; nothing was "
            "changed. Take another name=NAME, or --force trains anew and keeps the other run."
        )


def require_loaded_code(config: Mapping[str, Any]) -> None:
    """See to it that this process runs the code that stands in the user's files: Python reads a file once.

    Raises:
        RequestError: a file was edited since; a notebook's kernel or a script that trains twice would run the old code.
    """
    if names := edited(config):
        raise RequestError(
            f"{few(names)}: edited after this process imported it, so the code of before would be trained. Restart "
            "Python (in a notebook, the kernel), or importlib.reload the module; nothing was changed."
        )


def require_same_code(run: RunDirectory, *, keep_code_change: bool) -> None:
    """See to it that a result is not taken for that of code which has been edited since.

    Args:
        keep_code_change: go on all the same, and tell which files differ.

    Raises:
        RequestError: the code has changed.
    """
    if not run.run_file.is_file() or not (names := changed_code(run.read())):
        return
    told = f"{run.path}: the code has changed since this run ({few(names)})"
    if not keep_code_change:
        raise RequestError(
            f"{told}, and its result belongs to the code of then; nothing was changed. --force trains anew and keeps "
            "the earlier run; --keep-code-change takes it as it is, and goes on where it is not finished."
        )
    say(f"warning: {told}; --keep-code-change was given")


def set_remains_aside(run: RunDirectory) -> None:
    """Rename a folder that has a checkpoint or metrics and no `run.json`: what it is a part of is not known.

    It was removed, or is copied still, while something wrote to it.
    """
    if not run.run_file.is_file() and (run.last.parent.is_dir() or run.metrics_file.is_file()):
        say(
            f"warning: {run.path} holds no run.json, so the run begins anew; the rest is kept in {run.set_aside()}"
        )


def require_same_data(run: RunDirectory, data: Any) -> None:
    """See to it that a run never mixes two data sets.

    Raises:
        RequestError: the run was begun with other files.
    """
    if run.run_file.is_file() and (changed := changed_data(run.read(), data)):
        raise RequestError(
            f"{changed}: {run.path} is left as it is. Put the file back as it was to go on, or --force starts anew "
            "and keeps the old run."
        )


def find_checkpoint(run: RunDirectory, config: Mapping[str, Any], task: Any) -> LatestCheckpoint | None:
    """The checkpoint that the run goes on from, or None for a new run.

    A damaged `last.ckpt` or `best.ckpt` is set aside with a remark: the run then goes on from the one before it, or
    seeks the best anew.

    Raises:
        CheckpointError: there are checkpoints, and none of them can be read.
        RequestError: the checkpoint is of another run, or another model.
    """
    folder = run.last.parent
    found = find_latest_checkpoint(folder)
    if found is None:
        return None
    _refuse_foreign(found, config, task)
    step = found.checkpoint["global_step"]
    if found.damaged is not None:
        path, reason = found.damaged
        kept = set_aside(path, "damaged")
        say(
            f"warning: {reason}\nit is kept as {kept}; going on from the one before it, {found.path} (step {step})"
        )
    best = folder / BEST
    if best.is_file():
        try:
            load_checkpoint(best)
        except CheckpointError as error:
            kept = set_aside(best, "damaged")
            say(
                f"warning: {error}\nit is kept as {kept}; the best is sought anew from step {step} of {found.path} on"
            )
    return found


def _refuse_foreign(found: LatestCheckpoint, config: Mapping[str, Any], task: Any) -> None:
    """Raise `RequestError` unless the checkpoint is of this very run."""
    path, checkpoint = found.path, found.checkpoint
    fix = "; nothing was changed. Move it away, or --force starts anew and keeps the old run."
    missing = [
        key for key in ("gatelab", "state_dict", "global_step", "hyper_parameters") if key not in checkpoint
    ]
    if missing:
        raise RequestError(f"{path}: not a checkpoint of Gatelab, it has no '{missing[0]}'{fix}")
    other = checkpoint["hyper_parameters"].get("config")
    if other is not None and (difference := first_difference(other, without_secrets(dict(config)))):
        key, theirs, ours = difference
        raise RequestError(
            f"{path}: a checkpoint of another run, {key} is {theirs} there and {ours} here{fix}"
        )
    if found_mismatch := mismatch(checkpoint["state_dict"], task.state_dict()):
        raise RequestError(f"{path}: a checkpoint of another model, {found_mismatch} here{fix}")


def require_space(run: RunDirectory, task: Any) -> None:
    """See to it that the run's checkpoints fit on the disk.

    Raises:
        RequestError: they do not.
    """
    folder = run.last.parent
    sizes = [path.stat().st_size for path in folder.glob("*.ckpt")]
    weights = sum(p.numel() * p.element_size() for p in task.parameters())
    largest = max([STATE_PER_WEIGHT * weights, *sizes])
    needed = FILES * largest - sum(sizes) + BESIDE_BYTES
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise RequestError(
            f"paths.root: {free / 1e6:.1f} MB are free at {folder}, and this run may need {needed / 1e6:.1f} MB "
            "for its checkpoints. Make room, or move it with paths.root=DIR."
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
