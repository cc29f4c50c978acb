"""Train, sweep and look at runs from Python, in a notebook or a script.

    import gatelab

    run = gatelab.train("experiment=quickstart", "model.hidden_size=64")
    run.results["valid"]["bpc"], run.metrics, run.generate("def ")
    study = gatelab.sweep("experiment=quickstart", "study=size", "model.hidden_size=32,64")
    study.leaderboard(), study.best().model
    gatelab.runs(where="hidden_size>=64")

Overrides are the strings of the command line, and what they ask for is the same run or study: what is finished is not
trained again. Errors are `RequestError` (something asked for is wrong; nothing was trained), `RunFailed`, `Interrupted`
(Ctrl-C, or the notebook's stop button: a run that trains has saved itself, and the same call continues it). A call may
come from any thread, one training at a time: the random numbers are the process's. Only the main thread can be stopped
by a signal.
"""

from __future__ import annotations

import functools
import io
import os
import shlex
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gatelab.report.explanation import write_explanation
from gatelab.report.files import write_report
from gatelab.report.text import following
from gatelab.run import Interrupted, RequestError
from gatelab.run import load as loading
from gatelab.run import train as training
from gatelab.run.record.directory import RunDirectory, read_metrics, recorded_as
from gatelab.run.record.find import default_runs
from gatelab.run.record.listing import FACTS, differences, list_runs, order, select
from gatelab.run.record.rows import read_rows
from gatelab.run.scoring import evaluate
from gatelab.run.scoring import explain as explaining
from gatelab.study import sweep as sweeping
from gatelab.study.analysis.leaderboard import leaderboard, to_csv
from gatelab.study.analysis.read import find_study, read_study
from gatelab.study.analysis.state import StudyState
from gatelab.study.members import runs_of_place
from gatelab.tasks.signals import stoppable

Folder = str | os.PathLike[str]
TRAINING = threading.Lock()
"""Held while a run trains in this process."""


class Run:
    """A recorded run; `path` is its directory, absolute. Nothing is read before it is asked for."""

    def __init__(self, path: Folder, *, trust: bool = False) -> None:
        found = RunDirectory.open(Path(path) if isinstance(path, os.PathLike) else path)
        self.path = found.path.absolute()  # a notebook may change its folder
        self._run, self._trust = RunDirectory(self.path), trust

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.state})"

    @property
    def state(self) -> str:
        """As in `gatelab runs`."""
        return self._run.state()

    @property
    def record(self) -> dict[str, Any]:
        """The content of `run.json`: `config`, `attempts` (command, environment), `data` (sha256)..."""
        return self._run.read()

    @property
    def result(self) -> dict[str, Any]:
        """The content of `result.json`; empty until there is one."""
        return self._run.result() or {}

    @property
    def results(self) -> dict[str, dict[str, float]]:
        """Split (`valid`, `test`) -> the best checkpoint's metrics."""
        return {split: report["metrics"] for split, report in self.result.get("splits", {}).items()}

    @property
    def rows(self) -> pd.DataFrame:
        """Splits scored otherwise than static (`evaluate(rows=...)`): `split`, `method`, the metrics, `parameters`."""
        facts = ("split", "method", "parameters", "seconds")
        rows = [{key: row[key] for key in facts} | row["metrics"] for row in read_rows(self._run)]
        return pd.DataFrame(rows, columns=None if rows else list(facts))

    @property
    def metrics(self) -> pd.DataFrame:
        """What was logged: a row for each logged step and validation, NaN where a row has no such figure."""
        file = self._run.metrics_file
        return pd.DataFrame(read_metrics(file) if file.is_file() else []).apply(pd.to_numeric)

    @functools.cached_property
    def _loaded(self) -> loading.LoadedRun:
        return loading.load_task(self.path, trust=self._trust)

    @property
    def task(self) -> Any:
        """The LightningModule with the best weights, in evaluation mode."""
        return self._loaded.task

    @property
    def model(self) -> Any:
        """The network (`nn.Module`) with the best weights, in evaluation mode."""
        return self.task.net

    @property
    def data(self) -> Any:
        """The DataModule, set up; refused if a file is not the one that the run was trained on."""
        return self._loaded.data

    def predict(
        self, new: pd.DataFrame | Folder, *, future: Folder | None = None, conformal: bool = False
    ) -> pd.DataFrame:
        """What the model says to new input, a table or its file: a forecaster continues it, in original units.

        future: a file of what is known of the steps to forecast (a panel's `data.known_future`).
        conformal: with quantiles that are calibrated on the run's validation split.
        """
        if isinstance(new, str | os.PathLike):
            return self._predict(Path(new), future, conformal)
        with tempfile.TemporaryDirectory() as folder:
            new.to_csv(file := Path(folder) / "input.csv", index=False)
            return self._predict(file, future, conformal)

    def _predict(self, file: Path, future: Folder | None, conformal: bool) -> pd.DataFrame:
        ahead = None if future is None else Path(future)
        return evaluate.predict(self.path, file, future=ahead, conformal=conformal, trust=self._trust)

    def generate(self, prompt: str = "", **options: Any) -> str:
        """The prompt and its continuation; `options`: of `gatelab.tasks.text.generation.Generation`, without n."""
        return evaluate.generate(self.path, prompt, trust=self._trust, **options)

    def generate_several(self, prompt: str = "", n: int = 1, **options: Any) -> list[str]:
        """`n` times the prompt and its continuation, drawn side by side."""
        return evaluate.generate_several(self.path, prompt, trust=self._trust, n=n, **options)

    def perplexity(self, file: Folder) -> dict[str, float]:
        """The scores of a text file under the language model: `loss`, `ppl`, `bpc`, `tokens`, `unknown`."""
        return evaluate.perplexity(self.path, Path(file), trust=self._trust)

    def explain(
        self,
        file: Folder | None = None,
        *,
        units: Sequence[str] = (),
        probes: Sequence[str] = (),
        ablations: int = 12,
        output: Folder | None = None,
    ) -> dict[str, Any]:
        """What the network learned, as plain data; `output`: also as a page. See `gatelab explain`."""
        options: dict[str, Any] = {"units": units, "probes": probes, "ablations": ablations}
        found = explaining.explain(
            self.path, file=None if file is None else Path(file), trust=self._trust, **options
        )
        if output is not None:
            write_explanation(found, Path(output))
        return found

    def evaluate(self, split: str | None = None, *overrides: str, rows: Sequence[str] = ()) -> dict[str, Any]:
        """Score the best checkpoint again: `metrics`, `baselines`, `seconds`, `rows` (None: on test, if there is one).

        Args:
            overrides: as of `gatelab eval`, e.g. `"cache.theta=0.3"`.
            rows: other ways to score, e.g. `["cache", "dynamic"]`, or `["all"]`; they are kept with the run.
        """
        return evaluate.evaluate(self.path, split, overrides=overrides, rows=rows, trust=self._trust)


class Study:
    """A study, finished or not: `Study("size")` by its name below `<root>/studies/`, or by its folder.

    `trust`: open the storage that it names, and let `best()` build what is not part of Gatelab.
    """

    def __init__(self, name: Folder, root: Folder = ".", *, trust: bool = False) -> None:
        self.path, self._trust = find_study(Path(root) / "studies", os.fspath(name)), trust

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}, {self.state.state})"

    @property
    def state(self) -> StudyState:
        """Settings, trials, workers, as they are now."""
        return read_study(self.path, trust=self._trust)

    def leaderboard(self) -> pd.DataFrame:
        """A row a trial, best first: its mean, sd, 95 % half-width, n, p against the best; its values; its runs."""
        state = self.state
        return pd.read_csv(io.StringIO(to_csv(state, leaderboard(state))))

    def best(self) -> Run:
        """The first run of the best trial; of several objectives, of the first on the Pareto front."""
        best = next(iter(self.state.pareto), None)
        if best is None or not best.runs:
            raise RequestError(f"{self.path}: no trial has finished yet.")
        return Run(best.runs[0].directory, trust=self._trust)


def train(
    *overrides: str, force: bool = False, keep_code_change: bool = False, config_dirs: Sequence[Folder] = ()
) -> Run:
    """Train the run that the overrides describe, or continue it, or return it if it is finished.

    Args:
        force: train a finished run again; the earlier one is renamed and kept.
        keep_code_change: take a run as it is though its code was edited since.
        config_dirs: further folders laid out like `conf/`.
    """
    how: dict[str, Any] = {"force": force, "keep_code_change": keep_code_change}
    command = _command("train", overrides)
    if not TRAINING.acquire(blocking=False):
        raise RequestError(
            "another run trains in this process, and both would draw from the same random numbers. Wait for it, or run "
            "several at once as a sweep: gatelab.sweep(..., 'study.slots=2')."
        )
    try:
        with recorded_as(command), stoppable(Interrupted):
            result = training.train(overrides, config_dirs=[Path(folder) for folder in config_dirs], **how)
    finally:
        TRAINING.release()
    if result["outcome"] == "rank":  # a further process of a distributed run, which began as this script
        raise SystemExit(0)
    return Run(result["run_dir"], trust=True)


def sweep(
    *overrides: str, force: bool = False, keep_code_change: bool = False, config_dirs: Sequence[Folder] = ()
) -> Study:
    """Run the study that the overrides describe, as `gatelab sweep`, or what is missing of it.

    Its runs are processes of their own, so what they use must stand in a file that can be imported.
    """
    how: dict[str, Any] = {"force": force, "keep_code_change": keep_code_change}
    with recorded_as(_command("sweep", overrides)), stoppable(Interrupted):
        folders = [Path(folder) for folder in config_dirs]
        texts = [file.read_text() for folder in folders for file in folder.rglob("*.yaml")]
        if any("__main__." in text for text in (*overrides, *texts)):
            raise RequestError(
                "__main__: a class of this notebook or script cannot be found by the processes of a sweep. Write it "
                "into a file beside it, e.g. mycell.py, and name it mycell.MyCell."
            )
        done = sweeping.sweep(
            overrides,
            config_dirs=folders,
            watch=following,
            report=functools.partial(write_report, trust=True),
            **how,
        )
    return Study(done["directory"], trust=True)


def load(run: Folder, *, trust: bool = False) -> Run:
    """A recorded run, by its directory, a folder that holds no other, or a unique beginning of its name or hash.

    `trust`: build also what is not part of Gatelab, e.g. your own network; its code is run.
    """
    return Run(run, trust=trust)


def explain(
    run: Folder, file: Folder | None = None, *, trust: bool = False, **options: Any
) -> dict[str, Any]:
    """What a run's network learned; see `Run.explain`."""
    return Run(run, trust=trust).explain(file, **options)


def runs(*places: Folder, sort: str = "started", last: int | None = None, **conditions: Any) -> pd.DataFrame:
    """The runs as a data frame: facts, the configuration keys that differ, the scores (`valid.bpc`).

    Args:
        places: folders of runs, runs or studies; all runs below `runs/` where none is given.
        sort, last: as of `gatelab runs`; `sort="-value"`: the largest first.
        conditions: `where`, `tags` (a text or several), `state`, `name`.
    """
    every = places or [default_runs()] * default_runs().is_dir()
    found = list_runs(*(run for place in every for run in runs_of_place(place)))
    rows = order(select(found, **conditions), sort, last=last)
    facts, keys = [key for key in FACTS if key != "study"], differences(rows)
    named = [{k: row[k] for k in facts} | {k: row["config"].get(k) for k in keys} for row in rows]
    shown = [one | row["scores"] for one, row in zip(named, rows, strict=True)]
    frame = pd.DataFrame(shown, columns=None if shown else facts)
    return frame.assign(started=pd.to_datetime(frame["started"]))


def _command(name: str, overrides: Sequence[str]) -> str:
    if wrong := [given for given in overrides if not isinstance(given, str)]:
        star = " A list of them is given with a star: *overrides." * isinstance(wrong[0], list | tuple)
        raise RequestError(
            f"{wrong[0]!r}: overrides are texts, e.g. 'model.hidden_size=64', one an argument.{star}"
        )
    return shlex.join(["gatelab", name, *overrides])
