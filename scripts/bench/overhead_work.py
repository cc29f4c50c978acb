"""The trial that Optuna, hydra-optuna-sweeper and Ray Tune carry out: the training that Gatelab's own run does.

The same data, network, Trainer, callbacks and checkpoints, and the best checkpoint scored on the validation split.
What is missing beside `gatelab train` is the record of the run. It is used from environments without Optuna 5.
"""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import Any

INITIALISING = threading.Lock()
"""Held while a network is drawn. It is not enough for threads: a step of one seeds the generator that all share."""


def read_plan(path: str) -> tuple[dict[str, Any], list[float]]:
    """The configuration and the learning rates."""
    plan = json.loads(Path(path).read_text())
    return plan["config"], plan["rates"]


def write_values(folder: str, values: list[float]) -> None:
    """What the tool found, by the order of the learning rates."""
    (Path(folder) / "values.json").write_text(json.dumps(values))


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
    run = Path(folder) / f"{rate:g}"
    torch.set_num_threads(1)
    prepare_process(plain)
    data = build_data(plain)
    with INITIALISING:
        pl.seed_everything(plain["seed"], workers=False, verbose=False)
        task = build_task(plain, data.spec)
    callbacks = build_callbacks(plain, checkpoints={"directory": str(run / "checkpoints")})
    loggers = [MetricsCSV(run / "metrics.csv", None)]
    trainer = build_trainer(plain, callbacks=callbacks, loggers=loggers, run_dir=run)
    trainer.fit(task, datamodule=data)
    task.load_state_dict(load_checkpoint(run / "checkpoints" / "best.ckpt")["state_dict"])
    report = evaluate_split(task.eval(), data, "valid")
    return float(report["metrics"][plain["task"]["monitor"].removeprefix("val/")])
