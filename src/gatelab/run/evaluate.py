"""Score a run on a split. The only code that touches test data.

Baselines are scored over the same positions as the model and stand beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gatelab.run.build import quiet
from gatelab.run.config.schema import check_node
from gatelab.run.errors import RequestError
from gatelab.run.load import load_data, load_task

BURN_IN_GROWTH = 8


# How data is read for an evaluation; none of it changes a score.
READING = ("eval_window", "eval_batch_size", "burn_in", "num_workers", "mirror", "cache", "path")


def evaluate(
    path: str | Path,
    split: str | None = None,
    *,
    overrides: Sequence[str] = (),
    progress: bool = False,
    trust: bool = False,
) -> dict[str, Any]:
    """Score the best checkpoint of a run on `split` ("valid" or "test"; None: test, where there is one).

    Args:
        path: the run directory.
        split: which split.
        overrides: how the data is read, e.g. `["data.eval_window=7"]`; the score does not depend on it.
        progress: show a progress bar.
        trust: accept targets that are not part of Gatelab.

    Returns:
        `run`, `split`, `checkpoint`, `metrics` (without a prefix, e.g. `{"ppl": ..., "tokens": ...}`),
        `baselines` (name -> metrics over the same positions) and `seconds`.

    Raises:
        RequestError: no such run, no checkpoint, changed data, or data without that split.
    """
    loaded = load_task(path, trust=trust)
    data = load_data(with_reading(loaded.record, overrides))
    split = split or ("test" if "test" in data.splits else "valid")
    report = evaluate_split(loaded.task, data, split, progress=progress)
    return {"run": str(path), "split": split, "checkpoint": loaded.checkpoint.name, **report}


def with_reading(record: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A run's record with other ways of reading its data.

    Raises:
        RequestError: an override would change what the run is.
    """
    node = dict(record["config"]["data"])
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.removeprefix("data.")
        if name not in READING or name not in node or not value:
            known = ", ".join(f"data.{name}" for name in READING if name in node)
            raise RequestError(f"{override}: a finished run is scored as it is; only {known} can be given.")
        try:
            node[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RequestError(f"{override}: '{value}' cannot be read as a value.") from None
        if name in ("mirror", "cache", "path") and isinstance(node[name], str):
            node[name] = str(Path(node[name]).expanduser().absolute())
    problems = [f"{key}: {text}" for key, text in check_node(node, "data")]
    if problems:
        raise RequestError("\n".join(problems))
    return {**record, "config": {**record["config"], "data": node}}


def evaluate_split(task: Any, data: Any, split: str, *, progress: bool = False) -> dict[str, Any]:
    """`metrics`, `baselines` and `seconds` of one split."""
    if split not in data.splits or split == "train":
        known = ", ".join(s for s in data.splits if s != "train")
        raise RequestError(f"split {split}: this data has {known}.")
    started = time.perf_counter()
    metrics = score(task, data, split, progress=progress)
    seconds = time.perf_counter() - started
    return {"metrics": metrics, "baselines": data.baselines(split), "seconds": round(seconds, 2)}


def score(task: Any, data: Any, split: str, *, progress: bool = False) -> dict[str, float]:
    """One pass over a split in this process; text again with a longer run-up until its streams meet.

    Text is read as several streams at once. Where their states do not meet within the task's tolerance, each
    begins earlier and earlier, at last at the beginning of the split: the result never depends on how many
    streams there are. (A trained GRU can hold on to a unit for thousands of tokens.)
    """
    metrics = _one_pass(task, data, split, progress)
    while metrics.get("stitch", 0.0) > getattr(task, "stitch_tolerance", math.inf):
        data.burn_in = BURN_IN_GROWTH * max(data.burn_in, 1)
        if data.burn_in >= data.spec.tokens[split]:
            data.eval_batch_size = 1
        metrics = _one_pass(task, data, split, progress)
    return metrics


def _one_pass(task: Any, data: Any, split: str, progress: bool) -> dict[str, float]:
    import pytorch_lightning as pl
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    quiet()
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[
            LightningEnvironment()
        ],  # this process alone, also where torchrun or srun has started several
    )
    run, prefix = (trainer.test, "test") if split == "test" else (trainer.validate, "val")
    data.trainer = None  # the split is scored whole, not a rank's share of it
    run(task, dataloaders=data.dataloader(split), verbose=False)
    return dict(task.results[prefix])
