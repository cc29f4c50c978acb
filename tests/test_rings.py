"""Imports point inward only: by what each ring loads in a fresh interpreter, and by every import in the source."""

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "gatelab"
RINGS = ("core", "data", "tasks", "run", "study", "report", "cli")
"""From the inside out."""
NOT_BESIDE = {
    "core": {"trackers"},
    "data": {"trackers"},
    "tasks": {"trackers"},
    "run": {"trackers"},
    "study": {"trackers"},
    "trackers": {"study", "report", "cli"},
}
"""`trackers` lies between run and report, beside study: neither imports the other."""

LOADS_NONE_OF = {
    "gatelab": ["torch", "pytorch_lightning", "hydra", "wandb", "pandas"],
    "gatelab.core": ["gatelab.data", "gatelab.tasks", "pytorch_lightning", "hydra", "wandb", "pandas"],
    "gatelab.data": ["gatelab.tasks", "pytorch_lightning", "hydra", "wandb"],
    "gatelab.data.text.module": ["gatelab.tasks", "gatelab.run", "hydra", "omegaconf"],
    "gatelab.data.series.module": ["gatelab.tasks", "gatelab.run", "hydra", "omegaconf"],
    "gatelab.tasks": ["gatelab.run", "gatelab.cli", "hydra", "omegaconf"],
    "gatelab.run.train": ["gatelab.study", "gatelab.trackers", "gatelab.report", "gatelab.cli", "wandb"],
    "gatelab.run.record.directory": ["gatelab.cli", "torch", "pytorch_lightning", "pandas"],
    "gatelab.study.sweep": ["gatelab.report", "gatelab.cli", "torch", "pytorch_lightning", "matplotlib"],
    "gatelab.report.text": ["gatelab.cli", "torch", "pytorch_lightning", "pandas", "matplotlib"],
    "gatelab.report.page": ["gatelab.cli", "torch", "pytorch_lightning", "pandas", "matplotlib", "plotly"],
    "gatelab.cli.main": ["torch", "hydra", "pytorch_lightning", "wandb", "numpy"],
}


@pytest.mark.parametrize("module", LOADS_NONE_OF)
def test_a_ring_loads_nothing_from_outside_itself(module):
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert module in loaded
    assert loaded.isdisjoint(LOADS_NONE_OF[module])


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    """Of every module in the package, the modules of the package that it imports anywhere, types included."""
    modules = {module_name(file): file for file in PACKAGE.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for name, file in modules.items():
        named: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= {i if i in modules else node.module for i in inner}
        found[name] = {n for n in named if n in modules and n != name}
    return found


def ring(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_ring_imports_an_outer_one():
    rank = {name: i for i, name in enumerate(RINGS)}
    upward = [
        f"{importer} -> {imported}"
        for importer, targets in imports().items()
        for imported in targets
        if ring(importer) in rank and ring(imported) in rank and rank[ring(importer)] < rank[ring(imported)]
    ]
    assert not upward


def test_trackers_are_known_to_reports_and_commands_only():
    named = imports()
    assert any(ring(module) == "trackers" for module in named)
    assert not [
        f"{importer} -> {imported}"
        for importer, targets in named.items()
        for imported in targets
        if ring(imported) in NOT_BESIDE.get(ring(importer), ())
    ]


def test_no_import_circle():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
