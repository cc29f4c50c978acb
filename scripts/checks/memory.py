"""Train on a corpus that is larger than the memory the run may take, and say how much it took.

The corpus is a sparse file of bytes (data.level=byte), so the token file is as large as it. Everything lies in a
temporary folder and is removed. The whole command is measured: hashing, encoding, baselines, training, validation.

examples:
  python -m scripts.checks.memory                       # 4 GiB of tokens within 1.5 GiB
  python -m scripts.checks.memory --gib 0.5 --most 0.7
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from pathlib import Path

from scripts.harness import environment, gatelab, parser

GIB = 1 << 30


def peak_of_training(folder: Path, size: int, steps: int) -> int:
    """Train `steps` steps on `size` bytes below `folder`; return the peak resident memory in bytes."""
    with (folder / "corpus.bin").open("wb") as file:
        file.truncate(size)
        for place in range(0, size, size // 64):  # not all zero
            file.seek(place)
            file.write(bytes(range(256)))
    (folder / "valid.bin").write_bytes(bytes(range(256)) * 8)
    paths = [f"data.path={folder}/corpus.bin", f"data.valid_path={folder}/valid.bin", f"paths.root={folder}"]
    small = ["model.hidden_size=16", f"trainer.max_steps={steps}", "callbacks.progress=null"]
    command = gatelab("train", "data=text", "data.level=byte", *paths, *small)
    subprocess.run(command, env=environment(GATELAB_CACHE=str(folder / "cache")), check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main() -> int:
    """Run the check; 1 if the run took more than it may."""
    options = parser(__doc__)
    options.add_argument("--gib", type=float, default=4.0, help="size of the token file (default: 4)")
    options.add_argument("--most", type=float, default=1.5, help="GiB that the run may take (default: 1.5)")
    options.add_argument("--steps", type=int, default=200, help="training steps (default: 200)")
    given = options.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_of_training(Path(folder), int(given.gib * GIB), given.steps)
    fine = peak <= given.most * GIB
    print(
        f"{given.gib:g} GiB of tokens, {given.steps} steps: at most {peak / GIB:.2f} GiB resident, "
        f"{'within' if fine else 'more than'} {given.most:g} GiB; {time.perf_counter() - start:.0f} s"
    )
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
