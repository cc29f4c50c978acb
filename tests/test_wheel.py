"""The wheel holds the package, every configuration and the licence, and nothing of the checkout besides."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gatelab.core.backends.native.compile import CompileError, compiler, isas, object_name

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    return set(zipfile.ZipFile(build(ROOT, tmp_path_factory.mktemp("wheel"))).namelist())


def build(source, folder, **environment):
    """The wheel of `source`, built into `folder`."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_every_configuration_is_in_the_wheel(names):
    configurations = {p.relative_to(ROOT).as_posix() for p in (ROOT / "conf").rglob("*.yaml")}
    assert configurations
    assert {f"gatelab/{name}" for name in configurations} <= names


def test_every_module_is_in_the_wheel(names):
    modules = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src/gatelab").rglob("*.py")}
    assert modules <= names
    templates = {
        p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src/gatelab/report/templates").iterdir()
    }
    assert {Path(name).name for name in templates} >= {"base.html.j2", "page.html.j2", "page.css", "page.js"}
    assert templates <= names


def test_nothing_else_is(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gatelab"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_dispatch_table_and_the_kernel_are_in_the_wheel(names):
    assert "gatelab/core/backends/dispatch.json" in names
    try:
        compiler()
    except CompileError as error:
        pytest.skip(str(error))
    assert {f"gatelab/core/backends/native/{object_name(isa)}" for isa in isas()} <= names


def test_without_a_compiler_the_wheel_is_built_without_the_kernel(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    wheel = build(source, tmp_path, CC="no-such-compiler")
    assert "-none-any" in wheel.name
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
