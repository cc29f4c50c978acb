"""What a sweep costs beside its training: the same eight short trainings, two at a time, by several tools in turns.

Every tool trains the same eight configurations (one GRU, one series, eight learning rates) to the end and scores the
best checkpoint on the validation split; the clock runs from the start of its command to the end of it, imports and
reports included. The values are compared. `gatelab` keeps a record of each run and a report beside that, and gives
each run a process of its own; so does Ray Tune, while Optuna runs two threads in one process: they draw
from one random state, so that a value of it may differ.

Ray Tune needs an environment of its own:
  python -m venv ray && ray/bin/pip install -e . 'ray[tune]>=2.40'

examples:
  python -m scripts.bench.overhead --ray-python ray/bin/python --other ../before
  python -m scripts.bench.overhead --rounds 1 --output figures.json
"""

from __future__ import annotations

import argparse
import copy
import itertools
import operator
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gatelab.run.record.environment import cpu_name
from scripts import harness
from scripts.harness import ROOT, Checkout, environment, read_json

RATES = (1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 1e-2)
RUN = ["data=embedded_series", "model=gru", "model.hidden_size=32", "trainer.max_epochs=1"]
RUN += ["trainer.max_steps=60", "trainer.val_check_interval=null", "callbacks.progress=null", "test=false"]
"""What every tool trains; a run takes a second or two."""
ENVIRONMENT = {"RAY_AIR_NEW_OUTPUT": "0", "TOKENIZERS_PARALLELISM": "false"}


def train(config: dict[str, Any], rate: float, folder: str) -> float:
    """Train as Gatelab's own run does, without its record; the monitored metric of the best checkpoint."""
    import pytorch_lightning as pl
    import torch

    from gatelab.run.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
    from gatelab.run.loggers import MetricsCSV
    from gatelab.run.scoring.evaluate import evaluate_split
    from gatelab.tasks import load_checkpoint

    plain = copy.deepcopy(config)
    plain["optim"]["lr"] = rate
    directory = Path(folder) / f"{rate:g}"
    torch.set_num_threads(1)
    prepare_process(plain)
    data = build_data(plain)
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


def main() -> int:
    p = harness.parser(__doc__, other=True)
    p.add_argument("--ray-python", type=Path, metavar="FILE", help="python with Ray Tune")
    p.add_argument("--rounds", type=int, default=3, help="turns of each tool (default: %(default)s)")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the rounds as JSON")
    p.add_argument("--tool", nargs=2, metavar=("TOOL", "FOLDER"), help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.tool:
        from gatelab.run.config import check, compose

        name, folder = options.tool
        found = TOOLS[name](check(compose([*RUN, f"paths.root={folder}"])), list(RATES), folder)
        harness.write_json(Path(folder) / "values.json", [found[rate] for rate in RATES])
        return 0
    pythons = {"optuna": sys.executable}
    if options.ray_python:
        pythons["ray-tune"] = str(options.ray_python.absolute())
    else:
        print("ray-tune is left out: give --ray-python", file=sys.stderr)
    there = harness.checkouts(options)
    values: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as temporary:
        root = Path(temporary)
        count = itertools.count()

        def sweep(c: Checkout) -> float:
            folder, rates = root / f"{next(count)}", ",".join(map(str, RATES))
            means = ["study=bench", "study.slots=2", "study.threads=1", f"paths.root={folder}"]
            seconds = c.seconds(c.gatelab("sweep", *RUN, f"optim.lr={rates}", *means), folder / "log")
            trials = read_json(folder / "studies/bench/summary.json")["trials"]
            values[c.name] = [float(trial["value"]) for trial in trials]
            return seconds

        def tool(name: str) -> float:
            folder = root / f"{next(count)}"
            command = [pythons[name], "-m", "scripts.bench.overhead", "--tool", name, str(folder)]
            seconds = harness.run(command, folder / "log", env=environment(**ENVIRONMENT))
            values[name] = read_json(folder / "values.json")
            return seconds

        calls: dict[str, Callable[[], float]] = {c.name: partial(sweep, c) for c in there}
        calls |= {name: partial(tool, name) for name in pythons}
        rounds = harness.in_turns(calls, options.rounds, warm_up=0)
    rows = harness.compared(rounds, "this")
    for row in rows:
        row["values as this"] = sum(map(operator.eq, values[row["what"]], values["this"]))
    harness.show("eight trainings, two at a time: seconds; in how many of them the value is the same", rows)
    if options.output:
        about = {"run": RUN, "rates": RATES, "processor": cpu_name(), "cores": os.cpu_count()}
        harness.write_json(options.output, {**about, "tools": rows, "rounds": rounds, "values": values})
    return 0


if __name__ == "__main__":
    sys.exit(main())
