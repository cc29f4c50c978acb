"""Two gloo processes give the figures of one, and a killed two-process run goes on exactly."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import two_ranks

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def run_two_ranks(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Run the script in two processes; return their reports."""
    common = {
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.tasks.two_ranks", str(folder), kind],
            cwd=ROOT,
            env={**os.environ, **common, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("series", "labels", "pairs")]


@pytest.mark.parametrize("kind", ["text", *SLOW])
@pytest.mark.ci
def test_two_ranks_give_the_figures_of_one_and_resume_exactly(
    kind: str, text_file: Path, tmp_path: Path
) -> None:
    shutil.copy(text_file, tmp_path / "corpus.txt")
    lines = [line for line in text_file.read_text().splitlines() if line.strip()][:200]
    rows = (f"{line},{'long' if len(line) > 8 else 'short'}\n" for line in lines)
    (tmp_path / "labels.csv").write_text("text,label\n" + "".join(rows))
    # one long line alone is a batch, which two ranks could not share: they would have other batches, so other weights
    short = [line for line in lines if len(line) <= 20]
    (tmp_path / "source.txt").write_text("\n".join(short))
    (tmp_path / "target.txt").write_text("\n".join(line.strip()[::-1] for line in short))
    alone = two_ranks.measure(kind, tmp_path, 1)
    first, second = run_two_ranks(tmp_path, kind)
    assert first == second
    for split in ("test", "val"):
        assert first[split].keys() == alone[split].keys()
        for name, value in alone[split].items():
            if name in ("tokens", "windows", "examples", "sentences"):
                assert first[split][name] == value
            elif name == "stitch":
                assert first[split][name] < 1e-5
            else:
                assert first[split][name] == pytest.approx(value, rel=1e-5), name
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert first["resumed"] == first["whole"] != []
