"""What a sweep costs beside its training: the same eight short trainings, two at a time, by several tools in turns.

Every tool trains the same eight configurations (one GRU, one series, eight learning rates) to the end and scores the
best checkpoint on the validation split; the clock runs from the start of its command to the end of it, imports and
reports included. The values are compared. `gatelab` keeps a record of each run and a report beside that, and gives
each run a process of its own; so does Ray Tune, while Optuna runs two threads in one process.

Ray Tune needs an environment of its own:
  python -m venv ray && ray/bin/pip install -e . 'ray[tune]>=2.40'

examples:
  python -m scripts.bench.overhead --ray-python ray/bin/python --other ../before
  python -m scripts.bench.overhead --rounds 1 --output figures.json      the file's rounds and one more
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from scripts.harness import ROOT, checkouts, environment, parser, read_json, run, show, write_json

OURS = "gatelab"
RATES = (1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 1e-2)
RUN = [
    *(
        "data=embedded_series",
        "model=gru",
        "model.hidden_size=32",
        "trainer.max_epochs=1",
        "trainer.max_steps=60",
    ),
    *("trainer.val_check_interval=null", "callbacks.progress=null", "test=false"),
]
"""What every tool trains; a run takes a second or two."""
ENVIRONMENT = {"RAY_AIR_NEW_OUTPUT": "0", "TOKENIZERS_PARALLELISM": "false"}
INITIALISING = threading.Lock()
"""Held while a network is drawn. It is not enough for threads: a step of one seeds the generator that all share."""
Round = Mapping[str, Mapping[str, Any]]


# one trial, as Optuna and Ray Tune carry it out: the training that Gatelab's own run does, without its record


def train(config: dict[str, Any], rate: float, folder: str) -> float:
    """Train with a learning rate; the monitored metric of the best checkpoint on the validation split."""
    import pytorch_lightning as pl
    import torch

    from gatelab.run.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
    from gatelab.run.evaluate import evaluate_split
    from gatelab.run.record.metrics_logger import MetricsCSV
    from gatelab.tasks import load_checkpoint

    plain = copy.deepcopy(config)
    plain["optim"]["lr"] = rate
    directory = Path(folder) / f"{rate:g}"
    torch.set_num_threads(1)
    prepare_process(plain)
    data = build_data(plain)
    with INITIALISING:
        pl.seed_everything(plain["seed"], workers=False, verbose=False)
        task = build_task(plain, data.spec)
    callbacks = build_callbacks(plain, checkpoints={"directory": str(directory / "checkpoints")})
    loggers = [MetricsCSV(directory / "metrics.csv", None)]
    trainer = build_trainer(plain, callbacks=callbacks, loggers=loggers, run_dir=directory)
    trainer.fit(task, datamodule=data)
    task.load_state_dict(load_checkpoint(directory / "checkpoints" / "best.ckpt")["state_dict"])
    report = evaluate_split(task.eval(), data, "valid")
    return float(report["metrics"][plain["task"]["monitor"].removeprefix("val/")])


def with_optuna(config: dict[str, Any], rates: list[float], folder: str) -> dict[float, float]:
    """Optuna in one process, two threads, nothing isolated: the least that a sweep can cost."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"rate": rates}))

    def objective(trial: optuna.Trial) -> float:
        return train(config, trial.suggest_categorical("rate", rates), folder)

    study.optimize(objective, n_trials=len(rates), n_jobs=2)
    return {trial.params["rate"]: trial.value for trial in study.trials}


def with_ray_tune(config: dict[str, Any], rates: list[float], folder: str) -> dict[float, float]:
    """Ray Tune on this machine: an actor for each trial, two at a time, Ray's own processes started for it."""
    import ray
    from ray import tune

    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]), "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": paths})

    def trainable(chosen: dict[str, float]) -> None:
        from scripts.bench.overhead import train

        tune.report({"value": train(config, chosen["rate"], folder)})

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"rate": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(max_concurrent_trials=2, metric="value", mode="min"),
        run_config=tune.RunConfig(storage_path=f"{folder}/ray", verbose=0),
    )
    found = {result.metrics["config"]["rate"]: result.metrics["value"] for result in tuner.fit()}
    ray.shutdown()
    return found


TOOLS: dict[str, Callable[..., dict[float, float]]] = {"optuna": with_optuna, "ray-tune": with_ray_tune}


# what the rounds say together


def ratios(rounds: Sequence[Round]) -> dict[str, float]:
    """Ours by each tool's seconds in the same round, the median: below 1 where ours was faster."""
    names = dict.fromkeys(name for this in rounds for name in this)
    both = {n: [this[OURS]["seconds"] / this[n]["seconds"] for this in rounds if n in this] for n in names}
    return {name: round(median(values), 3) for name, values in both.items()}


def disagreement(rounds: Sequence[Round]) -> float:
    """The largest relative difference of a trial's value between any two turns; 0 where all are the same."""
    columns = zip(*(turn["values"] for this in rounds for turn in this.values()), strict=True)
    return max((max(column) - min(column)) / abs(min(column)) for column in columns)


def other_values(rounds: Sequence[Round], name: str) -> int:
    """Trials of a tool, in all rounds, with another value than ours has in the same round."""
    pairs = [(this[OURS]["values"], this[name]["values"]) for this in rounds if name in this]
    return sum(a != b for ours, others in pairs for a, b in zip(ours, others, strict=True))


def table(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """One line for each tool."""
    rows = []
    for name, ratio in ratios(rounds).items():
        seconds = [this[name]["seconds"] for this in rounds if name in this]
        row = {"tool": name, "seconds": f"{median(seconds):.1f}", "gatelab is": f"{ratio:.2f} x"}
        row |= {"rounds": "  ".join(f"{value:.1f}" for value in seconds)}
        rows.append(row | {"other values": f"{other_values(rounds, name)}"})
    return rows


# the command


def begin(output: Path | None) -> dict[str, Any]:
    """The document so far: that of an earlier call on the same kind of machine, or an empty one."""
    about = {"run": RUN, "rates": list(RATES), "processor": platform.processor() or platform.machine()}
    about["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = read_json(output) if output else None
    for key, value in about.items() if found else ():
        if found[key] != value:
            raise SystemExit(f"{output}: its rounds are of another {key} ({found[key]}); give another file")
    return (found or {**about, "versions": {}, "rounds": []}) | {"date": f"{datetime.now(UTC):%Y-%m-%d}"}


def write_plan(folder: Path) -> Path:
    """The checked configuration and the learning rates, for tools that know nothing of Gatelab's."""
    from gatelab.run.config.compose import compose
    from gatelab.run.config.schema import check

    plan = folder / "plan.json"
    plan.write_text(json.dumps({"config": check(compose([*RUN, f"paths.root={folder}"])), "rates": RATES}))
    return plan


def versions(python: str) -> dict[str, str]:
    """Of the packages that matter, in a tool's environment."""
    import subprocess

    code = (
        "import importlib.metadata as m, json, platform; have = {d.metadata['Name'].lower(): d.version for d in "
        "m.distributions()}; names = ['gatelab', 'torch', 'pytorch-lightning', 'optuna', 'hydra-core', 'ray']; "
        "print(json.dumps({'python': platform.python_version(), **{n: have[n] for n in names if n in have}}))"
    )
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(said.stdout))


def main(arguments: list[str] | None = None) -> int:
    p = parser(__doc__, other=True)
    p.add_argument("--ray-python", type=Path, metavar="FILE", help="python with Ray Tune")
    p.add_argument("--rounds", type=int, default=3, help="turns of each tool (default: %(default)s)")
    p.add_argument("--output", type=Path, metavar="FILE", help="JSON; rounds that it holds already are kept")
    p.add_argument("--tool", nargs=3, metavar=("TOOL", "PLAN", "FOLDER"), help=argparse.SUPPRESS)
    options = p.parse_args(arguments)
    if options.tool:
        name, file, folder = options.tool
        plan = read_json(Path(file))
        found = TOOLS[name](plan["config"], plan["rates"], folder)
        write_json(Path(folder) / "values.json", [found[rate] for rate in plan["rates"]])
        return 0
    pythons = {"optuna": sys.executable}
    if options.ray_python:
        pythons["ray-tune"] = str(options.ray_python.absolute())
    else:
        print("ray-tune is left out: give --ray-python", file=sys.stderr)
    ours = {OURS if c.name == "this" else f"{OURS} {c.name}": c for c in checkouts(options)}
    document = begin(options.output)
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as temporary:
        plan = write_plan(Path(temporary))
        for _ in range(options.rounds):
            turns = {}
            for name in (*ours, *pythons):
                folder = Path(temporary) / f"{len(document['rounds'])}-{name.replace(' ', '-')}"
                if name in ours:
                    c, rates = ours[name], ",".join(map(str, RATES))
                    means = ["study=bench", "study.slots=2", "study.threads=1", f"paths.root={folder}"]
                    seconds = c.seconds(c.gatelab("sweep", *RUN, f"optim.lr={rates}", *means), folder / "log")
                    trials = read_json(folder / "studies/bench/summary.json")["trials"]
                    values = [float(trial["value"]) for trial in trials]
                else:
                    command = [
                        pythons[name],
                        "-m",
                        "scripts.bench.overhead",
                        "--tool",
                        name,
                        str(plan),
                        str(folder),
                    ]
                    seconds = run(command, folder / "log", env=environment(**ENVIRONMENT))
                    values = read_json(folder / "values.json")
                print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
                turns[name] = {"seconds": round(seconds, 3), "values": values}
            document["rounds"].append(turns)
    document["versions"] |= {
        n: versions(p) for n, p in {**{n: c.python for n, c in ours.items()}, **pythons}.items()
    }
    document["ratios"] = ratios(document["rounds"])
    document["largest_difference"] = disagreement(document["rounds"])
    show("eight trainings, two at a time: seconds", table(document["rounds"]))
    if options.output:
        write_json(options.output, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
