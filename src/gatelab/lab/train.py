"""Train a run from overrides to `result.json`: compose, check, identify, record, fit, evaluate.

The same request twice is the same run: a finished one is reported, a half-finished one continues from its last
checkpoint. Models, data and loops are other rings' business.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.lab.build import (
    build_callbacks,
    build_data,
    build_task,
    build_trackers,
    build_trainer,
    prepare_process,
)
from gatelab.lab.compose import compose
from gatelab.lab.errors import Interrupted, RequestError, RunFailed
from gatelab.lab.evaluate import evaluate_split
from gatelab.lab.identity import identify
from gatelab.lab.load import load_task
from gatelab.lab.metrics_csv import MetricsCSV
from gatelab.lab.record import RunDirectory, now, write_json
from gatelab.lab.schema import check
from gatelab.tasks import load_checkpoint
from gatelab.tasks.callbacks import Checkpoints, NonFiniteLossError, RunInterrupted

# Set for the processes that Lightning starts for the other ranks: they take the frozen configuration of rank 0.
RANK_OF = "GATELAB_RANK_OF"


def train(
    overrides: Sequence[str] = (), *, force: bool = False, config_dirs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Train the run that `overrides` describe, or continue it, or report that it is finished.

    Args:
        overrides: Hydra overrides of `conf/train.yaml`.
        force: train a finished run again; the old directory is renamed, never deleted.
        config_dirs: further folders laid out like `conf/`.

    Returns:
        What `result.json` holds, and `already` (whether it was finished before).

    Raises:
        RequestError: something about the request is wrong; nothing was trained.
        RunFailed: training stopped on an error, e.g. a loss that is not finite.
        Interrupted: a signal came; the run saved itself.
    """
    if rank() > 0:
        return _fit_as_rank(RunDirectory(os.environ[RANK_OF]))
    composed = compose(overrides, config_dirs=config_dirs)
    plain = check(composed)
    identity = identify(composed)
    run = RunDirectory(identity.directory(plain["paths"]["runs"]))
    with run.locked():
        if force:
            moved = run.set_aside()
            if moved is not None:
                say(f"the earlier run is kept in {moved}")
        result = run.result()
        if result is not None and result["outcome"] == "done":
            return {**result, "already": True}
        prepare_process(plain)
        run.begin(plain, {"name": identity.name, "hash8": identity.hash8, "seed": identity.seed})
        try:
            return {**_train_locked(run, plain), "already": False}
        except RunInterrupted as error:
            run.update(state="interrupted")
            raise Interrupted(f"{error}; the same command continues it") from None
        except NonFiniteLossError as error:
            run.finish({"outcome": "failed", "error": str(error), "finished": now()})
            raise RunFailed(str(error)) from error


def _train_locked(run: RunDirectory, plain: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    data = build_data(plain)
    for note in data.notes:
        say(note)
    run.update(data=data.fingerprint, data_notes=data.notes, spec=data.spec.to_dict())
    if getattr(data, "tokenizer", None) is not None:
        write_json(run.tokenizer_file, data.tokenizer.to_dict())
    trainer = fit(run, plain, data)
    fitted = time.perf_counter() - started
    parameters = sum(p.numel() for p in trainer.lightning_module.parameters())
    result = {
        "outcome": "done",
        "run_dir": str(run.path),
        "identity": run.read()["identity"],
        "monitor": plain["task"]["monitor"],
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "parameters": parameters,
        "seconds": {"fit": round(fitted, 2)},
        "splits": evaluate_splits(run, plain, data),
        "finished": now(),
    }
    run.finish(result)
    return result


def evaluate_splits(run: RunDirectory, plain: dict[str, Any], data: Any) -> dict[str, Any]:
    """Metrics, baselines and seconds of the best checkpoint on valid and, unless `test=false`, on test."""
    loaded = load_task(run.path)
    wanted = [s for s in ("valid", "test") if s in data.splits and (s != "test" or plain["test"])]
    return {split: evaluate_split(loaded.task, data, split) for split in wanted}


def fit(run: RunDirectory, plain: dict[str, Any], data: Any) -> pl.Trainer:
    """Train until the configured end, continuing from `last.ckpt` where there is one."""
    pl.seed_everything(plain["seed"], workers=False, verbose=False)
    task = build_task(plain, data.spec)
    checkpoint = load_checkpoint(run.last) if run.last.is_file() else None
    step = int(checkpoint["global_step"]) if checkpoint else None
    if step is not None:
        say(f"continuing {run.path} from step {step}")
    callbacks = build_callbacks(plain, checkpoints={"directory": str(run.last.parent)})
    if not any(isinstance(callback, Checkpoints) for callback in callbacks):
        raise RequestError("callbacks: a run needs gatelab.tasks.callbacks.Checkpoints; it is missing.")
    loggers = [MetricsCSV(run.metrics_file, step), *build_trackers(plain, run.path, run.read()["tracker_id"])]
    trainer = build_trainer(plain, callbacks=callbacks, loggers=loggers, run_dir=run.path)
    os.environ[RANK_OF] = str(run.path.absolute())
    try:
        trainer.fit(task, datamodule=data, ckpt_path=str(run.last) if checkpoint else None)
    finally:
        del os.environ[RANK_OF]
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return trainer


def _fit_as_rank(run: RunDirectory) -> dict[str, Any]:
    plain = run.read()["config"]
    prepare_process(plain)
    fit(run, plain, build_data(plain))
    return {"outcome": "rank", "rank": rank()}


def rank() -> int:
    """This process's rank on its machine; 0 unless Lightning started it for another."""
    return int(os.environ.get("LOCAL_RANK", 0)) if RANK_OF in os.environ else 0


def say(text: str) -> None:
    """A remark for the person at the terminal, on stderr."""
    print(text, file=sys.stderr, flush=True)
