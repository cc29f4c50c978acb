"""Imports point inward only: by what each ring loads in a fresh interpreter, and by every import in the source."""

import ast
import json
import subprocess
import sys
from functools import cache
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

FRAMEWORKS = ("pytorch_lightning", "torchmetrics", "hydra", "omegaconf", "wandb")
HEAVY = ("torch", "pandas", "matplotlib", *FRAMEWORKS)
PURE = ("fetch", "folds", "specs", "synthetic", "text.corpora", "text.streams", "text.tokenizer")
LOADS_NONE_OF = {
    "the command line": {"import gatelab.cli.main": ["numpy", *HEAVY]},
    "what needs no torch": {
        "import gatelab": ["numpy", "pydantic", "gatelab.core", "gatelab.data", *HEAVY],
        "import gatelab.data": ["gatelab.tasks", *HEAVY],
        "import gatelab.run.record.directory": ["gatelab.cli", "torch", "pytorch_lightning", "pandas"],
        "import gatelab.study.sweep": [
            "gatelab.report",
            "gatelab.cli",
            "torch",
            "pytorch_lightning",
            "matplotlib",
        ],
        "import gatelab.report.text": ["gatelab.cli", "torch", "pytorch_lightning", "pandas", "matplotlib"],
        "import gatelab.report.page": [
            "gatelab.cli",
            "torch",
            "pytorch_lightning",
            "pandas",
            "matplotlib",
            "plotly",
        ],
    },
    "what needs torch": {
        "import gatelab; gatelab.GRU": ["gatelab.data", "gatelab.tasks", "pydantic", "pandas", *FRAMEWORKS],
        **{f"import gatelab.data.{part}": ["gatelab.tasks", *FRAMEWORKS] for part in PURE},
        "import gatelab.data.series.table, gatelab.data.series.baselines": ["gatelab.tasks", *FRAMEWORKS],
        "from gatelab.data import *": ["gatelab.tasks", "gatelab.run", "hydra", "omegaconf", "wandb"],
        "import gatelab.tasks": ["gatelab.run", "gatelab.cli", "hydra", "omegaconf"],
        "import gatelab.run.train": [
            "gatelab.study",
            "gatelab.trackers",
            "gatelab.report",
            "gatelab.cli",
            "wandb",
        ],
    },
}
"""One fresh interpreter each, in which one statement follows the other, those of outer rings last."""
CODE = """
import json, sys
loaded = {}
for statement in sys.argv[1:]:
    exec(statement)
    loaded[statement] = [*sys.modules]
print(json.dumps(loaded))
"""


@pytest.mark.parametrize("what", LOADS_NONE_OF)
def test_a_ring_loads_nothing_from_outside_itself(what):
    command = [sys.executable, "-c", CODE, *LOADS_NONE_OF[what]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    for statement, modules in loaded.items():
        assert {*modules}.isdisjoint(LOADS_NONE_OF[what][statement]), statement
    assert ("torch" in modules) == (what == "what needs torch")


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
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
