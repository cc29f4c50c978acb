"""What a sweep costs beside its training: the same eight short trainings, two at a time, by several tools in turns.

Every tool trains the same eight configurations (one GRU, one series, eight learning rates) to the end and scores the
best checkpoint on the validation split; the clock runs from the start of its command to the end of it, imports and
reports included. The values are compared. `gatelab` keeps a record of each run and a report beside that, and gives
each run a process of its own; so does Ray Tune, while Optuna runs two threads in one process and hydra-optuna-sweeper
with joblib trains in two processes that are used again.

Two of the tools need an environment of their own (Python 3.11):
  python -m venv hydra-optuna && hydra-optuna/bin/pip install 'optuna<3' hydra-optuna-sweeper hydra-joblib-launcher
  hydra-optuna/bin/pip install -c constraints.txt torch pytorch-lightning torchmetrics pydantic pandas pyarrow pooch \\
      tqdm filelock tokenizers matplotlib rich scipy && hydra-optuna/bin/pip install --no-deps -e .
  python -m venv ray && ray/bin/pip install -e . 'ray[tune]>=2.40'

examples:
  python -m scripts.bench.overhead --hydra-optuna-python hydra-optuna/bin/python --ray-python ray/bin/python
  python -m scripts.bench.overhead --rounds 1 --output figures.json      the file's rounds and one more
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatelab.run.frozen_run import child_environment
from scripts.bench.overhead_figures import Turn, disagreement, ratios, show

RATES = (1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 1e-2)
RUN = (
    "data=embedded_series",
    "model=gru",
    "model.hidden_size=32",
    "trainer.max_epochs=1",
    "trainer.max_steps=60",
    "trainer.val_check_interval=null",
    "callbacks.progress=null",
    "test=false",
)
"""What every tool trains; a run takes a second or two."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_AIR_NEW_OUTPUT": "0", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Contender:
    """A tool.

    Attributes:
        name: in the table.
        python: of its environment; None: it was not given.
        option: that gives it.
    """

    name: str
    python: Path | None
    option: str = ""

    def command(self, plan: Path, folder: Path) -> list[str]:
        """The command that carries the eight trials out; it writes `values.json` into `folder` (gatelab: a study)."""
        python = str(self.python)
        if self.name == "gatelab":
            rates = ",".join(map(str, RATES))
            means = ["study=bench", "study.slots=2", "study.threads=1", f"paths.root={folder}"]
            return [python, "-m", "gatelab", "sweep", *RUN, f"optim.lr={rates}", *means]
        return [
            python,
            "-m",
            f"scripts.bench.overhead_with_{self.name.replace('-', '_')}",
            str(plan),
            str(folder),
        ]

    def values(self, folder: Path) -> list[float]:
        """The value of each trial, in the order of the learning rates."""
        if self.name != "gatelab":
            return [float(value) for value in json.loads((folder / "values.json").read_text())]
        summary = json.loads((folder / "studies/bench/summary.json").read_text())
        return [float(trial["value"]) for trial in summary["trials"]]


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    contenders = [
        Contender("gatelab", Path(sys.executable)),
        Contender("optuna", Path(sys.executable)),
        Contender("hydra-optuna", options.hydra_optuna_python, "--hydra-optuna-python"),
        Contender("ray-tune", options.ray_python, "--ray-python"),
    ]
    for contender in contenders:
        if contender.python is None:
            print(f"{contender.name} is left out: give {contender.option}", file=sys.stderr)
    contenders = [contender for contender in contenders if contender.python is not None]
    document = begin(options.output)
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as temporary:
        plan = write_plan(Path(temporary))
        for _ in range(options.rounds):
            number = len(document["rounds"])
            turns = {c.name: turn(c, plan, Path(temporary) / f"{number}-{c.name}") for c in contenders}
            document["rounds"].append({name: vars(this) for name, this in turns.items()})
            document["versions"] |= {c.name: versions(c) for c in contenders}
    document["ratios"] = ratios(document["rounds"])
    document["largest_difference"] = disagreement(document["rounds"])
    print(show(document))
    if options.output:
        options.output.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--hydra-optuna-python", type=Path, metavar="FILE", help="python with hydra-optuna-sweeper"
    )
    p.add_argument("--ray-python", type=Path, metavar="FILE", help="python with Ray Tune")
    p.add_argument("--rounds", type=int, default=3, help="turns of each tool (default: %(default)s)")
    p.add_argument("--output", type=Path, metavar="FILE", help="JSON; rounds that it holds already are kept")
    return p


def begin(output: Path | None) -> dict[str, Any]:
    """The document so far: that of an earlier call on the same kind of machine, or an empty one."""
    fresh = {
        "run": list(RUN),
        "rates": list(RATES),
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {},
        "rounds": [],
    }
    if output is None or not output.is_file():
        return fresh
    there: dict[str, Any] = json.loads(output.read_text())
    for key in ("run", "rates", "processor", "cores"):
        if there[key] != fresh[key]:
            raise SystemExit(f"{output}: its rounds are of another {key} ({there[key]}); give another file")
    return there | {"date": fresh["date"]}


def write_plan(folder: Path) -> Path:
    """The checked configuration and the learning rates, for tools that know nothing of Gatelab's."""
    from gatelab.run.config.compose import compose
    from gatelab.run.config.schema import check

    plan = folder / "plan.json"
    config = check(compose([*RUN, f"paths.root={folder}"]))
    plan.write_text(json.dumps({"config": config, "rates": RATES}))
    return plan


def turn(contender: Contender, plan: Path, folder: Path) -> Turn:
    """Let one tool carry the eight trials out, and stop the time."""
    folder.mkdir()
    command = contender.command(plan, folder)
    with (folder / "log").open("w") as log:
        began = time.perf_counter()
        code = subprocess.run(
            command, cwd=folder, env={**child_environment(), **ENVIRONMENT}, stdout=log, stderr=log
        ).returncode
        seconds = time.perf_counter() - began
    if code != 0:
        raise SystemExit(
            f"{contender.name} ended with exit code {code}:\n{(folder / 'log').read_text()[-3000:]}"
        )
    print(f"{contender.name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return Turn(seconds=round(seconds, 3), values=contender.values(folder))


def versions(contender: Contender) -> dict[str, str]:
    """Of the packages that matter, in a tool's environment."""
    code = (
        "import importlib.metadata as m, json, platform; "
        "names = ['gatelab', 'torch', 'pytorch-lightning', 'optuna', 'hydra-core', 'hydra-optuna-sweeper', "
        "'hydra-joblib-launcher', 'joblib', 'ray']; "
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}; "
        "print(json.dumps({'python': platform.python_version(), **{n: have[n] for n in names if n in have}}))"
    )
    said = subprocess.run([str(contender.python), "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(said.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
