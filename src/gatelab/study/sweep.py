"""A sweep, read top-down: plan the study and check every job, write it, start workers, watch them, finish.

This is the submitting side. The same command again continues the study and runs exactly what is missing. Training
happens in the processes of the workers (`engine/worker.py`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.data.files import set_aside
from gatelab.data.messages import counted, few, say
from gatelab.run import Interrupted, RequestError, RunFailed
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.launch import check_launcher, launch
from gatelab.study.engine.storage import check_storage, keep_password
from gatelab.study.plan import check, grid, new_study
from gatelab.study.plan.request import Request, read_request, root_of
from gatelab.study.plan.trust import require_own_code
from gatelab.study.spec import FUNCTION, StudySpec, config_files, kept_sources, sources_of
from gatelab.tasks.signals import StopRequested, StopSignals, noted

LOOK_SECONDS = 0.1
LEAVE_SECONDS = 3.0
"""How long no worker must have been alive, after a stop, before those that were never started are left alone."""
KILL_SECONDS = 10.0
"""How long to wait for workers whose runs are killed."""

Watch = Callable[[Path], AbstractContextManager[Any]]
Report = Callable[[Path], list[str]]


@dataclass
class Plan:
    """A study that has been checked, written or not.

    Attributes:
        spec: of the study.
        points: of each trial; None where the sampler proposes it.
        path: the folder.
        request: the command line.
        exists: whether the folder is there already.
        new: the number of points to be added to it.
        notes: remarks for the person at the terminal.
    """

    spec: StudySpec
    points: list[dict[str, Any] | None]
    path: Path
    request: Request
    exists: bool = False
    new: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Ended:
    """How the workers ended: the problems of each, whether a stop was requested, and after how many seconds."""

    problems: list[str] = field(default_factory=list)
    stopped: bool = False
    seconds: float = 0.0


def sweep(
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[Path] = (),
    force: bool = False,
    keep_code_change: bool = False,
    dry_run: bool = False,
    trust: bool = False,
    watch: Watch = contextlib.nullcontext,
    report: Report | None = None,
) -> dict[str, Any]:
    """Run the study that `overrides` describe, or continue it, or report that nothing is missing.

    Args:
        overrides: Hydra's override grammar, with `study.KEY`, `search=NAME`, `launcher=NAME` and `launcher.KEY`.
        config_dirs: further folders laid out like `conf/`.
        force: begin anew; the old folder is renamed, never deleted.
        keep_code_change: continue a study although its code has been edited since, instead of refusing.
        dry_run: check everything, start and write nothing.
        trust: run code of an existing study that neither Gatelab nor this command names.
        watch: a context in which the workers run; called with the study's folder, e.g. to show a live view.
        report: called with the study's folder when it is finished; returns lines about what it wrote.

    Returns:
        `study` (name), `directory`, `counts` (trials by state), `report` (lines), and with `dry_run` the `jobs`.

    Raises:
        RequestError: something about the request is wrong; nothing was started.
        Interrupted: a signal or `study.timeout` stopped it; the same command continues it.
        RunFailed: trials are left that no worker takes, or none succeeded.
    """
    began = time.perf_counter()
    with noted() as signals:
        made = plan(
            overrides, config_dirs=config_dirs, force=force, keep_code_change=keep_code_change, trust=trust
        )
        settings, name = made.spec.settings, made.spec.settings.name
        for note in made.notes:
            say(note)
        if signals.received:
            raise Interrupted(
                f"study {name}: {signals.received} before anything was started; give the command again"
            )
        if dry_run:
            listed = check.listed(made.spec, made.points)
            return {"study": name, "directory": str(made.path), "jobs": listed}
        checked = time.perf_counter() - began
        counts = submit(made, force=force)
        missing = counts["waiting"] + counts["running"]
        means = f"{counted(settings.workers, 'worker')} of {counted(settings.slots, 'slot')}"
        say(
            f"study {name}: {counted(len(made.points), 'job')} checked in {checked:.1f} s, {missing} to run; "
            f"launcher={made.request.launcher}, {means}; {made.path}"
        )
        ended = supervise(made, signals, watch) if missing else Ended()
        return finish(made, ended, report)


def plan(
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    force: bool = False,
    keep_code_change: bool = False,
    trust: bool = False,
) -> Plan:
    """Decide and check everything; write nothing.

    Raises:
        RequestError: naming every mistake.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise RequestError(f"--config-dir {folder}: no such folder")
    overrides = keep_password(overrides)
    sources = sources_of(config_dirs)
    request = read_request(overrides, sources)
    name = str(request.given.get("name") or new_study.default_name(request, sources))
    path = root_of(request.fixed, sources) / "studies" / name
    exists = (path / "study.json").is_file()
    if exists and not force:
        if not trust:
            require_own_code(path, overrides, config_dirs)
        made = _plan_existing(overrides, name, path, sources)
        sources = kept_sources(path / "conf")
    else:
        made = _plan_new(request, name, path, sources, exists)
    new_study.refuse_secrets(made.spec, made.points)
    made.notes += new_study.remarks(made.spec, made.request.launcher, made.points)
    if not force:
        new = made.points if not exists else []
        made.notes += new_study.accept_code(made.spec, new, keep_code_change=keep_code_change)
    _check_engine(made, sources)
    return made


def _plan_new(request: Request, name: str, path: Path, sources: Sequence[Path], exists: bool) -> Plan:
    spec = new_study.draft(request, name, sources)
    total = grid.count(spec.settings, spec.space)
    listed = grid.listed(spec.settings, spec.space) if spec.settings.listed else []
    jobs = dict(enumerate(listed))
    if not listed:
        jobs = {-1 - number: point for number, point in enumerate(grid.representatives(spec))}
    new_study.refuse_secrets(spec, listed)  # first: other messages may quote values
    notes = check.check(spec, jobs, of=total, here=request.launcher == "local")
    if "name" not in request.given:
        notes.append(f"study={name}, by its configuration; give study=NAME for another one")
    if isinstance(request.given.get("seeds"), int):
        seeds = ", ".join(map(str, spec.settings.seeds))
        notes.append(
            f"study.seeds={request.given['seeds']}: the seeds {seeds}; a list names others, e.g. [3,4]"
        )
    for folder in sources[1:]:
        groups = sorted({file.partition("/")[0] for file in config_files(folder, spec.templates.used())})
        notes.append(f"--config-dir {folder}: copied into the study: {', '.join(groups) or 'nothing'}")
    return Plan(spec, [*listed] if listed else [None] * total, path, request, exists, total, notes)


def _plan_existing(overrides: Sequence[str], name: str, path: Path, now: Sequence[Path]) -> Plan:
    """The plan for a study that exists: from its own copies of everything."""
    study = StudySpec.load(path, code=True)
    earlier, before = list(study.record["points"]), grid.count(study.settings, study.space)
    sources = kept_sources(path / "conf")
    request = read_request(overrides, sources)
    asked = None
    if not new_study.only_continues(request):
        function = path / FUNCTION if study.settings.space else None
        asked = new_study.draft(request, name, sources, function)
    study = new_study.continued(study, request, asked)
    notes = _edited(sources, now)
    total = grid.count(study.settings, study.space)
    if not study.settings.listed:
        return Plan(study, [None] * total, path, request, True, total - before, notes)
    points = grid.extended(earlier, study.settings, study.space)
    added = dict(list(enumerate(points))[len(earlier) :])
    notes += check.check(study, added, of=total, here=request.launcher == "local")
    return Plan(study, [*points], path, request, True, len(points) - len(earlier), notes)


def _edited(kept: Sequence[Path], now: Sequence[Path]) -> list[str]:
    """A remark if configuration files differ from the study's copies."""
    changed = []
    for copy, source in zip(kept, now, strict=False):
        for file in sorted(copy.rglob("*.yaml")):
            name = file.relative_to(copy)
            if not (source / name).is_file() or (source / name).read_bytes() != file.read_bytes():
                changed.append(name.as_posix())
    if not changed:
        return []
    return [f"changed since the study began: {few(changed)}. The study goes on with its own copies."]


def _check_engine(made: Plan, sources: Sequence[Path]) -> None:
    """Refuse a launcher, a storage, a sampler or a pruner that cannot be used."""
    from gatelab.study.engine.samplers import make_pruner, make_sampler

    settings = made.spec.settings
    check_launcher(made.request.launcher, made.request.options, sources)
    check_storage(settings.storage, settings.workers * settings.slots)
    assert settings.strategy is not None
    make_sampler(settings.strategy, settings.seed, 0, settings.sampler_options)
    make_pruner(settings.pruner, settings.pruner_options)


def submit(made: Plan, *, force: bool = False) -> dict[str, int]:
    """Write the study, or what is new in it, and enqueue its trials; returns their number by state.

    Raises:
        RequestError: another command is at work on the folder.
    """
    from gatelab.study.engine.queue import Queue

    directory = StudyDirectory(made.path)
    if made.exists and force:
        _set_aside(directory)
    if not made.exists or force:
        made.spec = new_study.write(made.spec, made.points, made.path, Path.cwd())
    else:
        _check_folder(directory.name, made.spec.record)
        alive = living(directory)
        if directory.stopping() != "no" and alive:
            raise RequestError(
                f"study {directory.name}: it is being stopped now; try again when its workers have ended."
            )
        if made.new and made.spec.settings.listed and alive:
            raise RequestError(
                f"study {directory.name}: its workers know its points as they were; let them end, or stop them, and "
                "then give the command with more choices."
            )
        _extend(made, directory)
    directory.clear_stop()
    queue = Queue(directory)
    queue.fill(made.points)
    counts: dict[str, int] = queue.counts()
    queue.close()
    return counts


def _check_folder(name: str, record: Mapping[str, Any]) -> None:
    """Refuse to go on with a study whose runs work in a folder that is gone, as when the study was moved."""
    folder = Path.cwd() / str(record.get("cwd") or ".")
    if not folder.is_dir():
        raise RequestError(
            f"study {name}: its runs work in {folder}, where the sweep began, and there is no such folder. Move "
            "everything back there, or take another name, which begins a study anew."
        )


def _set_aside(directory: StudyDirectory) -> None:
    alive = living(directory)
    if alive:
        raise RequestError(
            f"study {directory.name}: --force, but {counted(len(alive), 'worker')} at work on it; stop them first."
        )
    if not directory.storage_url().startswith("journal://"):
        raise RequestError(
            f"study {directory.name}: --force cannot set aside trials that are kept in study.storage; take another "
            "name."
        )
    say(f"the earlier study is kept in {set_aside(directory.path)}")


def _extend(made: Plan, directory: StudyDirectory) -> None:
    record = directory.read()
    written = new_study.record_of(made.spec, made.points)
    kept = {key: written[key] for key in ("settings", "space", "sizes", "points")}
    made.spec.templates.keep(directory.templates)
    kept |= {
        key: made.spec.record[key] for key in ("sources", "kept_code_changes") if key in made.spec.record
    }
    kept["grown"] = bool(record.get("grown")) or record["space"] != kept["space"]
    if any(record.get(key) != value for key, value in kept.items()):
        directory.write({**record, **kept})


def supervise(made: Plan, signals: StopSignals, watch: Watch) -> Ended:
    """Start the workers and wait for them.

    The first stop signal lets the workers' runs save themselves and end; a second Ctrl-C kills the runs. The launcher
    blocks in a thread of its own, so that the main thread can act on signals.
    """
    directory, ended, began = StudyDirectory(made.path), Ended(), time.monotonic()

    def start() -> None:
        request, sources = made.request, kept_sources(made.path / "conf")
        try:
            workers = made.spec.settings.workers
            ended.problems += launch(made.path, workers, request.launcher, request.options, sources)
        except BaseException as error:  # whatever a launcher raises is reported at the end
            ended.problems.append(f"the launcher: {type(error).__name__}: {error}")

    thread = threading.Thread(target=start, name="launcher", daemon=True)
    with watch(made.path):
        try:
            thread.start()
            _wait(directory, thread, signals)
        except StopRequested:  # the second Ctrl-C
            directory.stop(now=True)
            thread.join(KILL_SECONDS)
    ended.seconds = time.monotonic() - began
    ended.stopped = directory.stopping() != "no"
    return ended


def _wait(directory: StudyDirectory, thread: threading.Thread, signals: StopSignals) -> None:
    stopped, seen = False, time.monotonic()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if signals.received and not stopped:
            stopped, seen = True, time.monotonic()
            directory.stop()
            say(f"{signals.received}: the runs save themselves and end; Ctrl-C once more kills them")
        if stopped:
            seen = time.monotonic() if living(directory) else seen
            if time.monotonic() - seen > LEAVE_SECONDS:
                return  # a worker that starts later finds the stop request


def living(directory: StudyDirectory) -> frozenset[str]:
    """The workers of a study that are alive, by the file system's clock."""
    with directory.locked() as now:
        return directory.living(now)


def finish(made: Plan, ended: Ended, report: Report | None = None) -> dict[str, Any]:
    """Write the report and say how the sweep ended.

    Raises:
        Interrupted, RunFailed: as `sweep`.
    """
    from gatelab.study.engine.queue import Queue

    queue = Queue(StudyDirectory(made.path))
    counts: dict[str, int] = queue.counts()
    queue.close()
    left = counts["waiting"] + counts["running"]
    lines = report(made.path) if report is not None and not left else []
    for problem in ended.problems:
        say(problem)
    if left:
        raise _left(made, ended, counts, left)
    name = made.spec.settings.name
    if not counts["complete"] and not counts["pruned"]:
        raise RunFailed(
            f"study {name}: all of {counted(counts['fail'], 'trial')} failed; logs: {made.path}/trials/"
        )
    return {"study": name, "directory": str(made.path), "counts": counts, "report": lines}


def _left(made: Plan, ended: Ended, counts: Mapping[str, int], left: int) -> Exception:
    settings = made.spec.settings
    text = f"study {settings.name}: {left} of {len(made.points)} trials are left"
    if ended.stopped:
        return Interrupted(f"{text}; the same command continues it")
    if settings.max_failures is not None and counts["fail"] >= settings.max_failures:
        return RunFailed(
            f"{text}: {counts['fail']} failed, and study.max_failures={settings.max_failures}; with a larger one the "
            f"same command goes on with what is left. Logs: {made.path}/trials/"
        )
    if settings.timeout is not None and ended.seconds >= settings.timeout:
        return Interrupted(f"{text}: study.timeout={settings.timeout} is over; the same command continues it")
    if not ended.problems:  # each of them was asked to stop
        return Interrupted(f"{text}, and every worker was stopped; the same command continues it")
    return RunFailed(f"{text}, but every worker has ended; the same command continues it")
