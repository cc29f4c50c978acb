"""A process that trains beside the first one of a run, which alone keeps the record.

Lightning has started it on the same machine, or torchrun on any. It decides nothing: configuration and run directory
are those of rank 0. What rank 0 does is `train.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from gatelab.run.build import build_data, prepare_process
from gatelab.run.errors import Interrupted, RequestError
from gatelab.run.nodes import Dismissed, ranks
from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.callbacks import RunInterrupted
from gatelab.tasks.signals import RANK_OF, launched, rank


def train_as_rank(callbacks: Sequence[Any] = ()) -> dict[str, Any]:
    """Take part in the run of rank 0.

    A run that stops early in good order ends here without an error: a process that failed would be taken for one
    that breaks the run, and the first one would be killed while it writes its record.

    Args:
        callbacks: Lightning callbacks beside the configured ones, as rank 0 has them.

    Returns:
        the outcome `rank`, and which `rank`.

    Raises:
        RequestError: this machine lacks something that the run needs.
        Interrupted: the run was stopped, and this machine has no rank 0 to say so.
    """
    done = {"outcome": "rank", "rank": rank()}
    try:
        if launched():
            _by_torchrun(callbacks)
        else:
            run = RunDirectory(os.environ[RANK_OF])
            _fit(run, run.read()["config"], callbacks)
    except Dismissed:
        return done
    except RunInterrupted as error:
        if int(os.environ.get("GROUP_RANK", 0)) > 0:
            raise Interrupted(str(error)) from None
    return done


def _by_torchrun(callbacks: Sequence[Any]) -> None:
    others = ranks()
    try:
        word = others.hear()
        _fit(RunDirectory(word["run"]), word["config"], callbacks, word["step"])
    except (Dismissed, RunInterrupted):
        raise
    except Exception as error:
        others.refuse(error)  # rank 0 tells it, if it has not begun; later nobody reads it
        raise


def _fit(
    run: RunDirectory, plain: Mapping[str, Any], callbacks: Sequence[Any], step: int | None = None
) -> None:
    from gatelab.run.train import fit  # which imports this file

    prepare_process(plain)
    data = build_data(plain)
    for name, sha256 in (run.read().get("data") or {}).items():
        if data.fingerprint.get(name) != sha256:
            raise RequestError(f"data: {name} is another file on this machine than on that of rank 0.")
    fit(run, dict(plain), data, callbacks, expected=step)
