"""A sweep, from the command line to the report: check every job, freeze the study, start workers, watch, tell.

This is the submitting side. The same command again continues the study and runs exactly what is missing. Training
happens in the workers' processes (`worker.py`); this process imports neither torch nor Lightning.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from gatelab.run.errors import Interrupted, RequestError, RunFailed
from gatelab.run.messages import counted
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.launch import check_launcher, launch
from gatelab.study.engine.liveness import STOP, is_alive
from gatelab.study.engine.resources import refuse_several_nodes
from gatelab.study.engine.storage import keep_password
from gatelab.study.plan import check, grid, new_study
from gatelab.study.plan.model_checker import Nets
from gatelab.study.plan.request import Request, read_request, root_of
from gatelab.study.spec import FUNCTION, StudySpec, kept_sources, sources_of, yaml_files


@dataclass
class Plan:
    """A study that has been checked, written or not.

    Attributes:
        frozen: what it runs.
        points: of each trial; None where the sampler proposes it.
        path: the folder.
        request: the command line.
        exists: whether the folder is there already.
        new: how many points are to be added to it.
        notes: for the person at the terminal.
    """

    frozen: StudySpec
    points: list[dict[str, Any] | None]
    path: Path
    request: Request
    exists: bool = False
    new: int = 0
    notes: list[str] = field(default_factory=list)


def sweep(
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[Path] = (),
    force: bool = False,
    dry_run: bool = False,
    nets: Nets | None = None,
) -> dict[str, Any]:
    """Run the study that `overrides` describe, or continue it, or report that nothing is missing.

    Args:
        overrides: Hydra's override grammar, with `study.KEY`, `search=NAME`, `launcher=NAME` and `launcher.KEY`.
        config_dirs: further folders laid out like `conf/`.
        force: begin anew; the old folder is renamed, never deleted.
        dry_run: check everything, start and write nothing.
        nets: the helper that tries networks, if it was started already; it is ended when it is not needed any more.

    Returns:
        `study` (name), `directory`, `counts` (trials by state), and with `dry_run` the `jobs`.

    Raises:
        RequestError: something about the request is wrong; nothing was started.
        Interrupted: a signal or `study.timeout` stopped it; the same command continues it.
        RunFailed: trials are left that no worker takes, or none succeeded.
    """
    began = time.perf_counter()
    with nets or Nets() as helper:
        made = plan(overrides, config_dirs=config_dirs, force=force, nets=helper)
        settings = made.frozen.settings
        for note in made.notes:
            say(note)
        if dry_run:
            return {
                "study": settings.name,
                "directory": str(made.path),
                "jobs": check.listed(made.frozen, made.points),
            }
    checked = time.perf_counter() - began
    counts = submit(made, force=force)
    missing = counts["waiting"] + counts["running"]
    means = f"{counted(settings.workers, 'worker')} of {counted(settings.slots, 'slot')}"
    say(
        f"study {settings.name}: {counted(len(made.points), 'job')} checked in {checked:.1f} s, {missing} to run; "
        f"launcher={made.request.launcher}, {means}; {made.path}"
    )
    ended = Ended()
    if missing:
        run = functools.partial(
            launch,
            made.path,
            made.frozen.settings.workers,
            made.request.launcher,
            made.request.options,
            kept_sources(made.path / "conf"),
        )
        ended = drive(StudyDirectory(made.path), run)
    return finish(made, ended)


def plan(
    overrides: Sequence[str], *, config_dirs: Sequence[Path] = (), force: bool = False, nets: Nets
) -> Plan:
    """Decide and check everything; write nothing.

    Raises:
        RequestError: naming every mistake.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise RequestError(f"--config-dir {folder}: no such folder")
    overrides = keep_password(overrides)
    now = sources_of(config_dirs)
    request = read_request(overrides, now)
    name = str(request.given.get("name") or new_study.default_name(request, now))
    path = root_of(request.fixed, now) / "studies" / name
    exists = (path / "study.json").is_file()
    if exists and not force:
        made = _existing(overrides, request, name, path, now, nets)
    else:
        frozen = new_study.draft(request, name, now)
        total = grid.count(frozen.settings, frozen.space)
        listed = grid.grid(frozen.space) if frozen.settings.strategy == "grid" else []
        tried = dict(enumerate(listed or grid.representatives(frozen)))
        if not listed:
            tried = {-1 - number: point for number, point in tried.items()}
        check.check(frozen, tried, nets, of=total)
        made = Plan(frozen, [*listed] if listed else [None] * total, path, request, exists, total)
        if "name" not in request.given:
            made.notes.append(f"study={name}, by its configuration; give study=NAME for another one")
    _check_means(made, now if not exists or force else kept_sources(path / "conf"))
    return made


def _existing(
    overrides: Sequence[str], request: Request, name: str, path: Path, now: Sequence[Path], nets: Nets
) -> Plan:
    """The plan for a study that is there: from its own copies of everything."""
    study = StudySpec.load(path)
    sources = kept_sources(path / "conf")
    notes = _edited(sources, now)
    asked = None
    if new_study.only_continues(request):
        request = read_request(overrides, sources)
    else:
        request = read_request(overrides, sources)
        asked = new_study.draft(request, name, sources, path / FUNCTION if study.settings.space else None)
    study = new_study.continued(study, request, asked)
    earlier = list(study.record["points"])
    total = grid.count(study.settings, study.space)
    if study.settings.strategy != "grid":
        before = grid.count(StudySpec.load(path).settings, study.space)
        return Plan(study, [None] * total, path, request, True, total - before, notes)
    listed = grid.extended(earlier, study.space)
    check.check(study, dict(list(enumerate(listed))[len(earlier) :]), nets, of=total)
    return Plan(study, [*listed], path, request, True, len(listed) - len(earlier), notes)


def _edited(kept: Sequence[Path], now: Sequence[Path]) -> list[str]:
    """A remark if configuration files differ from the study's copies."""
    changed = []
    for copy, source in zip(kept, now, strict=False):
        before, after = yaml_files(copy), yaml_files(source)
        changed += [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    if not changed:
        return []
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return [
        f"changed since the study began: {', '.join(changed[:3])}{more}. The study goes on with its own copies."
    ]


def _check_means(made: Plan, sources: Sequence[Path]) -> None:
    """Refuse a launcher, a storage, a sampler or a pruner that cannot be used."""
    from gatelab.study.engine.samplers import make_pruner, make_sampler
    from gatelab.study.engine.storage import check_storage

    settings = made.frozen.settings
    check_launcher(made.request.launcher, made.request.options, sources)
    firsts = {p.prefix + p.key: p.values()[0] for p in made.frozen.space.parameters if p.group}
    refuse_several_nodes(made.frozen.templates.get(firsts).config.trainer)
    check_storage(settings.storage, settings.workers * settings.slots)
    assert settings.strategy is not None
    make_sampler(settings.strategy, settings.seed, 0, settings.sampler_options)
    make_pruner(settings.pruner, settings.pruner_options)


def submit(made: Plan, *, force: bool = False) -> dict[str, int]:
    """Write the study, or what is new in it, and make the rows of its trials; how many there are by state.

    Raises:
        RequestError: another command is at work on the folder.
    """
    from gatelab.study.engine.queue import Queue

    directory = StudyDirectory(made.path)
    if made.exists and force:
        _set_aside(directory)
    if not made.exists or force:
        made.frozen = new_study.write(made.frozen, made.points, made.path, Path.cwd())
    else:
        if directory.stopping() != "no" and living(directory):
            raise RequestError(
                f"study {directory.name}: it is being stopped now; try again when its workers left."
            )
        if made.new and made.frozen.settings.strategy == "grid" and living(directory):
            raise RequestError(
                f"study {directory.name}: its workers know the grid as it was; let them end, or stop them, and then "
                "give the command with more choices."
            )
        _extend(made, directory)
    directory.clear_stop()
    queue = Queue(directory)
    queue.fill(made.points)
    counts: dict[str, int] = queue.counts()
    queue.close()
    return counts


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
    number = 1
    while (target := directory.path.with_name(f"{directory.name}.old-{number}")).exists():
        number += 1
    directory.path.rename(target)
    say(f"the earlier study is kept in {target}")


def _extend(made: Plan, directory: StudyDirectory) -> None:
    record = directory.read()
    written = new_study.record_of(made.frozen, made.points)
    kept = {key: written[key] for key in ("settings", "space", "sizes", "points")}
    kept["templates"] = {**record["templates"], **made.frozen.templates.keep(directory.templates)}
    kept["grown"] = bool(record.get("grown")) or record["space"] != kept["space"]
    if any(record.get(key) != value for key, value in kept.items()):
        directory.write({**record, **kept})


def finish(made: Plan, ended: Ended) -> dict[str, Any]:
    """Write the report and tell how the sweep ended.

    Raises:
        Interrupted, RunFailed: as `sweep`.
    """
    from gatelab.report.files import write_report
    from gatelab.study.engine.queue import Queue

    queue = Queue(StudyDirectory(made.path))
    counts = queue.counts()
    queue.close()
    left = counts["waiting"] + counts["running"]
    lines = [] if left else write_report(made.path)
    for problem in ended.problems:
        say(problem)
    if left:
        raise _left(made, ended, counts, left)
    if not counts["complete"] and not counts["pruned"]:
        name = made.frozen.settings.name
        raise RunFailed(
            f"study {name}: all of {counted(counts['fail'], 'trial')} failed; logs: {made.path}/trials/"
        )
    return {
        "study": made.frozen.settings.name,
        "directory": str(made.path),
        "counts": counts,
        "report": lines,
    }


def _left(made: Plan, ended: Ended, counts: Mapping[str, int], left: int) -> Exception:
    settings = made.frozen.settings
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
    return RunFailed(f"{text}, but every worker has ended; the same command continues it")


LOOK_SECONDS = 0.1
LEAVE_SECONDS = 3.0
"""How long no worker must have been alive, after a stop, before those that were never started are left alone."""
KILL_SECONDS = 10.0
"""How long to wait for workers that were told to leave at once."""


@dataclass
class Ended:
    """How the workers ended.

    Attributes:
        problems: what went wrong with one of them.
        stopped: whether somebody asked them to stop.
        seconds: how long it took.
    """

    problems: list[str] = field(default_factory=list)
    stopped: bool = False
    seconds: float = 0.0


def drive(directory: StudyDirectory, launch: Callable[[], list[str]]) -> Ended:
    """Run `launch` in a thread and wait for it.

    The first SIGINT or SIGTERM lets the workers' runs save themselves and leave; a second SIGINT kills them.
    """
    from gatelab.report.live import following

    ended, began = Ended(), time.monotonic()
    thread = threading.Thread(target=_launch, args=(launch, ended), name="launcher", daemon=True)
    with _signals() as received, following(directory.path):
        thread.start()
        _wait(directory, thread, received, ended)
    ended.seconds = time.monotonic() - began
    ended.stopped = ended.stopped or directory.stopping() != "no"
    return ended


def _launch(launch: Callable[[], list[str]], ended: Ended) -> None:
    try:
        ended.problems += launch()
    except BaseException as error:  # whatever a launcher raises is told at the end
        ended.problems.append(f"the launcher: {type(error).__name__}: {error}")


def _wait(directory: StudyDirectory, thread: threading.Thread, received: list[int], ended: Ended) -> None:
    killed_at = float("inf")
    seen = time.monotonic()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if received and not ended.stopped:
            ended.stopped = True
            directory.stop()
            seen = time.monotonic()
            name = signal.Signals(received[0]).name
            say(f"{name}: the runs save themselves and leave; Ctrl-C once more kills them")
        if received.count(signal.SIGINT) > 1 and killed_at == float("inf"):
            directory.stop(now=True)
            killed_at = time.monotonic()
        if ended.stopped:
            seen = time.monotonic() if living(directory) else seen
            if time.monotonic() - seen > LEAVE_SECONDS or time.monotonic() - killed_at > KILL_SECONDS:
                return  # what has not begun yet finds the wish to stop, or dies with this process


def living(directory: StudyDirectory) -> list[str]:
    """The workers of a study that are alive."""
    identifiers = [path.stem for path in directory.workers.glob("*.json")]
    if not identifiers:
        return []
    stale_after = float(directory.read()["settings"]["stale_after"])
    with directory.locked() as now:
        return [name for name in identifiers if is_alive(directory.workers, name, now, stale_after)]


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that arrive while the block runs; none are caught outside the main thread."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in STOP}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """A remark for the person at the terminal, on stderr."""
    print(text, file=sys.stderr, flush=True)
