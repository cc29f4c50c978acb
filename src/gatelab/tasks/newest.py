"""Which checkpoint a run goes on from: `last.ckpt`, or the one before it where that is damaged or gone.

It only reads; what is damaged is renamed by `set_aside`, so that it is not taken for the one before when the run saves
again, and nothing is deleted. Whether a checkpoint belongs to the run is the laboratory's business.
"""

from pathlib import Path
from typing import Any, NamedTuple

from gatelab.tasks.checkpoint_io import LAST, PREVIOUS, CheckpointError, load_checkpoint


class Newest(NamedTuple):
    """The newest whole checkpoint.

    path, checkpoint: the file and what it holds; damaged: a newer file that cannot be read, and why, or None.
    """

    path: Path
    checkpoint: dict[str, Any]
    damaged: tuple[Path, str] | None


def newest_checkpoint(folder: str | Path) -> Newest | None:
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
            return Newest(path, load_checkpoint(path), errors[0] if errors else None)
        except CheckpointError as error:
            errors.append((path, str(error)))
    if errors:
        raise CheckpointError("; ".join(text for _, text in errors))
    return None


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged-N`; return its new path."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(target)
    return target
