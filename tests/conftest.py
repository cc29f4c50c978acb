"""What every test may ask for: the folder of real corpora, a cache of its own, and two threads so that runs compare."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror of public data sets: GATELAB_DATA_MIRROR, else ../shared/data beside the checkout."""
    named = os.environ.get("GATELAB_DATA_MIRROR")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data mirror: {folder} is no folder; set GATELAB_DATA_MIRROR to one")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; what one has worked out of a corpus, the others find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATELAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
