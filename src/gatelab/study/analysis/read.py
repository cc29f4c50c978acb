"""Read a study from its folder, while it runs or later, from any process. Never writes.

`study.json` has the request, Optuna's storage the trials. A journal is read without its lock and without repair: a
last line that is half written (by a process that is writing now, or was killed) is not read yet.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import shlex
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError
from gatelab.run.record.directory import DAMAGED, RunDirectory
from gatelab.run.record.find import folders_with, has
from gatelab.study.analysis.state import Objective, Run, StudyState, Trial
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.settings import StudySettings, replicates
from gatelab.tasks.contract import metric_of, recorded_label

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

NEEDED = ("name", "settings", "objectives")
KINDS: dict[str, type] = {
    "name": str,
    "created": str,
    "settings": dict,
    "versions": dict,
    "objectives": list,
    "overrides": list,
    "space": list,
}
"""What `study.json` holds, by key."""
STATE_NAMES = {
    "COMPLETE": "done",
    "RUNNING": "running",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "WAITING": "waiting",
}


def read_study(directory: str | Path, *, trust: bool = False) -> StudyState:
    """The study in `directory` as it is now; `trust` as in `StudyReader`.

    Raises:
        RequestError: the folder is not a study, or a file of it cannot be read; the file is named.
    """
    return StudyReader(directory, trust=trust).read()


class StudyReader:
    """Reads one study again and again; each time only what is new since the last.

    Args:
        directory: the study's folder.
        trust: open the storage that `study.json` names, too; without it only the journal in the folder is read.

    Raises:
        RequestError: the folder is not a study, or `study.json` cannot be read.
    """

    def __init__(self, directory: str | Path, *, trust: bool = False) -> None:
        self.directory, self.trust = StudyDirectory.open(directory), trust
        self.asked = _asked(self.directory)
        self._storage: BaseStorage | None = None
        self._finished: dict[int, Trial] = {}
        self._task: dict[str, Any] = {}

    def read(self) -> StudyState:
        """The study as it is now."""
        asked, settings = self.asked, self.asked["settings"]
        command = asked.get("command", "")
        try:
            trials = tuple(self._trials())
            record = self._record(trials)
            return StudyState(
                directory=self.directory.path,
                name=asked["name"],
                settings=settings,
                overrides=tuple(asked.get("overrides", ())),
                space=tuple(asked.get("space", ())),
                objectives=tuple(
                    Objective(
                        o["metric"],
                        o["direction"],
                        recorded_label(record, o["metric"]),
                        tuple(metric_of(record, o["metric"]).same),
                    )
                    for o in asked["objectives"]
                ),
                trials=trials,
                workers=self.directory.living(time.time()),
                command=command if isinstance(command, str) else shlex.join(command),
                created=asked.get("created", ""),
                versions=asked.get("versions", {}),
            )
        except DAMAGED as error:
            raise RequestError(
                f"{self.directory.path}: study.json or its storage is damaged ({error!r})."
            ) from error

    def _record(self, trials: Iterable[Trial]) -> dict[str, Any]:
        """What the first run that can be read has recorded about its task; the same for all runs of a study."""
        for run in (run for trial in trials if not self._task for run in trial.runs):
            with contextlib.suppress(RequestError, OSError):
                self._task = RunDirectory(run.directory).read()
                break
        return self._task

    def _trials(self) -> Iterable[Trial]:
        settings = self.asked["settings"]
        if self._storage is None:
            self._storage = _open(self.directory, settings.get("storage"), trust=self.trust)
        if self._storage is None:
            return
        try:  # a journal holds one study, a shared database many
            name = str(settings.get("name") or self.asked["name"])
            study = self._storage.get_study_id_from_name(name)
        except KeyError:
            return
        pairs = replicates(settings.get("seeds"), settings.get("folds"))
        for frozen in self._storage.get_all_trials(study, deepcopy=False):
            known = self._finished.get(frozen.number)
            if known is None:
                known = _trial(frozen, self.directory.path.parent.parent, pairs)
                if frozen.state.is_finished():  # it never changes again
                    self._finished[frozen.number] = known
            yield known


def _trial(frozen: FrozenTrial, root: Path, pairs: list[tuple[int | None, int | None]]) -> Trial:
    attrs = frozen.user_attrs
    hidden = attrs.get("hidden")  # of each run; they are mostly the same
    reports = frozen.intermediate_values
    last = max(reports, default=None)
    return Trial(
        number=frozen.number,
        state=STATE_NAMES[frozen.state.name],
        params={**frozen.system_attrs.get("fixed_params", {}), **frozen.params},
        values=tuple(frozen.values or ()),
        runs=_runs(attrs, root, pairs),
        seconds=attrs.get("seconds"),
        parameters=attrs.get("parameters"),
        hidden=max(filter(None, hidden), default=None) if isinstance(hidden, list) else hidden,
        error=attrs.get("error"),
        attempts=int(attrs.get("attempts", 0)),
        owner=attrs.get("owner"),
        started=_aware(frozen.datetime_start),
        finished=_aware(frozen.datetime_complete),
        reported=None if last is None else (last, reports[last]),
        distributions=frozen.distributions,
    )


def _runs(
    attrs: Mapping[str, Any], root: Path, pairs: list[tuple[int | None, int | None]]
) -> tuple[Run, ...]:
    found, values = [], attrs.get("values", [])
    for index, directory in enumerate(attrs.get("runs", [])):
        seed, fold = pairs[index] if index < len(pairs) else (None, None)
        if seed is None and (match := re.search(r"-s(\d+)$", directory)):
            seed = int(match[1])
        found.append(Run(root / directory, values[index] if index < len(values) else None, seed, fold))
    return tuple(found)


def _aware(when: datetime.datetime | None) -> datetime.datetime | None:
    return None if when is None else when.astimezone(datetime.UTC)


def _asked(directory: StudyDirectory) -> dict[str, Any]:
    try:
        asked = directory.read()
    except OSError as error:
        raise RequestError(f"{directory.file}: cannot be read ({error}).") from None
    for key, kind in KINDS.items():
        if not isinstance(asked.get(key, None if key in NEEDED else kind()), kind):
            raise RequestError(f"{directory.file}: '{key}' is missing or damaged.")
    settings = asked["settings"]
    try:
        StudySettings.from_dict({k: v for k, v in settings.items() if k in StudySettings.model_fields})
    except RequestError as error:
        raise RequestError(f"{directory.file}: damaged, {error}") from None
    return asked


def open_storage_to_read(folder: str | Path, *, trust: bool = False) -> BaseStorage:
    """A study's storage as Optuna knows it; a journal cannot be written through it.

    Raises:
        RequestError: the folder is not a study, or nothing of it has begun.
    """
    directory = StudyDirectory.open(folder)
    storage = _open(directory, _asked(directory)["settings"].get("storage"), trust=trust)
    if storage is None:
        raise RequestError(f"{folder}: the study has no journal yet, so there is nothing to show.")
    return storage


def _open(directory: StudyDirectory, url: str | None, *, trust: bool) -> BaseStorage | None:
    """The study's storage, to read from; None while there is none yet.

    Raises:
        RequestError: it lies elsewhere, and is not trusted: a stranger's study may name any server or file.
    """
    from gatelab.study.engine.storage import hide_password, open_journal, open_storage

    if url is not None and not trust:
        raise RequestError(
            f"{directory.path}: its trials are kept outside of its folder, in study.storage={hide_password(url)}, "
            "which was not opened. If you know and trust it, --trust allows it."
        )

    if url is not None and not url.startswith("journal://"):
        return open_storage(url)
    path = directory.journal if url is None else Path(url.removeprefix("journal://"))
    try:
        return open_journal(path, read_only=True) if path.is_file() else None
    except ValueError as error:
        raise RequestError(str(error)) from None


def find_study(studies: str | Path, name: str) -> Path:
    """The folder of the study `name` below `studies`; a path to a study's folder is taken as it is.

    Raises:
        RequestError: there is none; the nearest name is given.
    """
    folder = Path(studies) / name
    for candidate in (folder, Path(name)):
        if has(candidate, "study.json"):
            return candidate.absolute()
    known = names_of(studies)
    listed = f" Studies there: {', '.join(known)}." if known else " There are none."
    hint = did_you_mean(name, known) or listed
    raise RequestError(f"no study '{name}' below {studies}.{hint}")


def names_of(studies: str | Path) -> list[str]:
    """Names of the studies below a folder."""
    return [path.name for path in folders_with("study.json", studies, "*")]


def list_studies(studies: str | Path, *, trust: bool = False) -> list[dict[str, Any]]:
    """Every study below a folder, by name; one that cannot be read has the state `unreadable` and an `error`.

    Args:
        trust: as in `StudyReader`.

    Returns:
        for each: `name`, `state`, `counts`, `metric`, `best` (value), `created` and `directory`.
    """
    found = []
    for name in names_of(studies):
        facts: dict[str, Any] = {"name": name, "directory": str(Path(studies) / name)}
        facts |= dict.fromkeys(("counts", "metric", "best", "created"))
        try:
            state = read_study(Path(studies) / name, trust=trust)
        except (RequestError, OSError) as error:
            facts |= {"state": "unreadable", "error": str(error)}
        else:
            facts |= {"state": state.state, "counts": state.counts, "created": state.created}
            facts["metric"] = " ".join(objective.metric for objective in state.objectives)
            facts["best"] = state.best.value if state.best else None
        found.append(facts)
    return found
