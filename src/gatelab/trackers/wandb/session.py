"""What Weights & Biases is told about a run: configuration, each row of `metrics.csv` once, best value, results.

Which rows are new is decided by what they hold, never by counting: a row with the same step, the same metrics and the
same bits is the same row, whatever a clock measured. Secrets are taken out first. The network, and who calls, are the
business of other files.
"""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gatelab.run.record.secrets import without_secrets
from gatelab.trackers.best import Best
from gatelab.trackers.follow import STEP, Follow, Row, identity

EXIT_CODES = {"done": 0, "pruned": 0, "stopped": 0, "interrupted": 75}


class Part:
    """One part of a run, from a start or a resume to its end.

    Args:
        run_dir: the run directory.
        settings: as `WandbTracker` takes them.
        mode: "online" or "offline".
        folder: where wandb writes; the run directory, unless given.

    Attributes:
        run: wandb's run.
        sent: how many rows were logged.
    """

    def __init__(
        self, run_dir: Path, settings: Mapping[str, Any], mode: str, folder: Path | None = None
    ) -> None:
        self.run_dir = run_dir
        record = json.loads((run_dir / "run.json").read_text())
        self._best = Best(record["config"])
        self._follow = Follow(run_dir / "metrics.csv")
        self._known: set[Any] = set()
        self._times: dict[Any, float] = {}
        self.sent = 0
        self.run = _init(settings, mode, folder or run_dir, _config(record, run_dir))
        self.run.define_metric("*", step_metric=STEP)
        self.run.define_metric(self._best.name, step_metric=STEP, summary="none")

    def leave_out(self, rows: Iterable[Row]) -> None:
        """Rows that need not be logged."""
        self._known |= {identity(row) for row in rows}

    def measured_at(self, times: Mapping[Any, float]) -> None:
        """When rows were measured, by `identity`, in seconds since 1970; the others are from now."""
        self._times |= times

    def pass_on(self) -> None:
        """Log the rows that came since the last time, but those that are to be left out."""
        for row in self._follow.rows():
            name = identity(row)
            if name not in self._known:
                time = self._times.get(name)
                self.run.log(row if time is None else {**row, "_timestamp": time})
                self.sent += 1
            if self._best.take(row):
                self.run.summary.update({self._best.name: self._best.value, f"best/{STEP}": self._best.step})

    def conclude(self, outcome: str, error: str | None, pictures: Iterable[str]) -> None:
        """Give the results, the pictures and how the run ended; wait for the upload."""
        self.run.summary.update({"outcome": outcome, **({"error": without_secrets(error)} if error else {})})
        with contextlib.suppress(FileNotFoundError):
            self._results(json.loads((self.run_dir / "result.json").read_text()), pictures)
        if outcome == "interrupted":
            self.run.mark_preempting()
        self.run.finish(exit_code=EXIT_CODES.get(outcome, 1))

    def _results(self, result: dict[str, Any], pictures: Iterable[str]) -> None:
        import wandb

        splits = result.get("splits") or {}
        flat = {f"{split}/{m}": v for split, part in splits.items() for m, v in part["metrics"].items()}
        self.run.summary.update(
            {**flat, "steps": result.get("steps"), "parameters": result.get("parameters")}
        )
        shown: dict[str, Any] = {Path(path).stem: _media(Path(path)) for path in pictures}
        if splits:
            columns, rows = _table(splits)
            shown["results"] = wandb.Table(columns=[*columns], data=[*rows])
        if shown:
            self.run.log(shown)


def _init(settings: Mapping[str, Any], mode: str, folder: Path, config: dict[str, Any]) -> Any:
    import wandb

    where = {name: settings.get(name) for name in ("id", "project", "entity")}
    shown = {name: settings.get(name) for name in ("name", "group", "job_type", "tags")}
    return wandb.init(
        **where,
        **without_secrets(shown),
        mode=mode,  # type: ignore[arg-type]
        dir=folder,
        config=without_secrets(config),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(
            sweep_id=settings.get("sweep_id"),
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            init_timeout=30,
        ),
    )


def _media(path: Path) -> Any:
    import wandb

    if path.suffix == ".txt":
        return wandb.Html(f"<pre>{html.escape(path.read_text('utf-8'))}</pre>")
    return wandb.Image(str(path))


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


def _config(record: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    environment = record["attempts"][-1].get("environment", {})
    git = environment.get("git") or {}
    about = {"identity": record["identity"], "run_dir": str(run_dir), "revision": git.get("revision")}
    return {**record["config"], "gatelab": about}
