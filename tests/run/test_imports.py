"""What a command loads, and that the rest is there for whoever asks."""

import json
import subprocess
import sys

import pytest

LOADS = """
import gc, json, sys
from gatelab.run.imports import quickly
with quickly(lightning=True):
    import gatelab.run.train
    assert not gc.isenabled()
first = [name for name in ("scipy", "matplotlib", "pandas") if name in sys.modules]
from lightning_utilities.core.imports import RequirementCache, package_available
import scipy.signal, matplotlib.pyplot, importlib.metadata
print(json.dumps({
    "first": first,
    "enabled": gc.isenabled(),
    "frozen": gc.get_freeze_count(),
    "version": importlib.metadata.version("scipy"),
    "found": package_available("scipy") and bool(RequirementCache("matplotlib")),
    "finders": [str(finder) for finder in sys.meta_path],
}))
"""


@pytest.fixture(scope="module")
def loaded():
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_command_that_trains_loads_neither_scipy_nor_matplotlib_nor_pandas(loaded):
    assert loaded["first"] == []


def test_what_was_left_out_is_there_for_whoever_asks_later(loaded):
    assert loaded["found"]
    assert loaded["version"]
    assert not any("Absent" in finder for finder in loaded["finders"])


def test_garbage_is_looked_for_again_but_not_among_the_libraries(loaded):
    assert loaded["enabled"]
    assert loaded["frozen"] > 100_000
