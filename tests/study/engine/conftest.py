"""Real studies of tiny runs: a character model of a thousand weights, seconds each."""

import os
from pathlib import Path

import pytest

from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.queue import Queue
from gatelab.study.engine.runner import ForkRunner
from gatelab.study.plan.grid import grid
from gatelab.study.plan.new_study import draft, write
from gatelab.study.plan.request import read_request
from gatelab.study.spec import sources_of

TINY = [
    "experiment=quickstart",
    "trainer.max_epochs=1",
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=3",
    "model.hidden_size=4",
    "data.max_characters=20000",
    "callbacks=none",
    "study.threads=1",
]


HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "src"


@pytest.fixture(scope="session")
def importable():
    """Let runs import `probe` and `spy`, which stand beside this file."""
    patch = pytest.MonkeyPatch()
    before = os.environ.get("PYTHONPATH")
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), str(SOURCE), before))))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def runner(importable):
    """One fork server for all studies here: it takes seconds to begin."""
    made = ForkRunner()
    yield made
    made.close()


@pytest.fixture
def make_study(tmp_path):
    """`make_study("name", overrides...)`: a frozen study with its rows."""

    def make(name, *overrides, root=tmp_path):
        return write_study(root, name, *overrides)

    return make


def write_study(root: Path, name: str, *overrides: str) -> StudyDirectory:
    sources = sources_of([])
    swept = {override.split("=")[0] for override in overrides}
    tiny = [override for override in TINY if override.split("=")[0] not in swept]
    frozen = draft(read_request([*tiny, *overrides, f"paths.root={root}"], sources), name, sources)
    listed = frozen.settings.strategy == "grid"
    points = grid(frozen.space) if listed else [None] * (frozen.settings.n_trials or 4)
    directory = StudyDirectory(root / "studies" / name)
    write(frozen, points, directory.path, root)
    Queue(directory).fill(points)
    return directory
