"""The small runs that are interrupted: 20 steps in two epochs, a validation every five steps, dropout, a schedule.

A text is read in streams whose state is carried from window to window; a series is read in windows of random order.
Configurations go through all of Gatelab's own checks. Nothing is trained here.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelab.run.config.compose import compose
from gatelab.run.config.schema import check
from gatelab.run.record.identity import Identity, identify

STEPS = 20
COMMON = [
    "model.hidden_size=8",
    "model.num_layers=2",
    "model.dropout=0.3",
    "task.net.dropout=0.3",
    "schedule=cosine",
    "optim.lr=1e-2",
    "trainer.max_epochs=2",
    "trainer.val_check_interval=5",
    "trainer.log_every_n_steps=3",
    "callbacks.progress=null",
    "callbacks.throughput=null",  # what the machine does is not the same twice
    "callbacks.memory=null",
    "threads=1",
]
TASKS = {
    "text": [
        *(
            "data=text",
            "data.batch_size=4",
            "data.window=16",
            "data.eval_batch_size=2",
            "data.eval_window=32",
        ),
        "data.burn_in=20",
    ],
    "series": [
        *(
            "data=lorenz",
            "data.lookback=8",
            "data.horizon=4",
            "data.batch_size=700",
            "data.eval_batch_size=512",
        ),
    ],
}


@dataclass(frozen=True, order=True)
class Kind:
    """A sort of run: its task, its loader workers, its processes."""

    task: str
    workers: int
    ranks: int

    def __str__(self) -> str:
        return f"{self.task}, {self.workers} workers, {self.ranks} rank{'s' if self.ranks > 1 else ''}"


class Request:
    """A run's checked configuration, to be trained in any folder.

    Args:
        kind: which sort; root: for its data and what follows from them; more: further overrides.
    """

    def __init__(self, kind: Kind, root: Path, more: tuple[str, ...] = ()) -> None:
        self.kind = kind
        composed = compose([*COMMON, *TASKS[kind.task], *_files(kind, root), f"paths.root={root}", *more])
        self._plain, self.identity = check(composed), identify(composed)

    def below(self, folder: Path) -> dict[str, Any]:
        """The configuration with its run directory below `folder`."""
        plain = copy.deepcopy(self._plain)
        plain["paths"]["runs"] = str(folder)
        return plain

    def directory(self, folder: Path) -> Path:
        """Where the run lies below `folder`."""
        identity: Identity = self.identity
        return identity.directory(folder)


def _files(kind: Kind, root: Path) -> list[str]:
    given = [f"data.num_workers={kind.workers}"]
    if kind.ranks > 1:
        given += ["trainer=ddp_cpu", f"trainer.devices={kind.ranks}"]
    if kind.task == "text":
        for name, length in (("train", 641), ("valid", 200), ("test", 200)):
            path = root / f"{name}.txt"
            path.write_text("".join(random.Random(name).choices("abcdefgh \n", k=length)))
            given.append(f"data.{'' if name == 'train' else name + '_'}path={path}")
    return given
