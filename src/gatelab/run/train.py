"""Training of one run, from overrides to `result.json`: compose, check, hold the run directory, build, fit, score.

The same request twice is the same run: a finished one is reported, a half-finished one continues from its last
checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.core import BackendError
from gatelab.data.files import write_json
from gatelab.data.messages import say
from gatelab.run import Interrupted, RequestError, RunFailed, distributed
from gatelab.run.build import (
    REQUEST_ERRORS,
    build_callbacks,
    build_data,
    build_task,
    build_trainer,
    prepare_process,
    request_errors,
    saver_of,
)
from gatelab.run.config import check, compose
from gatelab.run.config.dry_build import refusal
from gatelab.run.extend import begin_from_shorter
from gatelab.run.load import load_task
from gatelab.run.loggers import MetricsCSV, continue_from, opened_loggers, show_finished
from gatelab.run.origin import origin
from gatelab.run.record.directory import RunDirectory, now, resources
from gatelab.run.record.identity import DATA_FILES, Identity, identify
from gatelab.run.record.sources import has_own_code
from gatelab.run.resume import (
    find_checkpoint,
    require_loaded_code,
    require_same_code,
    require_same_configuration,
    require_same_data,
    require_space,
    set_remains_aside,
)
from gatelab.run.scoring.evaluate import device_of, evaluate_split
from gatelab.run.source.initial import start_from_source
from gatelab.run.source.teacher import load_teacher
from gatelab.tasks import CheckpointError
from gatelab.tasks.callbacks import RunInterrupted, RunPruned, TrainingDiverged
from gatelab.tasks.fine_tuning import FineTuning
from gatelab.tasks.lightning_internals import start_children_with_blocked_signals
from gatelab.tasks.signals import RANK_OF, StopRequested, launched, noted, rank, stop_first
from gatelab.tasks.trace import Trace

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def train(
    overrides: Sequence[str] = (),
    *,
    force: bool = False,
    config_dirs: Sequence[Path] = (),
    wait: bool = False,
    keep_code_change: bool = False,
    show_to: Collection[str] = (),
) -> dict[str, Any]:
    """Train the run that `overrides` describe, or continue it, or report that it is finished.

    Args:
        overrides: Hydra overrides of `conf/train.yaml`.
        config_dirs: further folders laid out like `conf/`.
        force, wait, keep_code_change, show_to: as `train_frozen`.

    Returns:
        the content of `result.json`, and `already` (whether it was finished before). Of a process beside the first of
        a distributed run only `outcome` and `rank`.

    Raises:
        RequestError: something about the request is wrong; nothing was trained.
        RunFailed: training stopped on an error, e.g. a loss that is not finite.
        Interrupted: a signal came; the run saved itself.
    """
    if rank() > 0:
        return _train_beside_rank_0(())
    with distributed.leading():
        composed = compose(overrides, config_dirs=config_dirs)
        config = check(composed)
        if refused := refusal(config, read=False):
            raise RequestError(refused)
        return train_frozen(
            config,
            identify(composed),
            force=force,
            wait=wait,
            keep_code_change=keep_code_change,
            show_to=show_to,
            extend=not force,
        )


def train_frozen(
    config: dict[str, Any],
    identity: Identity,
    *,
    force: bool = False,
    wait: bool = False,
    keep_code_change: bool = False,
    show_to: Collection[str] = (),
    callbacks: Sequence[Any] = (),
    extend: bool = False,
) -> dict[str, Any]:
    """Train the run of a configuration that is composed and checked already.

    Args:
        config: the resolved configuration, as `check` returns it.
        force: train a finished run again; the old directory is renamed, never deleted.
        wait: for another process that is training this run, instead of refusing; it may have finished it then.
        keep_code_change: report or continue a run although its code has been edited since, instead of refusing.
        show_to: keys of `logger=`; those loggers are shown a run that is finished already.
        callbacks: Lightning callbacks beside the configured ones. They may stop the run with
            `Checkpoints.stop_with(RunPruned(..))`.
        extend: a new run goes on from a finished one of fewer epochs, where that gives the same (`run/extend.py`).

    Returns:
        as `train`. Of a pruned run: the content of `result.json`, with the outcome `pruned`; asked for again without
        the callback that stopped it, it is continued.

    Raises:
        as `train`.
    """
    if rank() > 0:
        return _train_beside_rank_0(callbacks)
    require_loaded_code(config)
    run = RunDirectory(identity.directory(config["paths"]["runs"]))
    with distributed.leading(), run.locked(wait=wait):
        distributed.require_processes(config["trainer"])
        prepare_process(config)
        if not force:
            require_same_configuration(run, config)
            require_same_code(run, keep_code_change=keep_code_change)
            run.label(config)
            result = run.result()
            if result is not None and result["outcome"] == "done":
                result = _score_finished(run, config, result)
                show_finished(run, config, show_to)
                return {**result, "run_dir": str(run.path), "already": True}
        data = build_data(config)
        if force and (moved := run.set_aside()) is not None:  # not before it is sure that there are data
            say(f"the earlier run is kept in {moved}")
        set_remains_aside(run)
        if extend:
            begin_from_shorter(run, config, identity, data)
        require_same_data(run, data)
        run.remove_temporaries()
        with _outcome_recorded(run, config):
            run.begin(config, vars(identity))
            with opened_loggers(run, config) as loggers:
                return {**_train_and_score(run, config, data, callbacks, loggers), "already": False}


def _train_and_score(
    run: RunDirectory, config: dict[str, Any], data: Any, callbacks: Sequence[Any], loggers: Sequence[Any]
) -> dict[str, Any]:
    for note in data.notes:
        say(note)
    run.update(data=data.fingerprint, data_notes=data.notes, spec=data.spec.to_dict())
    if getattr(data, "tokenizer", None) is not None:
        write_json(run.tokenizer_file, data.tokenizer.to_dict())
    started = time.perf_counter()
    try:
        trainer, pruned = fit(run, config, data, callbacks, loggers)
    finally:
        run.add_seconds(time.perf_counter() - started)
    result = {"outcome": "done", **_facts(run, config, trainer)}
    if pruned is None:
        result["splits"] = evaluate_splits(run, config, data)
    else:
        result |= {"outcome": "pruned", "why": str(pruned), "by": pruned.by, "splits": {}}
    result["finished"] = now()
    run.finish(result)
    return result


def fit(
    run: RunDirectory,
    config: dict[str, Any],
    data: Any,
    callbacks: Sequence[Any] = (),
    loggers: Sequence[Any] = (),
) -> tuple[Any, RunPruned | None]:
    """Train until the configured end, continuing from the newest checkpoint where there is one; every rank does.

    Returns the Trainer, and why the run was pruned, if it was.
    """
    teacher = load_teacher(config, data)
    pl.seed_everything(config["seed"], workers=False, verbose=False)
    task: Any = build_task(config, data.spec, None if teacher is None else teacher.task)
    task.trace = Trace(run.trace_file)
    with request_errors(""):
        task.fine_tuning = FineTuning(task.net, **(config.get("transfer") or {}))
    if rank() == 0:
        run.update(task=task.describe())
    require_space(run, task)
    found = find_checkpoint(run, config, task)
    step = int(found.checkpoint["global_step"]) if found else None
    if step is not None:
        say(f"continuing {run.path} from step {step}")
    elif (taken := start_from_source(config, task, getattr(data, "tokenizer", None))) and rank() == 0:
        run.update(init=taken)
    own = build_callbacks(config, checkpoints={"directory": str(run.last.parent)})
    saver_of(own)
    continue_from(loggers, step)
    every_logger = [MetricsCSV(run.metrics_file, step), *loggers]
    trainer: Any = build_trainer(config, callbacks=[*own, *callbacks], loggers=every_logger, run_dir=run.path)
    with request_errors("data"):  # mistakes show before the run begins
        data.train_dataloader()
        data.val_dataloader()
    distributed.start_together(run.path, config, step)
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
        place = origin(error, config)
        raise RequestError(
            f"the run cannot begin: {error}{f'; it came from {place}' if place else ''}"
        ) from error
    finally:
        del os.environ[RANK_OF]
        if task.trace is not None:
            task.trace.flush()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return trainer, None


def evaluate_splits(
    run: RunDirectory, config: Mapping[str, Any], data: Any, splits: Sequence[str] = ("valid", "test")
) -> dict[str, Any]:
    """Metrics, baselines and seconds of the best checkpoint on those of the splits that there are; test unless off."""
    loaded = load_task(run.path, trust=True)
    wanted = [s for s in splits if s in data.splits and (s != "test" or config["test"])]
    device = device_of(config)
    return {split: evaluate_split(loaded.task, data, split, device=device) for split in wanted}


def _facts(run: RunDirectory, config: Mapping[str, Any], trainer: Any) -> dict[str, Any]:
    """The facts in `result.json` of a run that has ended in good order; `best_epoch` counts from 0."""
    saver = saver_of(trainer.callbacks)
    return {
        "run_dir": str(run.path),
        "identity": run.read()["identity"],
        "monitor": config["task"]["monitor"],
        "validated": saver.best_score is not None,
        "best": saver.best_score,
        "best_epoch": saver.best_epoch,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "parameters": sum(p.numel() for p in trainer.lightning_module.parameters()),
        "seconds": {"fit": run.seconds()},
        **resources(run.metrics_file),
    }


def _score_finished(run: RunDirectory, config: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The result of a finished run, with the test scores added if they are asked for only now."""
    wants_test = config["test"] and "test" not in result["splits"]
    files = any(isinstance(config["data"].get(key), str) for key in DATA_FILES)
    if wants_test or files or has_own_code(config):
        data = build_data(config)
        require_same_data(run, data)
        if wants_test and "test" in data.splits:
            run.add_scores("test", evaluate_splits(run, config, data, ("test",))["test"])
            return run.result() or result
    return result


@contextlib.contextmanager
def _outcome_recorded(run: RunDirectory, config: Mapping[str, Any]) -> Iterator[None]:
    """Write down how an attempt ended that does not come to its end, and turn its error into one with an exit code.

    An error of the user's own code keeps its traceback, with a last line that names the part of the configuration.
    A record that cannot be written must not hide the error, so a full disk is ignored here.
    """
    try:
        with stop_first():
            yield
    except RunInterrupted as error:
        run.stop("interrupted")
        raise Interrupted(f"{error}; the same command continues it") from None
    except StopRequested:
        if run.run_file.is_file():
            run.stop("interrupted")
        raise
    except RequestError:
        with contextlib.suppress(OSError):
            run.stop("refused")
        raise
    except (TrainingDiverged, CheckpointError) as error:
        with contextlib.suppress(OSError):
            run.finish({"outcome": "failed", "error": str(error), "finished": now()})
        raise RunFailed(str(error)) from error
    except torch.OutOfMemoryError as error:
        text = ". ".join(str(error).splitlines()[0].split(". ")[:2])  # the rest is advice on the allocator
        with contextlib.suppress(OSError):
            run.stop("crashed", text)
        raise RunFailed(
            f"{text}. Lower data.batch_size or data.window, say; runs of a sweep that share a GPU (study.slots) share "
            "its memory. The same command goes on from the last checkpoint"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise RunFailed(
                f"{error.strerror} while writing below {run.path}: make room, and the same command continues it"
            ) from error
        with contextlib.suppress(OSError):
            run.stop("crashed", f"{type(error).__name__}: {error}")
        if place := origin(error, config):
            error.add_note(
                f"gatelab: this error came from {place}. What was saved stays: the same command goes on from the last "
                "checkpoint, with --keep-code-change if you edit the code."
            )
        raise


def _train_beside_rank_0(callbacks: Sequence[Any]) -> dict[str, Any]:
    """Train as a process beside the first one, which alone keeps the record.

    A run that was stopped or refused in good order ends here without an error: torchrun and Lightning kill the other
    processes when one fails, and rank 0 still writes its record.
    """
    done = {"outcome": "rank", "rank": rank()}
    try:
        published = distributed.decision() if launched() else None
        run = RunDirectory(published["run"] if published else os.environ[RANK_OF])
        config = published["config"] if published else run.read()["config"]
        prepare_process(config)
        data = build_data(config)
        require_same_data(run, data)
        fit(run, config, data, callbacks)
    except distributed.Dismissed:
        return done
    except RunInterrupted as error:
        if int(os.environ.get("GROUP_RANK") or os.environ.get("SLURM_NODEID", "0")) > 0:
            raise Interrupted(str(error)) from None  # on another machine no rank 0 can be killed for it
        return done
    except Exception as error:
        if launched():
            distributed.refuse(error)
        raise
    return done
