"""Imports point inward only, proved in a fresh interpreter for each ring."""

import json
import subprocess
import sys

import pytest

OUTER = {
    "gatelab": ["torch", "pytorch_lightning", "hydra", "wandb", "pandas"],
    "gatelab.core": [
        "gatelab.data",
        "gatelab.tasks",
        "gatelab.lab",
        "pytorch_lightning",
        "hydra",
        "wandb",
        "pandas",
    ],
    "gatelab.data": ["gatelab.tasks", "gatelab.lab", "pytorch_lightning", "hydra", "wandb"],
    "gatelab.data.text_module": ["gatelab.tasks", "gatelab.lab", "hydra", "omegaconf"],
    "gatelab.data.series_module": ["gatelab.tasks", "gatelab.lab", "hydra", "omegaconf"],
    "gatelab.tasks": ["gatelab.lab", "gatelab.cli", "hydra", "omegaconf"],
    "gatelab.lab.train": ["gatelab.cli", "wandb", "tensorboard"],
    "gatelab.lab.schema": ["gatelab.cli", "torch", "pytorch_lightning", "pandas"],
    "gatelab.lab.record": ["gatelab.cli", "torch", "pytorch_lightning", "pandas"],
    "gatelab.lab.study.live": ["gatelab.cli", "torch", "pytorch_lightning", "pandas", "matplotlib"],
    "gatelab.lab.report.page": [
        "gatelab.cli",
        "torch",
        "pytorch_lightning",
        "pandas",
        "matplotlib",
        "plotly",
    ],
    "gatelab.lab.study.report": ["gatelab.cli", "torch", "pytorch_lightning", "pandas", "matplotlib"],
    "gatelab.cli.main": ["torch", "hydra", "pytorch_lightning", "wandb", "numpy"],
}


@pytest.mark.parametrize("module", OUTER)
def test_a_ring_imports_nothing_from_outside_itself(module):
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert module in loaded
    assert loaded.isdisjoint(OUTER[module])
