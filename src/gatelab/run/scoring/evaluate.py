"""A trained run asked: its score on a split or a text, its predictions for new input, a text continued.

Needs the run directory only. This is the only code that touches test data. Baselines are scored over the same positions
as the model and stand beside it. How to predict and to generate, the task says (`Task.predict`,
`Task.generate`, `Task.perplexity`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import yaml

from gatelab.data.files import write_json
from gatelab.data.messages import bars, say
from gatelab.data.text.text_files import blocks
from gatelab.run import RequestError
from gatelab.run.build import quiet, request_errors
from gatelab.run.config import check_node
from gatelab.run.load import LoadedRun, load_data, load_task
from gatelab.run.record.code import changed_code
from gatelab.run.record.directory import DAMAGED, DAMAGED_FIX, read_record, reading
from gatelab.run.record.identity import DATA_FILES
from gatelab.run.record.rows import read_rows
from gatelab.run.scoring.evaluation_rows import requested, score_rows
from gatelab.tasks.contract import Remark, TokenScores
from gatelab.tasks.text.generation import Generation

if TYPE_CHECKING:
    import pandas as pd

Device = tuple[str, int | list[int]]
"""Lightning's `accelerator` and `devices` of one device."""

BLOCK = 1 << 20
"""Bytes of a text that are read at once."""
# How data is read for an evaluation; none of it changes a score.
READING = ("eval_window", "eval_batch_size", "burn_in", "num_workers", "mirror", "cache", "path")
PLACES = {f"data.{name}" for name in DATA_FILES | {"mirror", "cache", "num_workers"}}
"""What leaves a score as it is to the last bit."""


def evaluate(
    path: str | Path,
    split: str | None = None,
    *,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    accelerator: str | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Score the best checkpoint of a run on `split` ("valid" or "test"; None: test, where there is one).

    The scores of a split that a finished run has none of are kept in its `result.json`, as `test=true` does at its end:
    unless the code has changed since, or the data are read or computed with in another way than the run's own.

    Args:
        overrides: how the data is read, e.g. `["data.eval_window=7"]`; the static score does not depend on it. And
            parameters of rows, e.g. `["cache.theta=0.3"]`.
        rows: other ways to score, by name (`Task.methods`), or `["all"]`; they are kept in the run's directory.
        accelerator: "cpu" or "gpu"; None: the device that the run was trained on.
        trust: accept targets that are not part of Gatelab.

    Returns:
        `run`, `split`, `checkpoint`, `metrics` (without a prefix, e.g. `{"ppl": ..., "tokens": ...}`),
        `baselines` (name -> metrics over the same positions), `seconds`, and `rows`: those of this split that are
        kept with the run or were scored now, see `gatelab.run.record.rows`; `unlisted`: `Task.unlisted`; `kept`:
        in words, where the scores are kept from now on, or why they are not; None: there were some already.

    Raises:
        RequestError: no such run, no checkpoint, changed data, data without that split, no such device here, or a row
            that this run cannot have.
    """
    loaded = load_task(path, trust=trust)
    asked, others = requested(loaded.task.methods, rows, overrides)
    kept = read_rows(loaded.run)
    with reading(loaded.run.run_file):
        data = load_data(with_reading(loaded.record, others))
        device: Device = (accelerator, 1) if accelerator else device_of(loaded.config)
        deterministic = loaded.config["trainer"].get("deterministic")
    split = split or ("test" if "test" in data.splits else "valid")
    report = evaluate_split(loaded.task, data, split, device=device, deterministic=deterministic)
    otherwise = [*others, f"--accelerator {accelerator}"] if accelerator else others
    kept_now = _keep(loaded, split, report, otherwise)
    unlisted = loaded.task.unlisted()
    new = score_rows(loaded, data, split, asked, report["metrics"], torch_device(device)) if asked else []
    shown = {row["method"]: row for row in (*kept, *new) if row["split"] == split}
    about = {"run": str(loaded.run.path), "split": split, "checkpoint": loaded.checkpoint.name}
    return {**about, **report, "rows": list(shown.values()), "unlisted": unlisted, "kept": kept_now}


def _keep(loaded: LoadedRun, split: str, scored: Mapping[str, Any], otherwise: Sequence[str]) -> str | None:
    """Keep the scores of a split that a finished run has none of; returns `kept` of `evaluate`.

    otherwise: what was given about how to read and compute.
    """
    result, file = loaded.run.result(), loaded.run.result_file
    if result is not None and result["outcome"] == "done" and split in result["splits"]:
        return None
    why, other = "", [given for given in otherwise if given.partition("=")[0] not in PLACES]
    if result is None or result["outcome"] != "done":
        why = "the run is not finished" if result is None else f"the run's outcome is {result['outcome']}"
    elif changed_code(loaded.record):
        why = "the code has changed since the run"
    elif other:
        why = f"{' '.join(other)} was given"
    elif result.get("validated", True) and loaded.checkpoint != loaded.run.best:
        why = f"they are those of {loaded.checkpoint.name}, for best.ckpt is gone"
    if why:
        return f"not kept in {file}: {why}"
    try:
        with loaded.run.locked():
            loaded.run.add_scores(split, scored)
    except (OSError, RequestError) as error:
        return f"not kept in {file}: {getattr(error, 'strerror', None) or error}"
    return f"kept in {file}"


def with_reading(record: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A run's record with other ways of reading its data.

    Raises:
        RequestError: an override would change what the run is.
    """
    node = dict(record["config"]["data"])
    files = _files(node)
    known = [*(name for name in READING if name in node), *(name for name in files if name not in READING)]
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.removeprefix("data.")
        if name not in known or not value:
            raise RequestError(
                f"{override}: a finished run is scored as it is; only "
                f"{', '.join(f'data.{name}' for name in known)} can be given."
            )
        try:
            node[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RequestError(f"{override}: '{value}' cannot be read as a value.") from None
        if name in ("mirror", "cache", "path", *files) and isinstance(node[name], str):
            node[name] = str(Path(node[name]).expanduser().absolute())
        # contents are compared by the files' names, so that two of one run must not change places
        then = Path(files.get(name, "")).name
        if name in files and name != "path" and Path(str(node[name])).name != then:
            raise RequestError(f"{override}: the run's file is named {then}; give it under that name.")
    problems = [f"{key}: {text}" for key, text in check_node(node, "data")]
    if problems:
        raise RequestError("\n".join(problems))
    return {**record, "config": {**record["config"], "data": node}}


def _files(node: Mapping[str, Any]) -> dict[str, str]:
    """The settings of `data` that name files, in their order, and what they name; beside `path` others are columns."""
    whole = isinstance(node.get("path"), str)
    return {
        name: place
        for name, place in node.items()
        if name in DATA_FILES and isinstance(place, str) and (name.endswith("path") or not whole)
    }


def device_of(config: Mapping[str, Any]) -> Device:
    """The device of a run's first process."""
    trainer = config["trainer"]
    devices = trainer.get("devices")
    return str(trainer.get("accelerator") or "auto"), devices[:1] if isinstance(devices, list) else 1


def torch_device(device: Device) -> torch.device:
    """The device that Lightning would take."""
    accelerator, devices = device
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", devices[0] if isinstance(devices, list) else 0)


def evaluate_split(
    task: Any,
    data: Any,
    split: str,
    *,
    device: Device = ("cpu", 1),
    deterministic: bool | Literal["warn"] | None = None,
) -> dict[str, Any]:
    """`metrics`, `baselines` (in metrics that the run has) and `seconds` of one split.

    deterministic: the run's `trainer.deterministic`, so that a GPU gives again what it gave at the end of training;
        None leaves the process as it is.
    """
    if split not in data.splits or split == "train":
        known = ", ".join(s for s in data.splits if s != "train")
        raise RequestError(f"split {split}: this data has {known}.")
    started = time.perf_counter()
    metrics = score(task, data, split, device=device, deterministic=deterministic)
    seconds = time.perf_counter() - started
    absent = {
        figure.name for figure in task.figures
    } - metrics.keys()  # of points the scores of a distribution
    baselines = {
        model: {name: value for name, value in found.items() if name not in absent}
        for model, found in data.baselines(split).items()
    }
    return {"metrics": metrics, "baselines": baselines, "seconds": round(seconds, 2)}


def score(
    task: Any,
    data: Any,
    split: str,
    *,
    device: Device = ("cpu", 1),
    deterministic: bool | Literal["warn"] | None = None,
) -> dict[str, float]:
    """Score a whole split in this process, as often as the task asks for (`Task.read_again`); `data` stays as it is."""
    quiet()
    accelerator, _ = device
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise RequestError(
            "PyTorch sees no GPU here, and the run is to be scored on one: --accelerator cpu scores it without."
        )
    reading = copy.copy(data)
    reading.trainer = None  # the split is scored whole, not a rank's share of it
    while True:
        metrics = _score_once(task, reading.dataloader(split), split, device, deterministic)
        if not task.read_again(reading, split, metrics):
            return metrics


def _score_once(
    task: Any, loader: Any, split: str, device: Device, deterministic: bool | Literal["warn"] | None
) -> dict[str, float]:
    import pytorch_lightning as pl
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    accelerator, devices = device
    with bars() as progress:
        tick = progress(split, _batches(loader))

        def done(*_: Any) -> None:
            tick(1)

        with request_errors("trainer", (Exception,)):
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=devices,
                deterministic=deterministic,
                callbacks=[pl.callbacks.LambdaCallback(on_validation_batch_end=done, on_test_batch_end=done)],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                # this process alone, also where torchrun or srun has started several
                plugins=[LightningEnvironment()],
            )
        run, prefix = (trainer.test, "test") if split == "test" else (trainer.validate, "val")
        run(task, dataloaders=loader, verbose=False)
    return dict(task.results[prefix])


def _batches(loader: Any) -> int | None:
    """How many batches a loader gives, if it knows."""
    try:
        return len(loader)
    except TypeError:
        return None


def predict(
    path: str | Path,
    file: str | Path,
    *,
    future: str | Path | None = None,
    conformal: bool = False,
    trust: bool = False,
) -> pd.DataFrame:
    """What the run in `path` says to the new input in `file`, a row each; `trust` as `load_task`.

    future: a file of what is known of the steps to forecast, for a task that takes one.
    conformal: with intervals that are calibrated on the run's validation split, which is kept in `calibration.json`.

    Raises:
        RequestError: no such run, a task that does not predict, or input that does not fit.
    """
    return predict_and_show(path, file, future=future, conformal=conformal, trust=trust, show=False)[0]


def predict_and_show(
    path: str | Path,
    file: str | Path,
    *,
    future: str | Path | None = None,
    conformal: bool = False,
    trust: bool = False,
    show: bool = True,
) -> tuple[pd.DataFrame, Sequence[Any]]:
    """What `predict` returns, and samples of it to look at (`Task.predicted`), none unless `show`."""
    loaded = load_task(path, trust=trust)
    if future is not None and not loaded.task.takes_future:
        raise RequestError(
            f"--future {future}: {type(loaded.task).__name__} reads no such file; leave it out."
        )
    given = {} if future is None else {"future": Path(future)}
    if conformal:
        use_calibration(loaded)
    with request_errors(f"--input {file}"), _remarks():
        try:
            frame: pd.DataFrame = loaded.task.predict(loaded, Path(file), **given)
        except ValueError as error:
            if not re.search(r"data\.(?!path)", str(error)):
                raise
            raise ValueError(
                f"{str(error).rstrip('.')}; these settings are the run's, so write the file as its data are"
            ) from error
        return frame, loaded.task.predicted(loaded, Path(file), frame, **given) if show else ()


def generate(path: str | Path, prompt: str, *, trust: bool = False, **options: Any) -> str:
    """The prompt and its continuation by the run in `path`; arguments and errors are those of `generate_several`."""
    if options.get("n", 1) != 1:
        raise RequestError(
            f"n={options['n']}: generate gives one text; generate_several gives a list of them."
        )
    return generate_several(path, prompt, trust=trust, **options)[0]


def generate_several(
    path: str | Path,
    prompt: str,
    *,
    trust: bool = False,
    show: Callable[[str], None] | None = None,
    **options: Any,
) -> list[str]:
    """`n` times the prompt and its continuation by the run in `path`.

    `options`: of `gatelab.tasks.text.generation.Generation`; `trust` as `load_task`, `show` as `Task.generate`.

    Raises:
        RequestError: no such run, a task that generates no text, or an option out of range.
    """
    with request_errors(""):
        asked = Generation.of(options)  # before anything is loaded
    loaded = load_task(path, trust=trust)
    with request_errors(str(path)), _remarks():
        texts: list[str] = loaded.task.generate(loaded, prompt, asked, show)
    return texts


def perplexity(
    path: str | Path,
    file: str | Path,
    *,
    window: int = 256,
    each: Callable[[TokenScores], None] | None = None,
    trust: bool = False,
) -> dict[str, float]:
    """The scores of a text under the language model in `path`, as `Task.perplexity` says; `trust` as `load_task`.

    `file` is read in parts, so it may be larger than memory; `-` is the standard input.

    Raises:
        RequestError: no such run or file, a task that is no language model, or a text that cannot be read or is empty.
    """
    if window < 1:
        raise RequestError(f"window={window}: give at least 1 step.")
    if str(file) != "-" and not Path(file).is_file():
        raise RequestError(
            f"{file}: {'is a folder; name one file in it' if Path(file).is_dir() else 'no such file'}."
        )
    loaded = load_task(path, trust=trust)
    with contextlib.ExitStack() as stack:
        stack.enter_context(request_errors(""))
        name = "standard input" if str(file) == "-" else str(file)
        given = iter(lambda: sys.stdin.buffer.read(BLOCK), b"") if str(file) == "-" else blocks(Path(file))
        scores: dict[str, float] = loaded.task.perplexity(loaded, given, window=window, name=name, each=each)
    return scores


@contextlib.contextmanager
def _remarks() -> Iterator[None]:
    """Tell on stderr what a task warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Remark)
        yield
    for warning in caught:
        if warning.category is Remark:
            say(str(warning.message))


def use_calibration(loaded: LoadedRun) -> None:
    """Have the run's intervals calibrated: by the kept calibration of this very checkpoint, else by a new one.

    Raises:
        RequestError: the task has no intervals, the data are gone or changed, or the file is damaged.
    """
    file = loaded.run.calibration_file
    checkpoint = hashlib.sha256(loaded.checkpoint.read_bytes()).hexdigest()
    kept = read_record(file, {"checkpoint": str, "calibration": dict}) if file.is_file() else {}
    if kept.get("checkpoint") != checkpoint:
        with request_errors("--conformal"), torch.inference_mode():
            calibration = loaded.task.calibrate(loaded.data)
        kept = {"format": 1, "checkpoint": checkpoint, "calibration": calibration}
        try:
            with loaded.run.locked():
                write_json(file, kept)
        except OSError as error:
            say(f"the calibration is not kept in {loaded.run.path}: {error.strerror}")
    try:
        loaded.task.use_calibration(kept["calibration"])
    except DAMAGED as error:
        raise RequestError(f"{file}: {error}. {DAMAGED_FIX}") from None
