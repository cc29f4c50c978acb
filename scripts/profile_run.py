"""Where the time of a short run goes beside its training steps, in milliseconds: python scripts/profile_run.py

Every run is a child forked from a process that has imported everything and trained once, as a sweep's trial is, so
imports are not in it. Each line is the time inside one function, calls inside it included; "train()" is the whole.
The smallest of several children is shown: what the machine did besides only ever adds. The children share one
folder for what follows from the data (`gatelab.data.disk_cache`); `--cold` gives each an empty one.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

SMALL = ["model.hidden_size=8", "trainer.max_epochs=1", "trainer.max_steps=2", "callbacks.progress=null"]
RUNS = {
    "stdlib": ["data=stdlib", "data.burn_in=200"],
    "ptb_word": ["data=ptb_word"],
    "tinyshakespeare": ["data=tinyshakespeare"],
    "etth1": ["data=etth1"],
    "embedded_series": ["data=embedded_series"],
}
PARTS = {
    "compose": "gatelab.run.train:compose",
    "check": "gatelab.run.train:check",
    "identify": "gatelab.run.train:identify",
    "describe (git, versions)": "gatelab.run.record.directory:describe,gatelab.run.record.environment:describe",
    "data: set-up": "gatelab.run.train:build_data",
    "data: find, hash, read": "gatelab.data.text.encode:corpus_sources,gatelab.data.text.encode:load_corpus,"
    "gatelab.data.series.module:read_series",
    "data: vocabulary": "gatelab.data.text.encode:train_tokenizer",
    "data: encode": "gatelab.data.text.tokenizer:WordTokenizer.encode,gatelab.data.text.tokenizer:CharTokenizer.encode",
    "fit": "gatelab.run.train:fit",
    "fit: trainer": "gatelab.run.train:build_trainer",
    "fit: checkpoints": "gatelab.tasks.checkpoint_io:AtomicCheckpointIO.save_checkpoint",
    "end: load checkpoint": "gatelab.run.train:load_task",
    "end: score": "gatelab.run.evaluate:score",
    "end: baselines": "gatelab.data.text.module:TextDataModule.baselines,"
    "gatelab.data.series.module:SeriesDataModule.baselines",
    "json files": "gatelab.run.record.directory:write_json,gatelab.run.train:write_json",
    "fsync": "os:fsync",
}


def instrument(seconds: dict[str, float]) -> None:
    """Wrap every part so that it adds its time to `seconds`."""

    def timed(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[label] = seconds.get(label, 0.0) + time.perf_counter() - start

        return call

    for label, places in PARTS.items():
        for place in places.split(","):
            module, _, path = place.partition(":")
            *outer, name = path.split(".")
            owner: Any = import_module(module)
            for step in outer:
                owner = getattr(owner, step)
            if hasattr(owner, name):
                setattr(owner, name, timed(label, getattr(owner, name)))


def child(request: list[str], cache: str | None, write: int) -> None:
    """Train in this forked process and write what each part took, as JSON, to the pipe."""
    from gatelab.run import train as module

    seconds: dict[str, float] = {}
    instrument(seconds)
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        module.train([*SMALL, *request, f"paths.root={root}", f"paths.cache={cache or root}"])
        seconds["train()"] = time.perf_counter() - start
    os.write(write, json.dumps(seconds).encode())


def measure(request: list[str], repeats: int, cache: str | None) -> dict[str, float]:
    """Return the smallest time of each part over `repeats` children, in milliseconds."""
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(request, cache, write)
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            for label, value in json.loads(pipe.read()).items():
                found.setdefault(label, []).append(value)
        os.waitpid(pid, 0)
    # a part that was not needed in every child (it was kept by an earlier one) counts as zero
    return {label: 1000 * min(values) if len(values) == repeats else 0.0 for label, values in found.items()}


def main() -> None:
    """Print one table: a line for each part, a column for each data set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="nothing is kept from one run to the next")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    from gatelab.run.train import train

    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stderr(io.StringIO()):
        for data in ("embedded_series", "stdlib"):
            train([*SMALL, *RUNS[data], "test=false", f"paths.root={root}"])
    with tempfile.TemporaryDirectory() as shared:
        cache = None if options.cold else shared
        table = {name: measure(RUNS[name], options.repeats, cache) for name in options.data}
    print(f"{'milliseconds':26}" + "".join(f"{name:>17}" for name in table))
    for label in ["train()", *PARTS]:
        cells = [f"{row[label]:17.1f}" if label in row else f"{'-':>17}" for row in table.values()]
        print(f"{label:26}{''.join(cells)}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
