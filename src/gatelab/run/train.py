"""Train a run from overrides to `result.json`: compose, check, identify, record, fit, evaluate.

The same request twice is the same run: a finished one is reported, a half-finished one continues from its last
checkpoint. Models, data and loops are other rings' business.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.core import BackendError
from gatelab.run import nodes
from gatelab.run.as_rank import train_as_rank
from gatelab.run.build import (
    REQUEST_ERRORS,
    build_callbacks,
    build_data,
    build_task,
    build_trainer,
    prepare_process,
    request_errors,
)
from gatelab.run.config.compose import compose
from gatelab.run.config.schema import check
from gatelab.run.errors import Interrupted, RequestError, RunFailed
from gatelab.run.evaluate import device_of, evaluate_split
from gatelab.run.load import changed_data, load_task
from gatelab.run.messages import say
from gatelab.run.record.directory import RunDirectory, now, write_json
from gatelab.run.record.identity import Identity, identify
from gatelab.run.record.metrics import resources
from gatelab.run.record.metrics_logger import MetricsCSV
from gatelab.run.resume import find_checkpoint, require_space
from gatelab.tasks import CheckpointError
from gatelab.tasks.callbacks import Checkpoints, RunInterrupted, RunPruned, TrainingDiverged
from gatelab.tasks.lightning_internals import start_children_with_blocked_signals
from gatelab.tasks.signals import RANK_OF, StopRequested, noted, rank
from gatelab.tasks.trace import Trace
from gatelab.trackers.lifecycle import continue_from, show_finished, tracked
from gatelab.trackers.wandb.agent import started_by_agent

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        return train_as_rank()
    with nodes.leading():
        composed = compose(overrides, config_dirs=config_dirs)
        plain = check(composed)
        # two agents may be given the same configuration; the second shows what the first has found
        return train_frozen(plain, identify(composed), force=force, wait=started_by_agent())


def train_frozen(
    plain: dict[str, Any],
    identity: Identity,
    *,
    force: bool = False,
    wait: bool = False,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train the run of a configuration that is composed and checked already.

    Args:
        plain: the resolved configuration, as `check` returns it.
        identity: of the composed configuration.
        force: train a finished run again; the old directory is renamed, never deleted.
        wait: for another process that is training this run, instead of refusing; it may have finished it then.
        callbacks: Lightning callbacks beside the configured ones. They may stop the run with
            `Checkpoints.stop_with(RunPruned(..))`.

    Returns:
        as `train`. Of a pruned run: what `result.json` holds, with the outcome `pruned`; asked for again without
        the callback that stopped it, it is continued.

    Raises:
        as `train`.
    """
    nodes.require_processes(plain["trainer"])
    run = RunDirectory(identity.directory(plain["paths"]["runs"]))
    with run.locked(wait=wait):
        prepare_process(plain)
        result = None if force else run.result()
        if result is not None and result["outcome"] == "done":
            result = _finished(run, plain, result)
            show_finished(run, plain)
            return {**result, "already": True}
        data = build_data(plain)
        if force and (moved := run.set_aside()) is not None:  # not before it is sure that there are data
            say(f"the earlier run is kept in {moved}")
        refuse_changed_data(run, data)
        run.remove_temporaries()
        try:
            run.begin(plain, {"name": identity.name, "hash8": identity.hash8, "seed": identity.seed})
            with tracked(run, plain) as trackers:
                return {**_train_locked(run, plain, data, callbacks, trackers), "already": False}
        except RunInterrupted as error:
            run.stop("interrupted")
            raise Interrupted(f"{error}; the same command continues it") from None
        except StopRequested:
            if run.run_file.is_file():
                run.stop("interrupted")
            raise
        except RequestError:
            with contextlib.suppress(OSError):  # the refusal matters more than its record
                run.stop("refused")
            raise
        except (TrainingDiverged, CheckpointError) as error:
            with contextlib.suppress(OSError):  # nor does a full disk hide why it failed
                run.finish({"outcome": "failed", "error": str(error), "finished": now()})
            raise RunFailed(str(error)) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise RunFailed(
                    f"{error.strerror} while writing below {run.path}: make room, and the same command continues it"
                ) from error
            with contextlib.suppress(OSError):
                run.stop("crashed", f"{type(error).__name__}: {error}")
            raise


def _finished(run: RunDirectory, plain: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The result of a finished run, with the test scores added if they are asked for only now."""
    reads_a_file = plain["data"].get("path") is not None
    wants_test = plain["test"] and "test" not in result["splits"]
    if reads_a_file or wants_test:
        data = build_data(plain)
        refuse_changed_data(run, data)
        if wants_test and "test" in data.splits:
            result = {**result, "splits": evaluate_splits(run, plain, data)}
            run.finish(result)
    return result


def refuse_changed_data(run: RunDirectory, data: Any) -> None:
    """Never mix two data sets in one run.

    Raises:
        RequestError: the run was begun with other files.
    """
    changed = changed_data(run.read(), data) if run.run_file.is_file() else None
    if changed:
        raise RequestError(
            f"{changed}: {run.path} is left as it is. Put the file back as it was to go on, or --force starts anew "
            "and keeps the old run."
        )


def _train_locked(
    run: RunDirectory, plain: dict[str, Any], data: Any, callbacks: Sequence[Any], trackers: Sequence[Any]
) -> dict[str, Any]:
    for note in data.notes:
        say(note)
    run.update(data=data.fingerprint, data_notes=data.notes, spec=data.spec.to_dict())
    if getattr(data, "tokenizer", None) is not None:
        write_json(run.tokenizer_file, data.tokenizer.to_dict())
    started = time.perf_counter()
    pruned: RunPruned | None = None
    try:
        trainer, pruned = fit(run, plain, data, callbacks, trackers)
    finally:
        run.add_seconds(time.perf_counter() - started)
    result = {"outcome": "done", **_facts(run, plain, trainer)}
    if pruned is None:
        result["splits"] = evaluate_splits(run, plain, data)
    else:
        result |= {"outcome": "pruned", "why": str(pruned), "by": pruned.by, "splits": {}}
    result["finished"] = now()
    run.finish(result)
    return result


def _facts(run: RunDirectory, plain: dict[str, Any], trainer: Any) -> dict[str, Any]:
    """What `result.json` says about a run that has ended in good order, whatever its outcome.

    `best_epoch` counts from 0, as in `metrics.csv`.
    """
    saver = saver_of(trainer.callbacks)
    return {
        "run_dir": str(run.path),
        "identity": run.read()["identity"],
        "monitor": plain["task"]["monitor"],
        "validated": saver.best_score is not None,
        "best": saver.best_score,
        "best_epoch": saver.best_epoch,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in trainer.lightning_module.parameters()),
        "seconds": {"fit": run.seconds()},
        **resources(run.metrics_file),
    }


def evaluate_splits(run: RunDirectory, plain: dict[str, Any], data: Any) -> dict[str, Any]:
    """Metrics, baselines and seconds of the best checkpoint on valid and, unless `test=false`, on test."""
    loaded = load_task(run.path)
    wanted = [s for s in ("valid", "test") if s in data.splits and (s != "test" or plain["test"])]
    with nodes.alone():
        device = device_of(plain)
        return {split: evaluate_split(loaded.task, data, split, device=device) for split in wanted}


def fit(
    run: RunDirectory,
    plain: dict[str, Any],
    data: Any,
    callbacks: Sequence[Any] = (),
    trackers: Sequence[Any] = (),
    *,
    expected: int | None = None,
) -> tuple[Any, RunPruned | None]:
    """Train until the configured end, continuing from the newest checkpoint where there is one.

    Args:
        expected: of a process beside the first that torchrun started: the step from which rank 0 continues.

    Returns:
        the Trainer, and why the run was pruned, if it was.
    """
    pl.seed_everything(plain["seed"], workers=False, verbose=False)
    task: Any = build_task(plain, data.spec)
    task.trace = Trace(run.trace_file)
    if rank() == 0:
        run.update(task=task.describe())
    require_space(run, task)
    found = find_checkpoint(run, plain, task)
    step = int(found.checkpoint["global_step"]) if found else None
    if step is not None:
        say(f"continuing {run.path} from step {step}")
    own = build_callbacks(plain, checkpoints={"directory": str(run.last.parent)})
    saver_of(own)
    continue_from(trackers, step)
    loggers = [MetricsCSV(run.metrics_file, step), *trackers]
    trainer: Any = build_trainer(plain, callbacks=[*own, *callbacks], loggers=loggers, run_dir=run.path)
    with request_errors("data"):  # what does not fit together shows before the run begins
        data.train_dataloader()
        data.val_dataloader()
    if trainer.world_size > 1:
        nodes.meet(run.path, plain, step, expected)
    os.environ[RANK_OF] = str(run.path.absolute())
    start_children_with_blocked_signals(trainer)
    try:
        # several processes start and end together, so none may leave alone
        with noted() if trainer.world_size > 1 else contextlib.nullcontext() as signals:
            trainer.fit(task, datamodule=data, ckpt_path=str(found.path) if found else None)
        if signals is not None and signals.received:
            raise RunInterrupted(f"stopped by {signals.received} after training")
    except RunPruned as pruned:
        return trainer, pruned
    except (*REQUEST_ERRORS, BackendError) as error:
        if trainer.global_step > (step or 0) or os.environ.get("GATELAB_TRACEBACK"):
            raise
        raise RequestError(f"the run cannot begin: {error}") from error
    finally:
        del os.environ[RANK_OF]
        if task.trace is not None:
            task.trace.flush()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return trainer, None


def saver_of(callbacks: Sequence[Any]) -> Checkpoints:
    """The callback that writes the checkpoints.

    Raises:
        RequestError: there is none.
    """
    for callback in callbacks:
        if isinstance(callback, Checkpoints):
            return callback
    raise RequestError(
        "callbacks.checkpoints: every run needs it (gatelab.tasks.callbacks.Checkpoints); leave it in."
    )
