"""Whole runs on the device, each a process of its own as a user starts it: every task in every precision, a run that is
killed, a sweep, scoring, export, and the speed of an epoch. The data are made up here or built in: no file is fetched.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from statistics import median
from time import monotonic

from scripts import harness
from scripts.checks.gpu.setup import Row, Setup
from scripts.compare import first_difference
from scripts.harness import Command, environment, gatelab, read_json

REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it cuBLAS is not the same twice
TRAINERS = {"cuda": "trainer=gpu", "cpu": "trainer=cpu"}
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
QUIET = ("progress", "throughput", "memory")
TASKS = {
    "language model": "experiment=quickstart",
    "forecaster": "experiment=quickstart_series",
    "quantiles of a panel": "experiment=retail_panel model.hidden_size=64",
    "translation": "data=pairs data.source={data}/ein.txt data.target={data}/one.txt optim.lr=3e-3",
    "classification": "data=labelled data.path={data}/messages.csv data.text=message data.label=department "
    "task.net.bidirectional=true optim.lr=3e-3",
    "polyphony": "data=jsb data._target_=scripts.checks.gpu.made_up.Chorales optim.lr=3e-3",
    "speech": "data=transcribed data.path={data}/speech/manifest.csv data.level=word optim.lr=3e-3",
    "adding problem": "data=adding data.steps=50 data.train_items=4096 data.eval_items=256",
    "copy memory": "data=copy_memory data.delay=20 data.train_items=4096 data.eval_items=256",
}
"""What is asked for; `{data}` is the folder of made-up files."""
QUICK = ("polyphony", "speech")
WORDS, VOCABULARY = 929_589, 10_000
"""Training tokens and words of Penn Treebank, in whose size the epoch is given."""
EPOCH_SECONDS = 25
"""What such a run takes; one that could not end in time is not begun."""


def make_data(folder: Path) -> None:
    """Write the files that the tasks read."""
    from scripts.checks.gpu import made_up

    folder.mkdir(parents=True)
    made_up.pairs(folder / "ein.txt", folder / "one.txt", 3000)
    made_up.messages(folder / "messages.csv", 3000)
    made_up.speech(folder / "speech", 240)


def train(at: Setup, task: str, name: str, *more: str, seconds: float = 120) -> Path:
    """Train below `<folder>/<name>`, and return the run directory."""
    harness.run(command(at, task, name, *more), at.folder / f"{name}.log", seconds, environment(**REPEATABLE))
    return run_directory(at, name)


def command(at: Setup, task: str, name: str, *more: str) -> list[str]:
    """The command line of a run with few callbacks; the memory of the GPU is in its result all the same."""
    asked = [word.format(data=at.folder / "data") for word in TASKS[task].split()]
    small = ["model.hidden_size=16"] if at.quick else []
    small += ["data.max_characters=100000"] if at.quick and task == "language model" else []
    given = [TRAINERS[at.device], "trainer.max_epochs=100", "trainer.val_check_interval=null", "test=false"]
    given += [f"callbacks.{each}=null" for each in QUIET]
    return gatelab("train", *asked, *small, *given, *more, *places(at, name))


def places(at: Setup, name: str) -> list[str]:
    """Where a run writes."""
    return [f"paths.root={at.folder / name}", f"paths.cache={at.folder / 'cache'}"]


def run_directory(at: Setup, name: str) -> Path:
    (found,) = (file.parent for file in (at.folder / name).glob("runs/*/*/run.json"))
    return found


def training(at: Setup) -> Iterator[Row]:
    """One row a run, several at a time: it reaches its last step, its loss falls, its scores are finite."""
    tasks = QUICK if at.quick else tuple(TASKS)
    precisions = PRECISIONS if at.device == "cuda" else PRECISIONS[:1]
    with ThreadPoolExecutor(max(1, min(9, (os.cpu_count() or 1) - 2))) as pool:
        started = [pool.submit(trained, at, *what) for what in product(tasks, precisions)]
        for done in as_completed(started):
            yield done.result()


def trained(at: Setup, task: str, precision: str) -> Row:
    """The row of a run; an error of it is told there."""
    from gatelab.run.record.directory import read_metrics

    steps = 20 if at.quick else 100
    row: Row = {"task": task, "precision": precision}
    limits = [f"trainer.precision={precision}", f"trainer.max_steps={steps}"]
    limits += [f"trainer.log_every_n_steps={steps // 10}", f"callbacks.gates.every_n_steps={steps // 2}"]
    try:
        directory = train(at, task, f"{task}-{precision}".replace(" ", "-"), *limits)
    except RuntimeError as error:
        return {**row, "steps": 0, "said": str(error)[-1500:], "ok": False}
    result, rows = read_json(directory / "result.json"), read_metrics(directory / "metrics.csv")
    seen = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    scores = result["splits"]["valid"]["metrics"]
    peak = (result.get("memory") or {}).get("gpu_peak_bytes")
    row |= {"steps": result["steps"], "seconds": result["seconds"]["fit"], "first loss": round(seen[0], 4)}
    row |= {"last loss": round(seen[-1], 4), "monitor": result["monitor"], "best": result["best"]}
    row |= {"peak MiB of the GPU": None if peak is None else round(peak / 2**20, 1)}
    finite = all(math.isfinite(value) for value in (*seen, *scores.values()))
    return row | {"ok": result["steps"] == steps and finite and min(seen[-3:]) < seen[0]}


def training_table(rows: list[Row]) -> list[Row]:
    """The runs by task, and the end of what a failed one said."""
    keys = ("task", "precision", "steps", "seconds", "first loss", "last loss", "monitor", "best")
    keys = (*keys, "peak MiB of the GPU", "ok", "said")
    rows = sorted(rows, key=lambda row: (list(TASKS).index(row["task"]), PRECISIONS.index(row["precision"])))
    return [{key: row.get(key) for key in keys} for row in rows]


def resume(at: Setup) -> Iterator[Row]:
    """One row a kind of run: killed in the middle, started again, equal to the undisturbed one."""
    kinds = [("language model", "32-true"), ("forecaster", "32-true" if at.device == "cpu" else "bf16-mixed")]
    kinds = kinds[:1] if at.quick else [*kinds, ("speech", PRECISIONS[2 if at.device == "cuda" else 0])]
    with ThreadPoolExecutor(len(kinds)) as pool:
        yield from pool.map(lambda kind: resumed(at, *kind), kinds)


def resumed(at: Setup, task: str, precision: str) -> Row:
    """The row of a kind of run."""
    steps = 20 if at.quick else 60
    more = [f"trainer.precision={precision}", f"trainer.max_steps={steps}"]
    if task == "language model":
        more += ["trainer.val_check_interval=15"]  # a validation inside the part that is done again
    more += ["callbacks.checkpoints.every_n_steps=5"]
    name = f"resume-{task}".replace(" ", "-")
    with ThreadPoolExecutor(1) as pool:
        undisturbed = pool.submit(train, at, task, f"{name}-whole", *more)
        arguments = command(at, task, f"{name}-killed", *more)
        checkpoints = at.folder / f"{name}-killed/runs"
        killed = Command(arguments, at.folder / f"{name}-killed.log", environment(**REPEATABLE))
        reached = killed.until(lambda: any(checkpoints.glob("*/*/checkpoints/last.ckpt")), 120)
        killed.signal(signal.SIGKILL)
        killed.wait(10)
        again = train(at, task, f"{name}-killed", *more)
        difference = first_difference(again, undisturbed.result())
    attempts = len(read_json(run_directory(at, f"{name}-killed") / "run.json")["attempts"])
    row = {"task": task, "precision": precision, "attempts": attempts, "difference": difference or "none"}
    return row | {"ok": reached and attempts == 2 and difference is None}


def sweep(at: Setup) -> Iterator[Row]:
    """Six trials in four slots that share the device."""
    steps, sizes = (10, (8, 12)) if at.quick else (100, (32, 48, 64, 96, 128, 192))
    given = ["data=adding", "model=gru", TRAINERS[at.device], "test=false"]
    given += [f"model.hidden_size={','.join(map(str, sizes))}"]
    given += ["data.steps=30", "data.train_items=4096", "data.eval_items=128", f"trainer.max_steps={steps}"]
    given += ["study=slots", f"study.slots={2 if at.quick else 4}", f"paths.root={at.folder / 'sweep'}"]
    seconds = harness.run(gatelab("sweep", *given), at.folder / "sweep.log", 140)
    trials = read_json(at.folder / "sweep/studies/slots/summary.json")["trials"]
    values = [trial["value"] for trial in trials]
    ok = len(trials) == len(sizes) and all(value is not None and math.isfinite(value) for value in values)
    best = min(values) if ok else None
    yield {"trials": len(trials), "asked": len(sizes), "seconds": round(seconds, 1), "best": best, "ok": ok}


def scoring(at: Setup) -> Iterator[Row]:
    """A run scored again gives the numbers that it was recorded with."""
    for task in ("language model", "forecaster")[: 1 if at.quick else 2]:
        directory = train(at, task, f"scored-{task}".replace(" ", "-"), "trainer.max_steps=20")
        log = at.folder / f"eval-{task.replace(' ', '-')}.log"
        seconds = harness.run(
            gatelab("eval", str(directory), "--split", "valid", "--json"), log, 90, environment(**REPEATABLE)
        )
        again = json.loads("{" + log.read_text().partition("{")[2])["metrics"]
        recorded = read_json(directory / "result.json")["splits"]["valid"]["metrics"]
        shared = recorded.keys() & again.keys()
        differ = [key for key in shared if recorded[key] != again[key]]
        told = ", ".join(f"{key} {recorded[key]} {again[key]}" for key in differ) or "none"
        row = {"task": task, "seconds": round(seconds, 1), "metrics": len(shared), "different": told}
        yield row | {"ok": bool(shared) and not differ}


def export(at: Setup) -> Iterator[Row]:
    """Each format of a run that was trained on the device; the command compares what it wrote with the run."""
    kinds = ("safetensors",) if at.quick else ("safetensors", "onnx", "torch-export")
    directory = train(at, "language model", "exported", "trainer.max_steps=20")
    with ThreadPoolExecutor(len(kinds)) as pool:
        yield from pool.map(lambda kind: exported(at, directory, kind), kinds)


def exported(at: Setup, directory: Path, kind: str) -> Row:
    """The row of a format."""
    log, target = at.folder / f"export-{kind}.log", at.folder / f"model.{kind}"
    code = Command(gatelab("export", str(directory), "--format", kind, "--output", str(target)), log).wait(80)
    size = target.stat().st_size if target.is_file() else 0
    told = "" if code == 0 else (log.read_text().splitlines() or [""])[-1]
    return {"format": kind, "bytes": size, "exit code": code, "said": told, "ok": code == 0 and size > 0}


def epochs(at: Setup) -> Iterator[Row]:
    """Milliseconds a step and seconds an epoch of word language models of Penn Treebank's size, while there is time."""
    from gatelab.core.backends import BACKENDS
    from scripts.checks.gpu import made_up

    began, steps = monotonic(), 24 if at.quick else 300
    folder = at.folder / "words"
    folder.mkdir()
    made_up.text(folder / "train.txt", 60_000 if at.quick else WORDS, 500 if at.quick else VOCABULARY)
    made_up.text(folder / "valid.txt", 3000, 500, seed=1)
    asked = ["test=false", "data=text", "data.level=word", f"data.path={folder / 'train.txt'}"]
    asked += [f"data.{split}_path={folder / 'valid.txt'}" for split in ("valid", "test")]
    asked += [TRAINERS[at.device], f"trainer.max_steps={steps}", f"trainer.log_every_n_steps={steps // 6}"]
    cores = ["gru", "nn_gru", *(["gru model.backend=triton"] if "triton" in BACKENDS else [])]
    wanted = [*product(("ptb_awd_gru_small",), ("32-true", "bf16-mixed"), cores)]
    wanted += product(("ptb_gru",), ("32-true",), cores[:2])
    for experiment, precision, core in wanted[: 1 if at.quick else None]:
        if (left := at.seconds - (monotonic() - began)) < EPOCH_SECONDS and not at.quick:
            return
        row: Row = {"experiment": experiment, "model": core, "precision": precision}
        name = re.sub(r"[^\w.-]", "-", "-".join(["epoch", *row.values()]))
        given = [
            f"experiment={experiment}",
            *f"model={core}".split(),
            *asked,
            f"trainer.precision={precision}",
        ]
        try:
            seconds = harness.run(
                gatelab("train", *given, *places(at, name)), at.folder / f"{name}.log", left
            )
        except RuntimeError as error:
            yield {**row, "said": str(error)[-1500:], "ok": False}
        else:
            yield {**row, **pace(at, name, seconds), "said": "", "ok": True}


def pace(at: Setup, name: str, seconds: float) -> Row:
    """What a run says of its speed after its first logged step; `seconds` is what the command took."""
    from gatelab.run.record.directory import read_metrics

    directory = run_directory(at, name)
    data = read_json(directory / "run.json")["config"]["data"]
    logged = read_metrics(directory / "metrics.csv")
    speeds = [float(row["time/tokens_per_second"]) for row in logged if row.get("time/tokens_per_second")]
    speed = median(speeds[1:])
    tokens = data["batch_size"] * data["window"]
    peak = (read_json(directory / "result.json").get("memory") or {}).get("gpu_peak_bytes")
    row: Row = {"tokens a step": tokens, "ms a step": round(1000 * tokens / speed, 3)}
    row |= {"seconds an epoch": round(WORDS / speed, 2), "seconds of the command": round(seconds, 1)}
    return row | {"peak MiB of the GPU": None if peak is None else round(peak / 2**20, 1)}


PARTS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    part.__name__: part for part in (training, resume, sweep, scoring, export)
}
