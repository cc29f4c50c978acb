"""The wheel holds the package, every configuration and the licence, and nothing of the checkout besides."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_every_configuration_is_in_the_wheel(names):
    configurations = {p.relative_to(ROOT).as_posix() for p in (ROOT / "conf").rglob("*.yaml")}
    assert configurations
    assert {f"gatelab/{name}" for name in configurations} <= names


def test_every_module_is_in_the_wheel(names):
    modules = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src/gatelab").rglob("*.py")}
    assert modules <= names


def test_nothing_else_is(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} <= {"gatelab", "hydra_plugins"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
