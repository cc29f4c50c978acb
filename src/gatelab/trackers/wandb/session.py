"""One part of a run at Weights & Biases, from a start or resume to its end: configuration, rows, best value, results.

Which rows are new is decided by their content, never by counting: a row with the same step, metrics and bits is the
same row, whatever a clock measured. `wandb/logged.jsonl` holds what each part was begun with and has logged, and when:
the next part leaves those rows out, and `gatelab sync` sends them with their times. Secrets are masked first.

Everything that calls wandb is here, questions to the server too: does it answer, and which rows of a run has it? The
process beside a run and `gatelab sync` call it, the process that trains never does. No person is asked.
`asked_to_stop` uses the one private name of wandb in Gatelab, `Api._service_api` (tried: 0.31), because the public
API does not tell whether a run was asked to stop; `test_wandb_client.py` fails when it is gone.
"""

from __future__ import annotations

import contextlib
import html
import json
import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.run.record.secrets import without_secrets
from gatelab.trackers.follow import SPECIAL, STEP, Best, Follow, Row, identity

EXIT_CODES = {"done": 0, "pruned": 0, "stopped": 0, "interrupted": 75}
SHOWN = ("name", "group", "job_type", "tags")
SECONDS = 3
"""How long the server may take to answer whether it knows the key, when nobody asked for `mode=online`."""
PATIENT_SECONDS = 30
NO_KEY = "no key"
STOPPED = """query RunStopped($entity: String, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { stopped } }
}"""


@dataclass
class Part:
    """What `logged.jsonl` has of one part: its settings, its rows, and when each was logged (seconds since 1970)."""

    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def logged_parts(run_dir: Path, run_id: str) -> list[Part]:
    """The parts that were logged under an id, oldest first; a line that a kill cut off is left out."""
    parts: list[Part] = []
    with contextlib.suppress(FileNotFoundError), (run_dir / "wandb" / "logged.jsonl").open() as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if "settings" in line:
                    parts.append(Part(line["settings"]))
                elif parts:
                    parts[-1].rows.append(line["row"])
                    parts[-1].times.append(line["time"])
    return [part for part in parts if part.settings["id"] == run_id]


class Session:
    """A run of wandb that is open.

    Args:
        run_dir: the run directory.
        settings: as `WandbTracker` takes them.
        mode: "online" or "offline".
        folder: where wandb writes. Without one: into the run directory, and `logged.jsonl` is continued.

    Attributes:
        run: wandb's run; where: its entity, project and id.
        stop: set when the server asks the run to stop.
        sent: how many rows were logged.
    """

    def __init__(
        self, run_dir: Path, settings: Mapping[str, Any], mode: str, folder: Path | None = None
    ) -> None:
        self.run_dir = run_dir
        self.stop = threading.Event()
        self.sent = 0
        record = json.loads((run_dir / "run.json").read_text())
        self._best = Best(record["config"])
        self._follow = Follow(run_dir / "metrics.csv")
        self._known: set[Any] = set()
        self._times: dict[Any, float] = {}
        self.run = self._init(settings, mode, folder or run_dir, _config(record, run_dir))
        self.where = (self.run.entity, self.run.project, self.run.id)
        self.run.define_metric("*", step_metric=STEP)
        self.run.define_metric(self._best.name, step_metric=STEP, summary="none")
        self._log = None if folder else (run_dir / "wandb" / "logged.jsonl").open("a")
        self._note({"settings": without_secrets(dict(settings))})

    def _init(self, settings: Mapping[str, Any], mode: str, folder: Path, config: dict[str, Any]) -> Any:
        import wandb

        return wandb.init(
            **{name: settings.get(name) for name in ("id", "project", "entity")},
            **without_secrets({name: settings.get(name) for name in SHOWN}),
            mode=mode,  # type: ignore[arg-type]
            dir=folder,
            config=without_secrets(config),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                sweep_id=settings.get("sweep_id"),
                stop_fn=self.stop.set,
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                init_timeout=30,
            ),
        )

    def leave_out(self, rows: Iterable[Row]) -> None:
        """Do not log these rows."""
        self._known |= {identity(row) for row in rows}

    def measured_at(self, parts: Iterable[Part]) -> None:
        """Log rows with the time at which they were logged before."""
        for part in parts:
            self._times |= {identity(row): at for row, at in zip(part.rows, part.times, strict=True)}

    def log_new_rows(self) -> None:
        """Log the rows of `metrics.csv` that came since the last call."""
        for row in self._follow.rows():
            name = identity(row)
            if name not in self._known:
                at = self._times.get(name, time.time())
                self.run.log({**row, "_timestamp": at})
                self._note({"time": at, "row": row})
                self.sent += 1
            if self._best.update(row):
                self.run.summary.update({self._best.name: self._best.value, f"best/{STEP}": self._best.step})

    def finish(self, outcome: str, error: str | None, pictures: Iterable[str]) -> None:
        """Log the results, the pictures and how the run ended; wait for the upload."""
        self.run.summary.update({"outcome": outcome, **({"error": without_secrets(error)} if error else {})})
        with contextlib.suppress(FileNotFoundError):
            self._log_results(json.loads((self.run_dir / "result.json").read_text()), pictures)
        if outcome == "interrupted":
            self.run.mark_preempting()
        self.run.finish(exit_code=EXIT_CODES.get(outcome, 1))

    def _log_results(self, result: dict[str, Any], pictures: Iterable[str]) -> None:
        import wandb

        splits = result.get("splits") or {}
        flat = {f"{split}/{m}": v for split, part in splits.items() for m, v in part["metrics"].items()}
        about = {name: result.get(name) for name in ("steps", "parameters")}
        self.run.summary.update(flat | about)
        shown: dict[str, Any] = {Path(path).stem: _media(Path(path)) for path in pictures}
        if splits:
            lines = [
                {"split": split, "model": model, **scores}
                for split, part in splits.items()
                for model, scores in {"this run": part["metrics"], **part["baselines"]}.items()
            ]
            columns = list(dict.fromkeys(name for line in lines for name in line))
            rows = [[line.get(name) for name in columns] for line in lines]
            shown["results"] = wandb.Table(columns=columns, data=[*rows])
        if shown:
            self.run.log(shown)

    def _note(self, line: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()


def _media(path: Path) -> Any:
    import wandb

    if path.suffix == ".txt":
        return wandb.Html(f"<pre>{html.escape(path.read_text('utf-8'))}</pre>")
    return wandb.Image(str(path))


def _config(record: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    git = record["attempts"][-1].get("environment", {}).get("git") or {}
    about = {"identity": record["identity"], "run_dir": str(run_dir), "revision": git.get("revision")}
    return {**record["config"], "gatelab": about}


def has_key() -> bool:
    """Whether wandb finds a key, or an identity token, without asking for one. The server is not asked."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.Error:  # something that is not a key
        return False


def connect(seconds: int = PATIENT_SECONDS) -> Any:
    """A `wandb.Api` whose server has answered and knows the key.

    Raises:
        ConnectionError: there is none; the message says why in a few words (`NO_KEY` without a key).
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        if not wandb.login(prompt=False, verify=False):
            raise ConnectionError(NO_KEY)
        return wandb.Api(timeout=seconds)
    except wandb.Error as error:
        if _timed_out(error):
            raise ConnectionError(f"{server()} did not answer within {seconds} s") from None
        raise ConnectionError(without_secrets(str(error).splitlines()[0])) from None


def _timed_out(error: BaseException | None) -> bool:
    """Whether wandb gave up waiting: by what the error came from, since its text speaks of wandb's own service."""
    if error is None or isinstance(error, TimeoutError):
        return error is not None
    return _timed_out(error.__cause__ or error.__context__)


def server() -> str:
    """The server's address, without a password in it."""
    import wandb

    return str(without_secrets(wandb.setup().settings.base_url))


def history(entity: str | None, project: str, run_id: str) -> list[Row]:
    """The metrics that the server has of a run, in order; none if it does not know the run.

    Raises:
        ConnectionError, wandb.Error: it cannot be asked.
    """
    import wandb
    from wandb.apis.public.runs import RunNotFoundError

    api = connect()
    try:
        run = api.run("/".join(part for part in (entity, project, run_id) if part))
    except (RunNotFoundError, wandb.errors.CommError) as error:
        if isinstance(error, RunNotFoundError) or isinstance(getattr(error, "exc", None), RunNotFoundError):
            return []
        raise
    if run.lastHistoryStep < 0:
        return []
    return [row for row in map(_metrics, run.scan_history(use_cache=False)) if row]


def asked_to_stop(entity: str | None, project: str, run_id: str) -> bool:
    """Whether the run was asked to stop at the server: by a person, or by a sweep that ends weak runs early."""
    import wandb

    names = {"entity": entity or None, "project": project, "run": run_id}
    try:
        data = connect(SECONDS)._service_api.execute_graphql(STOPPED, names)
    except (ConnectionError, wandb.Error):
        return False
    return bool(((data.get("project") or {}).get("run") or {}).get("stopped"))


def _metrics(line: dict[str, Any]) -> Row:
    """The metrics of a line of history; nothing if it holds a picture or a table."""
    own = {name: value for name, value in line.items() if not name.startswith("_")}
    if any(isinstance(value, dict) for value in own.values()):
        return {}
    return {k: SPECIAL.get(v, math.nan) if isinstance(v, str) else v for k, v in own.items()}
