"""The kernel's own fuzz (driver.c) under AddressSanitizer and UBSan, for every instruction set that runs here."""

import subprocess
from pathlib import Path

import pytest

from gatelab.core.backends.native import load
from gatelab.core.backends.native.compile import FLAGS, ISA_FLAGS, compiler
from gatelab.core.backends.native.kernel import ISAS

DRIVER = Path(__file__).with_name("driver.c")
CHECKS = [
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]


SLOW = [
    pytest.param(isa, extra, 300, marks=pytest.mark.slow)
    for isa, extra in [*((isa, []) for isa in ISAS), ("portable", ["-DW=16", "-Wno-psabi"])]
]


@pytest.mark.parametrize(("isa", "extra", "cases"), [("portable", [], 20), *SLOW])
@pytest.mark.ci
def test_the_fuzz_is_clean_under_the_sanitizers(isa, extra, cases, tmp_path):
    if ISAS.index(isa) > ISAS.index(load("portable").processor) or (isa != "portable" and not ISA_FLAGS[isa]):
        pytest.skip(f"this processor cannot run {isa}")
    flags = [f for f in FLAGS if f not in ("-shared", "-fPIC", "-O3")]
    program = tmp_path / "driver"
    command = [
        *compiler(),
        *flags,
        *ISA_FLAGS[isa],
        *CHECKS,
        *extra,
        "-fopenmp",
        str(DRIVER),
        "-lm",
        "-o",
        str(program),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and ("asan" in built.stderr or "cannot find" in built.stderr):
        pytest.skip("the compiler has no sanitizers here")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program), str(cases), "7"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "none differed" in done.stdout
