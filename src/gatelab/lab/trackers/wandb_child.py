"""The process beside a run that gives it to Weights & Biases: `python -m gatelab.lab.trackers.wandb_child`.

It is told the settings on its standard input, follows `metrics.csv`, and on the next line is told how the run
ended; an end without that line is a run that was killed. Rows that an earlier part of the run has logged are left
out and rows that it lost are logged now, so all parts together hold what `metrics.csv` holds. Remarks for the
person at the terminal go to its standard output, tracebacks to `wandb/tracker.log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gatelab.lab.trackers.follow import STEP, Follow, Row, key
from gatelab.lab.trackers.wandb_file import read_segment, segment_files
from gatelab.lab.trackers.wandb_reach import why_offline

EVERY = 0.5
"""Seconds between two looks at `metrics.csv`."""
LINGER = 600.0
"""Seconds after the run's end for the last upload; what is not sent then is sent by `gatelab sync`."""
KILLED = {"outcome": "killed", "error": "the process ended without a word", "pictures": []}
EXIT_CODES = {"done": 0, "pruned": 0, "interrupted": 75}


class Ending(threading.Thread):
    """Waits for how the run ended, and sees to it that this process ends too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.message: dict[str, Any] = dict(KILLED)
        self.come = threading.Event()

    def run(self) -> None:
        """Read the last line, then allow the upload its time."""
        with contextlib.suppress(ValueError, OSError):
            self.message = json.loads(sys.stdin.readline())
        self.come.set()
        time.sleep(LINGER)
        os._exit(1)


class Child:
    """One part of a run, from a start or a resume to its end.

    Args:
        run_dir: the run directory.
        settings: as `WandbTracker` takes them.
    """

    def __init__(self, run_dir: Path, settings: dict[str, Any]) -> None:
        self.run_dir, self.settings = run_dir, settings
        self.record = json.loads((run_dir / "run.json").read_text())
        self.monitor, self.sign = _monitored(self.record["config"])
        self.best: float | None = None
        self._follow = Follow(run_dir / "metrics.csv")
        # the server is asked while wandb is imported
        self._asking = ThreadPoolExecutor().submit(why_offline) if settings["mode"] == "auto" else None
        self._known = Counter(key(row) for file in segment_files(run_dir) for row in read_segment(file).rows)
        self._run = self._begin()

    def _begin(self) -> Any:
        mode, why = self.settings["mode"], None
        if self._asking is not None:
            why = self._asking.result()
        if mode != "offline" and why is None:
            try:
                run = self._init("online")
            except Exception as error:
                traceback.print_exc()
                why = str(error).strip().splitlines()[0]
            else:
                remark(f"online, {run.url}")
                return self._define(run)
        remark(f"offline{f' ({why})' if why else ''}; `gatelab sync {self.run_dir}` sends it later")
        return self._define(self._init("offline"))

    def _init(self, mode: str) -> Any:
        import wandb

        given = {name: value for name, value in self.settings.items() if name != "mode"}
        return wandb.init(
            **given,
            mode=mode,  # type: ignore[arg-type]
            dir=self.run_dir,
            config=_config(self.record, self.run_dir),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, init_timeout=30
            ),
        )

    def _define(self, run: Any) -> Any:
        run.define_metric("*", step_metric=STEP)
        run.define_metric(self.monitor, step_metric=STEP, summary="none")
        return run

    def pass_on(self) -> None:
        """Log the rows that came since the last time, but those that an earlier part has logged."""
        for row in self._follow.rows():
            name = key(row)
            if self._known[name] > 0:
                self._known[name] -= 1
            else:
                self._run.log(row)
            self._compare(row)

    def _compare(self, row: Row) -> None:
        value = row.get(self.monitor)
        if value is None or value != value:
            return
        if self.best is None or self.sign * value < self.sign * self.best:
            self.best = value
            self._run.summary.update({self.monitor: value, f"best/{STEP}": row[STEP]})

    def conclude(self, message: dict[str, Any]) -> None:
        """Give the results, the pictures and how the run ended; wait for the upload."""
        outcome = message["outcome"]
        self._run.summary.update(
            {"outcome": outcome, **({"error": message["error"]} if message["error"] else {})}
        )
        with contextlib.suppress(FileNotFoundError):
            self._results(json.loads((self.run_dir / "result.json").read_text()), message["pictures"])
        if outcome == "interrupted":
            self._run.mark_preempting()
        self._run.finish(exit_code=EXIT_CODES.get(outcome, 1))

    def _results(self, result: dict[str, Any], pictures: list[str]) -> None:
        import wandb

        splits = result.get("splits") or {}
        flat = {f"{split}/{m}": v for split, part in splits.items() for m, v in part["metrics"].items()}
        self._run.summary.update(
            {**flat, "steps": result.get("steps"), "parameters": result.get("parameters")}
        )
        shown: dict[str, Any] = {Path(path).stem: wandb.Image(path) for path in pictures}
        if splits:
            columns, rows = _table(splits)
            shown["results"] = wandb.Table(columns=[*columns], data=[*rows])
        if shown:
            self._run.log(shown)


def _table(splits: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: this run and each baseline on each split, with every metric."""
    lines = {
        (split, who): scores
        for split, part in splits.items()
        for who, scores in {"this run": part["metrics"], **part["baselines"]}.items()
    }
    metrics = list(dict.fromkeys(name for scores in lines.values() for name in scores))
    rows = [[split, who, *(scores.get(m) for m in metrics)] for (split, who), scores in lines.items()]
    return ["split", "model", *metrics], rows


def _monitored(config: dict[str, Any]) -> tuple[str, int]:
    """The metric that decides which epoch is best, and 1 if less is better, else -1."""
    own = (config.get("callbacks") or {}).get("checkpoints") or {}
    task = config["task"]
    name, mode = own.get("monitor") or task["monitor"], own.get("mode") or task["mode"]
    return str(name), 1 if mode == "min" else -1


def _config(record: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    environment = record["attempts"][-1].get("environment", {})
    git = environment.get("git") or {}
    about = {"identity": record["identity"], "run_dir": str(run_dir), "revision": git.get("revision")}
    return {**record["config"], "gatelab": about}


@contextlib.contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Wait for the process of an earlier part of the run, which may still be writing its end."""
    with (run_dir / "wandb" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remark(text: str) -> None:
    """Tell the person at the terminal, if the run is still there."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def main() -> None:
    """Follow a run until its end."""
    settings = json.loads(sys.stdin.readline())
    run_dir = Path(settings.pop("run_dir"))
    os.nice(5)  # training goes first
    ending = Ending()
    ending.start()
    try:
        with alone(run_dir):
            child = Child(run_dir, settings)
            while not ending.come.wait(EVERY):
                child.pass_on()
            child.pass_on()
            child.conclude(ending.message)
    except Exception as error:
        traceback.print_exc()
        remark(f"failed ({error}); metrics.csv goes on, and wandb/tracker.log has the details")
    sys.stderr.flush()
    os._exit(0)  # wandb would still try for ten seconds to send reports about itself


if __name__ == "__main__":
    main()
