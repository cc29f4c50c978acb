"""Compiles the kernel's C source, once per instruction set, into shared objects beside this file.

Only the standard library is used: the build hook of the package calls it at install, where nothing else can be
imported. `python -m gatelab.core.backends.native.compile` builds again in place. It does not choose which object runs
(`kernel.py` does).
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "csrc" / "gru.c"
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
_AVX2 = ["-mavx2", "-mfma"]
_AVX512 = [*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
ISA_FLAGS = {
    "avx512_bf16": [*_AVX512, "-mavx512bf16"],
    "avx512": _AVX512,
    "avx2": _AVX2,
    "portable": [],
}


class CompileError(RuntimeError):
    """The C compiler is missing or refused the source; the text says which."""


def isas() -> list[str]:
    """The instruction sets that make sense on this machine's architecture, the best first."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return list(ISA_FLAGS) if x86 else ["portable"]


def object_name(isa: str) -> str:
    """The file name of the shared object for an instruction set."""
    return f"libgatelab_gru_{isa}.so"


def source_digest() -> str:
    """A digest of the C source as it stands here; each object holds that of the source it was made from."""
    files = sorted(SOURCE.parent.glob("*.[ch]"))
    return hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files)).hexdigest()


def compiler() -> list[str]:
    """The C compiler's command: CC if it is set, else the first of cc, gcc, clang. Raises CompileError."""
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    raise CompileError("no C compiler found (set CC, or install gcc or clang)")


def compile_one(isa: str, target: Path, extra: list[str] | None = None) -> None:
    """Compile for one instruction set. OpenMP is used if the compiler has it. Raises CompileError."""
    made_of = f'-DGRU_SOURCE="{source_digest()}"'
    command = [*compiler(), *FLAGS, made_of, *ISA_FLAGS[isa], *(extra or []), str(SOURCE)]
    # written elsewhere and moved: a running process keeps the object it has loaded
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for openmp in (["-fopenmp"], []):
            result = subprocess.run([*command, *openmp, "-o", str(made)], capture_output=True, text=True)
            if result.returncode == 0:
                os.replace(made, target)
                return
    raise CompileError(f"{shlex.join(command)} failed:\n{result.stderr.strip()}")


def compile_all(folder: Path = HERE) -> list[Path]:
    """Compile for every instruction set of this architecture; returns the objects that were made.

    A compiler too old for an instruction set leaves that one out; CompileError if not even the portable one works.
    """
    made = []
    for isa in isas():
        target = folder / object_name(isa)
        try:
            compile_one(isa, target)
        except CompileError:
            if isa == "portable":
                raise
        else:
            made.append(target)
    return made


if __name__ == "__main__":
    try:
        print("\n".join(str(path) for path in compile_all()))
    except CompileError as error:
        sys.exit(str(error))
