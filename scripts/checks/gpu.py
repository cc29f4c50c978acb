"""Everything that has to be seen on a GPU, in one command of at most nine minutes, without a network.

Every part runs in a process of its own with a limit of its own, so that one that fails or hangs hides no other:
  parity    every backend of this device against `reference` in float64: precisions, variants, lengths, resets, zoneout
  layers    microseconds a step of nn.GRU and of our backends, forward and with backward; of nn.LSTM in float16
  training  a language model and a forecaster in 32-true, bf16-mixed and 16-mixed
  resume    a run that is killed and started again, compared bit for bit with an undisturbed one
  sweep     four slots on the one device
  scoring   the finished runs scored again: the same numbers
  export    safetensors, ONNX and torch.export of a run that was trained here

The bars of parity: float64 1e-12; float32 twice nn.GRU's own error plus 1e-6; tf32 twice nn.GRU's plus 1e-3; bfloat16
2e-2, or one and a half times nn.GRU's where that is more (where nn.GRU has no such case, plain PyTorch, which is
`reference`, stands in for it). An error is max|a - b| / max|b|, of the outputs, the final state and all gradients.

examples:
  python -m scripts.checks.gpu --output docs/bench_gpu.json
  python -m scripts.checks.gpu --parts parity layers
  python -m scripts.checks.gpu --device cpu --quick          the same on a small scale, in about a minute

`parity` and `layers` need only torch. The packages for the others come to a machine without a network as wheels:
  pip wheel -c constraints.txt -w .whl antlr4-python3-runtime
  pip download -c constraints.txt --python-version 3.12 --only-binary=:all: --find-links .whl -d .whl NAMES
  pip install --no-index --no-deps --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site       (there)
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from scripts import harness
from scripts.harness import Command, environment, gatelab, place, read_json, show

sys.path.insert(0, str(harness.ROOT / "src"))  # a machine where the package is not installed

Row = dict[str, Any]
TOTAL_SECONDS = 530.0
LIMITS = {"layers": 150, "training": 150}
"""Seconds of a part at most; of the others 110."""
REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # without it cuBLAS is not the same twice
TRAINERS = {"cuda": "trainer=gpu", "cpu": "trainer=cpu"}
RUNS = {"language model": "experiment=quickstart", "forecaster": "experiment=quickstart_series"}
QUANTITIES = ("output", "h_n", "dx", "dh0")


@dataclass(frozen=True)
class Setup:
    """Where and how much: `quick` is for a test on a CPU; `folder` is shared by the parts."""

    device: str
    quick: bool
    folder: Path


# parity


def parity(at: Setup) -> Iterator[Row]:
    """One row for each case and backend."""
    import torch
    from torch import nn

    from gatelab.core.backends import BACKENDS, BackendError
    from gatelab.core.gru import GRU

    steps, batch, inputs, hidden = (9, 4, 5, 7) if at.quick else (61, 16, 24, 96)
    precisions = ["float64", "float32", *(["tf32"] if at.device == "cuda" else []), "bfloat16"]
    stacks = [(2, True)] if at.quick else [(1, False), (2, True)]
    extras = ("none", "lengths", "resets", "lengths and resets", "zoneout")
    for precision, after, (layers, both), extra in product(precisions, (True, False), stacks, extras):
        set_tf32(precision == "tf32")
        dtype = getattr(torch, {"tf32": "float32"}.get(precision, precision))
        torch.manual_seed(0)
        options: Row = {"num_layers": layers, "bidirectional": both, "device": at.device}
        ours: Row = {"reset_after": after, "zoneout": 0.2 if extra == "zoneout" else 0.0}
        weights = GRU(inputs, hidden, **options, **ours, dtype=dtype).state_dict()
        x = torch.randn(steps, batch, inputs, device=at.device, dtype=dtype)
        h0 = torch.randn(layers * (1 + both), batch, hidden, device=at.device, dtype=dtype)
        given: Row = {}
        if "lengths" in extra:
            given["lengths"] = torch.randint(1, steps + 1, (batch,))
            given["lengths"][0] = steps
        if "resets" in extra:
            given["reset_mask"] = torch.rand(steps, batch, device=at.device) < 0.1

        def answer(layer: Any, double: bool = False, data: Any = (weights, x, h0, given)) -> dict[str, Any]:
            state, x, h0, given = data
            layer.load_state_dict(state)
            return outcome(layer, *((x.double(), h0.double()) if double else (x, h0)), given)

        exact = answer(GRU(inputs, hidden, **options, **ours, dtype=torch.float64, backend="reference"), True)
        peer: dict[str, float] = {}
        if after and extra in ("none", "lengths"):
            peer = errors(answer(nn.GRU(inputs, hidden, **options, dtype=dtype)), exact)
        case = {"precision": precision, "reset_after": after, "layers": layers, "both": both, "extra": extra}
        own: dict[str, float] = {}
        for backend in BACKENDS:
            try:
                layer = GRU(inputs, hidden, **options, **ours, dtype=dtype, backend=backend)
                found = errors(answer(layer), exact)
            except BackendError as error:
                yield {**case, "backend": backend, "refused": str(error), "ok": None}
                continue
            own = own or found  # `reference` comes first: what plain PyTorch reaches stands in for nn.GRU
            yield judged(case, backend, precision, found, peer or own)


def set_tf32(on: bool) -> None:
    """Whether float32 products may round their factors to ten bits."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def outcome(layer: Any, x: Any, h0: Any, given: Row) -> dict[str, Any]:
    """Outputs and gradients of a loss that weighs every output and state differently."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    torch.manual_seed(1)  # zoneout draws the same masks in every precision
    if isinstance(layer, nn.GRU) and given:
        first = layer.batch_first
        packed, h = layer(pack_padded_sequence(x, given["lengths"], first, enforce_sorted=False), h0)
        y = pad_packed_sequence(packed, first, total_length=x.shape[int(first)])[0]
    else:
        y, h = layer(x, h0, **{name: value.to(x.device) for name, value in given.items()})
    dy = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(y)
    dh = torch.linspace(-2, 1, h.numel(), dtype=torch.float64).view(h.shape).to(h)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    found = (y.detach(), h.detach(), *torch.autograd.grad((y, h), (x, h0, *parameters), (dy, dh)))
    return dict(zip((*QUANTITIES, *(f"d{name}" for name in names)), found, strict=True))


def errors(got: dict[str, Any], want: dict[str, Any]) -> dict[str, float]:
    """max|a - b| / max|b| of each quantity."""
    return {name: float((got[name].double() - b).abs().max() / b.abs().max()) for name, b in want.items()}


def bar(precision: str, peer: float) -> float:
    """The largest error allowed, where nn.GRU has the error `peer`."""
    bars = {"float64": 1e-12, "float32": 2 * peer + 1e-6, "tf32": 2 * peer + 1e-3}
    return bars.get(precision, max(2e-2, 1.5 * peer))


def judged(case: Row, backend: str, precision: str, found: dict[str, float], peer: dict[str, float]) -> Row:
    """The quantity that comes nearest to its bar, or passes it."""
    shares = {name: error / bar(precision, peer.get(name, 0.0)) for name, error in found.items()}
    worst = max(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])
    error, allowed = found[worst], bar(precision, peer.get(worst, 0.0))
    row = {**case, "backend": backend, "worst": worst, "error": error, "bar": allowed}
    return row | {"ok": math.isfinite(error) and error <= allowed}


def parity_table(rows: list[Row]) -> list[Row]:
    """One line for each backend and precision."""
    lines = []
    for backend, precision in dict.fromkeys((r["backend"], r["precision"]) for r in rows):
        mine = [r for r in rows if (r["backend"], r["precision"]) == (backend, precision)]
        ran = [r for r in mine if "error" in r]
        line: Row = {"backend": backend, "precision": precision, "cases": len(ran)}
        line |= {"refused": len(mine) - len(ran), "failed": sum(not r["ok"] for r in ran)}
        if ran:
            worst = max(ran, key=lambda r: (not r["ok"], r["error"] / r["bar"]))
            keys = ("worst", "error", "bar", "reset_after", "layers", "extra")
            line["worst case"] = ", ".join(f"{key} {worst[key]}" for key in keys)
        lines.append(line)
    return sorted(lines, key=lambda line: len(line), reverse=True)  # the first has every column


# speed


def layers(at: Setup) -> Iterator[Row]:
    """Microseconds a step, a contender a row."""
    import torch

    from scripts.bench.gru_cases import Case, Shape, contenders, measure, records

    steps, pace = (8, (2, 0.005)) if at.quick else (256, (5, 0.03))
    sizes, batches = ((16,), (2,)) if at.quick else ((64, 128, 256, 512, 768, 1024), (16, 64))
    precisions = ("float32", "bfloat16") if at.device == "cpu" else ("float32", "tf32", "bfloat16")
    ours = [name for name in contenders(at.device) if name not in ("nn.GRU", "reference")]
    lstm, half = Shape("lstm", 8 if at.quick else 1024, 16, 768, 768), torch.float16
    halves = [("float16", Case(lstm, training, device=at.device, dtype=half)) for training in (False, True)]
    grid = []
    both = (False, True)
    for precision, hidden, batch, ragged, training in product(precisions, sizes, batches, both, both):
        dtype = getattr(torch, {"tf32": "float32"}.get(precision, precision))
        shape = Shape("grid", steps, batch, hidden, hidden)
        grid.append((precision, Case(shape, training, ragged, device=at.device, dtype=dtype)))
    # nn.GRU alone first: it is what the others are measured by, should the time end
    some = [(p, case) for p, case in grid if p != "tf32" and case.shape.hidden not in (64, 768)]
    for names, cases in ((["nn.LSTM"], halves), (["nn.GRU"], grid), (["nn.GRU", *ours], some)):
        for precision, case in cases:
            set_tf32(precision == "tf32")
            for row in records(case, measure(case, names, *pace)):
                yield {**row, "precision": precision, "alone": len(names) == 1, "ok": None}


def layers_table(rows: list[Row]) -> list[Row]:
    """What of a record is looked at."""
    keys = ("backend", "H", "B", "T", "precision", "ragged", "mode", "microseconds_per_step")
    return [{key: row[key] for key in keys} for row in rows]


# runs


def train(at: Setup, task: str, name: str, *more: str, seconds: float = 120) -> Path:
    """Train below `<folder>/<name>` and return the run directory; a finished run is not trained again."""
    harness.run(
        train_command(at, task, name, *more), at.folder / f"{name}.log", seconds, environment(**REPEATABLE)
    )
    return run_directory(at, name)


def train_command(at: Setup, task: str, name: str, *more: str) -> list[str]:
    small = ["model.hidden_size=16", "data.max_characters=100000"][: 2 if task == "language model" else 1]
    given = [
        RUNS[task],
        TRAINERS[at.device],
        "trainer.max_epochs=50",
        "trainer.val_check_interval=null",
        "test=false",
    ]
    given += ["callbacks.progress=null", "callbacks.throughput=null", "callbacks.memory=null"]
    given += [*(small if at.quick else []), *more]
    return gatelab("train", *given, f"paths.root={at.folder / name}", f"paths.cache={at.folder / 'cache'}")


def run_directory(at: Setup, name: str) -> Path:
    (found,) = (file.parent for file in (at.folder / name).glob("runs/*/*/run.json"))
    return found


def training(at: Setup) -> Iterator[Row]:
    """One row a run: it reaches its last step, its loss falls, its score is finite."""
    from gatelab.run.record.directory import read_metrics

    steps = 20 if at.quick else 200
    for task, precision in product(RUNS, ("32-true", "bf16-mixed", "16-mixed")):
        if at.device == "cpu" and precision != "32-true":
            continue
        limits = [f"trainer.precision={precision}", f"trainer.max_steps={steps}"]
        limits += [f"trainer.log_every_n_steps={steps // 10}"]
        directory = train(at, task, f"{task}-{precision}".replace(" ", "-"), *limits)
        result, rows = read_json(directory / "result.json"), read_metrics(directory / "metrics.csv")
        seen = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
        (score,) = [v for k, v in result["splits"]["valid"]["metrics"].items() if k in ("bpc", "mse")]
        row: Row = {"task": task, "precision": precision, "steps": result["steps"]}
        row |= {"seconds": result["seconds"]["fit"], "first loss": round(seen[0], 4)}
        row |= {"last loss": round(seen[-1], 4), "validation": round(score, 4)}
        yield row | {"ok": result["steps"] == steps and math.isfinite(score) and seen[-1] < seen[0]}


def resume(at: Setup) -> Iterator[Row]:
    """One row a kind of run: killed in the middle, started again, equal to the undisturbed one."""
    import signal

    from scripts.compare import first_difference

    steps = 20 if at.quick else 60
    kinds = [("language model", "32-true"), ("forecaster", "32-true" if at.device == "cpu" else "bf16-mixed")]
    for task, precision in kinds[: 1 if at.quick else 2]:
        more = [f"trainer.precision={precision}", f"trainer.max_steps={steps}"]
        more += ["trainer.val_check_interval=15", "callbacks.checkpoints.every_n_steps=5"]
        name = f"resume-{task}".replace(" ", "-")
        whole = train(at, task, f"{name}-whole", *more)
        arguments = train_command(at, task, f"{name}-killed", *more)
        checkpoints = at.folder / f"{name}-killed/runs"
        killed = Command(arguments, at.folder / f"{name}-killed.log", environment(**REPEATABLE))
        reached = killed.until(lambda at=checkpoints: any(at.glob("*/*/checkpoints/last.ckpt")), 120)  # type: ignore[misc]
        killed.signal(signal.SIGKILL)
        killed.wait(10)
        difference = first_difference(train(at, task, f"{name}-killed", *more), whole)
        attempts = len(read_json(run_directory(at, f"{name}-killed") / "run.json")["attempts"])
        row = {"task": task, "precision": precision, "attempts": attempts, "difference": difference or "none"}
        yield row | {"ok": reached and attempts == 2 and difference is None}


def sweep(at: Setup) -> Iterator[Row]:
    """Six trials in four slots that share the device."""
    steps, sizes = (10, (8, 12)) if at.quick else (100, (32, 48, 64, 96, 128, 192))
    given = ["data=adding", "model=gru", TRAINERS[at.device], "test=false"]
    given += [f"model.hidden_size={','.join(map(str, sizes))}"]
    given += ["data.steps=30", "data.train_items=4096", "data.eval_items=128", f"trainer.max_steps={steps}"]
    given += ["study=slots", f"study.slots={2 if at.quick else 4}", f"paths.root={at.folder / 'sweep'}"]
    seconds = harness.run(gatelab("sweep", *given), at.folder / "sweep.log", 120)
    trials = read_json(at.folder / "sweep/studies/slots/summary.json")["trials"]
    values = [trial["value"] for trial in trials]
    ok = len(trials) == len(sizes) and all(value is not None and math.isfinite(value) for value in values)
    best = min(values) if ok else None
    yield {"trials": len(trials), "asked": len(sizes), "seconds": round(seconds, 1), "best": best, "ok": ok}


def scoring(at: Setup) -> Iterator[Row]:
    """A run scored again gives the numbers that it was recorded with."""
    for task in RUNS:
        directory = any_run(at, task)
        log = at.folder / f"eval-{task}.log"
        command = gatelab("eval", str(directory), "--split", "valid", "--json")
        seconds = harness.run(command, log, 60, environment(**REPEATABLE))
        again = json.loads("{" + log.read_text().partition("{")[2])["metrics"]
        recorded = read_json(directory / "result.json")["splits"]["valid"]["metrics"]
        shared = recorded.keys() & again.keys()
        differ = [key for key in shared if recorded[key] != again[key]]
        said = ", ".join(f"{key} {recorded[key]} {again[key]}" for key in differ) or "none"
        row = {"task": task, "seconds": round(seconds, 1), "metrics": len(shared), "different": said}
        yield row | {"ok": bool(shared) and not differ}


def any_run(at: Setup, task: str) -> Path:
    """A finished run of the part `training`, trained now if that part has not left one."""
    name = f"{task}-32-true".replace(" ", "-")
    if list((at.folder / name).glob("runs/*/*/result.json")):
        return run_directory(at, name)
    return train(at, task, name, "trainer.max_steps=20", "trainer.log_every_n_steps=2")


def export(at: Setup) -> Iterator[Row]:
    """Each format of a run that was trained on the device; the command compares what it wrote with the run."""
    for kind in ("safetensors",) if at.quick else ("safetensors", "onnx", "torch-export"):
        log, target = at.folder / f"export-{kind}.log", at.folder / f"model.{kind}"
        run_dir = str(any_run(at, "language model"))
        code = Command(gatelab("export", run_dir, "--format", kind, "--output", str(target)), log).wait(80)
        size = target.stat().st_size if target.is_file() else 0
        said = "" if code == 0 else (log.read_text().splitlines() or [""])[-1]
        yield {"format": kind, "bytes": size, "exit code": code, "said": said, "ok": code == 0 and size > 0}


PARTS: dict[str, Callable[[Setup], Iterator[Row]]]
PARTS = {part.__name__: part for part in (parity, layers, training, resume, sweep, scoring, export)}
TABLES = {"parity": parity_table, "layers": layers_table}


def machine(device: str) -> Row:
    """What the numbers depend on."""
    import torch

    about = {"python": platform.python_version(), "torch": torch.__version__, "device": device}
    if device == "cuda":
        about |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        about["cudnn"] = str(torch.backends.cudnn.version())
    return about


def do_part(name: str, at: Setup, seconds: float) -> Row:
    """Run one part in its own process: its rows, and how it ended."""
    rows, began = at.folder / f"{name}.jsonl", time.monotonic()
    rows.touch()
    arguments = [sys.executable, "-m", "scripts.checks.gpu", "--part", name, "--rows", str(rows)]
    arguments += ["--device", at.device, "--folder", str(at.folder), *(["--quick"] if at.quick else [])]
    code = (command := Command(arguments, at.folder / f"{name}.part.log")).wait(seconds)
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    bad = [row for row in found if row["ok"] is False]
    ended = "ok" if code == 0 and not bad else f"{len(bad)} failed" if code == 0 else "stopped by an error"
    if code is None:
        ended = f"not finished in {seconds:.0f} s" + (f", {len(bad)} failed" if bad else "")
    log = command.tail(20) if code else ""
    return {"ended": ended, "seconds": round(time.monotonic() - began, 1), "rows": found, "log": log}


def main(arguments: list[str] | None = None) -> int:
    p = harness.parser(__doc__, folder=True)
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    p.add_argument("--quick", action="store_true", help="few small cases")
    p.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART", help="default: all"
    )
    p.add_argument("--output", type=Path, metavar="FILE", help="write everything as JSON, after each part")
    p.add_argument("--part", help=argparse.SUPPRESS)
    p.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = p.parse_args(arguments)
    if options.part:
        with options.rows.open("a", buffering=1) as file:
            for row in PARTS[options.part](Setup(options.device, options.quick, options.folder)):
                file.write(json.dumps(row) + "\n")
        return 0
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --quick runs a small part of it", file=sys.stderr)
        return 2
    deadline = time.monotonic() + TOTAL_SECONDS
    document: Row = {"machine": machine(options.device), "parts": {}}
    print(json.dumps(document["machine"]), flush=True)
    with place(options.folder, "gpu-") as folder:
        at = Setup(options.device, options.quick, folder)
        for name in options.parts:
            part: Row = {"ended": "skipped: no time left", "seconds": 0.0, "rows": [], "log": ""}
            if (left := deadline - time.monotonic()) >= 5:
                part = do_part(name, at, min(LIMITS.get(name, 110), left))
            document["parts"][name] = part
            show(f"{name}: {part['ended']}, {part['seconds']} s", TABLES.get(name, list)(part["rows"]))
            print(part["log"], flush=True)
            if options.output:
                harness.write_json(options.output, document)
    ends = {name: part["ended"] for name, part in document["parts"].items()}
    show("", [{"part": name, "ended": ended} for name, ended in ends.items()])
    return int(any(ended != "ok" for ended in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
