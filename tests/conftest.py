"""What every test may ask for: the folder of real corpora, a cache of its own, and two threads so that runs compare."""

import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .studies_by_hand import Maker, choice, interval

torch.set_num_threads(min(2, os.cpu_count() or 1))
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, here and in every process that a test starts


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `quick(n)`, n cases drawn from all of its family are quick, and the others slow, or `rest`.

    Of one marked twice, the larger n is drawn first and the smaller from what is left.
    """
    families = defaultdict(list)
    for item in items:
        for found in item.iter_markers("quick"):
            rest = found.kwargs.get("rest", "slow")
            families[found.args[0], rest, item.nodeid.partition("[")[0]].append(item)
    for (n, rest, name), family in sorted(families.items(), key=lambda one: one[0], reverse=True):
        left = [item for item in family if item.get_closest_marker("slow") is None]
        for item in random.Random(name).sample(left, max(0, len(left) - n)):
            item.add_marker(rest)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror of public data sets that GATELAB_DATA_MIRROR names."""
    if not (named := os.environ.get("GATELAB_DATA_MIRROR")):
        pytest.skip("no data mirror: set GATELAB_DATA_MIRROR to a folder with the corpora")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"no data mirror: GATELAB_DATA_MIRROR={folder} is not a folder")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; what one has worked out of a corpus, the others find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATELAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def no_alarm() -> Iterator[None]:
    """The time limit of the test has no alarm: a run heeds one only where nobody else does."""
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def make_study(tmp_path):
    """`make_study(name, space, trials, **settings)`: the folder of a new study below `tmp_path`."""
    return Maker(tmp_path)


@pytest.fixture
def grid(make_study):
    """A finished study of 2 models x 3 hidden sizes x 3 seeds, made by hand."""
    return make_study.grid("grid")


@pytest.fixture
def entries():
    """`choice` and `interval`: the space entries of study.json."""
    return choice, interval
