"""The data ring imports inward only, and `import gatelab.data` is light."""

import json
import subprocess
import sys

import gatelab.data

CODE = """
import json, sys
{statement}
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def modules_after(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(statement=statement)], capture_output=True, check=True
    )
    return set(json.loads(done.stdout))


def test_importing_the_ring_is_light():
    assert not {"torch", "pandas", "pytorch_lightning", "hydra", "omegaconf"} & modules_after(
        "import gatelab.data"
    )


def test_pure_parts_do_without_lightning():
    parts = (
        "fetch folds specs synthetic text.corpora text.streams text.tokenizer series.table series.baselines"
    )
    statement = "; ".join(f"import gatelab.data.{part}" for part in parts.split())
    assert not {"pytorch_lightning", "torchmetrics", "hydra", "omegaconf"} & modules_after(statement)


def test_whole_ring_does_without_hydra():
    assert not {"hydra", "omegaconf", "wandb"} & modules_after("from gatelab.data import *")


def test_every_public_name_can_be_had():
    assert all(getattr(gatelab.data, name) is not None for name in gatelab.data.__all__)
    assert dir(gatelab.data) == sorted(gatelab.data.__all__)
