"""Make a run again and compare: the loss of every step and the weights after every epoch, bit for bit.

The recorded configuration is trained once more by a process of its own, in a temporary place, with the recorded
threads and environment variables. Its `trace.csv` is compared with the recorded one while it grows, so the first
difference ends it. What the comparison means is `Reproduction.exit_code`; nothing is written beside the recorded run.
"""

from __future__ import annotations

import copy
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from gatelab.run.build import request_errors
from gatelab.run.config.compose import explain_grammar
from gatelab.run.config.schema import problems
from gatelab.run.diff import Difference, Divergence, between, divergence, environments, flat
from gatelab.run.errors import RequestError, RunFailed
from gatelab.run.frozen_run import FROZEN_RUN, child_environment, end_of, write_request
from gatelab.run.messages import nearest
from gatelab.run.process_group import ProcessGroup
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import Identity
from gatelab.tasks.trace import Row, parse_trace, read_trace

GPUS = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.1


@dataclass
class Reproduction:
    """What came of a reproduction.

    Attributes:
        run: the recorded run's directory; overrides: what was changed on purpose.
        steps, epochs: how many losses and hashes of weights were compared, up to the first difference.
        first: the first difference after training began, or None; initial: that of the initial weights, or None.
        environment: what differs in code, versions, processor, threads, variables and data.
        strict: another environment is not accepted even if every number is the same.
        kept: the directory of the new run, if it was asked for.
    """

    run: str
    overrides: list[str]
    steps: int = 0
    epochs: int = 0
    initial: Divergence | None = None
    first: Divergence | None = None
    environment: list[Difference] = field(default_factory=list)
    strict: bool = False
    kept: str | None = None

    @property
    def exit_code(self) -> int:
        """0 the same; 1 it differs; 2 it differs, or is not accepted, and so is the environment different."""
        differs = self.first is not None or self.initial is not None
        if self.environment and (differs or self.strict):
            return 2
        return int(differs)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        environment = [difference._asdict() for difference in self.environment]
        return {**asdict(self), "environment": environment, "exit_code": self.exit_code}


def reproduce(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    steps: int | None = None,
    keep: Path | None = None,
    strict: bool = False,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Reproduction:
    """Train the run in `path` again, compare, and remove what was trained.

    Args:
        path: the run directory; it is only read.
        overrides: what to change, e.g. `["seed=1"]`, to see that it matters.
        steps: compare so many training steps only; None: all that are recorded.
        keep: a new folder for the new run, which is then trained to its end.
        strict: see `Reproduction`.
        on_step: told (steps compared, steps to compare) a few times a second.

    Raises:
        RequestError: no such run, no trace of it, or the configuration cannot be run here.
        RunFailed: the new run failed before it came as far as the recorded one.
    """
    run = RunDirectory.open(path)
    record, expected = run.read(), _expected(run, steps)
    if keep is not None and keep.exists():
        raise RequestError(f"--keep {keep}: exists already; name a new folder.")
    place = Path(tempfile.mkdtemp(prefix="gatelab-reproduce-")) if keep is None else keep.absolute()
    place.mkdir(parents=True, exist_ok=True)
    outcome = Reproduction(str(run.path), list(overrides), strict=strict)
    try:
        with _Again(record, overrides, place) as new:
            _compare(expected, new, outcome, on_step)
            outcome.environment = new.differences(record)
            if keep is not None:
                new.finish()
                outcome.kept = str(new.run.path)
    finally:
        if keep is None:
            shutil.rmtree(place, ignore_errors=True)
    return outcome


def _expected(run: RunDirectory, steps: int | None) -> list[Row]:
    if not run.trace_file.is_file():
        raise RequestError(
            f"{run.path}: holds no trace.csv: it was not trained, or by a version of Gatelab that kept none."
        )
    if steps is not None and steps < 1:
        raise RequestError(f"--steps {steps}: at least 1.")
    with request_errors(""):
        rows = read_trace(run.trace_file)
    found = rows if steps is None else [row for row in rows if row.step <= steps]
    if not any(row.what == "loss" for row in found):
        raise RequestError(f"{run.trace_file}: holds no step to compare.")
    return found


def _compare(
    expected: list[Row], new: _Again, outcome: Reproduction, on_step: Callable[[int, int], None]
) -> None:
    """Follow the new trace until the first difference or the last expected row."""
    rows = iter(expected)
    wanted = next(rows)
    total = expected[-1].step
    for row in new.rows():
        if row.step < expected[0].step:  # the record may begin later, if an older version began the run
            continue
        if row[:3] == wanted[:3] and row.step == 0:  # go on: the first step shows what it amounts to
            outcome.initial = None if row == wanted else divergence(wanted, row)
        elif row != wanted:
            outcome.first = divergence(wanted, row)
            return
        outcome.steps += row.what == "loss"
        outcome.epochs += row.what == "weights" and row.step > 0
        on_step(row.step, total)
        following = next(rows, None)
        if following is None:
            return
        wanted = following
    outcome.first = Divergence(*wanted, None)


class _Again:
    """The new run: its process, its trace as it grows, its end. Leaving the context ends the process."""

    def __init__(self, record: dict[str, Any], overrides: Sequence[str], place: Path) -> None:
        attempt = record["attempts"][-1]
        plain = again(record, overrides, place)
        cwd = Path(attempt["cwd"])
        identity = Identity(**{**record["identity"], "seed": plain["seed"]})
        self.cwd = cwd if cwd.is_dir() else Path.cwd()
        self.run = RunDirectory(identity.directory(plain["paths"]["runs"]))
        self.request, self.log = place / "request.json", place / "log.txt"
        self.env = environment_for(attempt)
        write_request(self.request, plain, identity, threads=plain["threads"])
        self._process: ProcessGroup | None = None
        self._code: int | None = None

    def __enter__(self) -> _Again:
        command = [sys.executable, "-m", FROZEN_RUN, str(self.request)]
        self._process = ProcessGroup.start(command, self.log, self.env, self.cwd)
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()
        return self

    def _wait(self) -> None:
        assert self._process is not None
        self._code = self._process.wait()

    def __exit__(self, *_: object) -> None:
        if self._code is None and self._process is not None:
            self._process.kill()
        self._waiter.join()

    def rows(self) -> Any:
        """Yield the rows of the trace as they are written, until the run has ended.

        Raises:
            RequestError, RunFailed: the run was refused or failed; not before its last row was yielded.
        """
        offset = 0
        while True:
            ended = self._code is not None  # asked before reading, so that the last rows are not missed
            if self.run.trace_file.is_file():
                with self.run.trace_file.open("rb") as file:
                    file.seek(offset)
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                offset += len(whole)
                yield from parse_trace(whole.decode())
            if ended:
                self.check_end()
                return
            time.sleep(POLL_SECONDS)

    def finish(self) -> None:
        """Wait for the end of the run."""
        self._waiter.join()

    def check_end(self) -> None:
        """Raise if the run did not come to its end."""
        if self._code == 0:
            return
        end = end_of(self.request)
        if end is None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing was printed"]
            raise RunFailed(f"the new run ended with exit code {self._code}: {tail[0]}")
        error = RequestError if end["outcome"] == "refused" else RunFailed
        raise error(f"the run cannot be made again: {end['error']}")

    def differences(self, record: dict[str, Any]) -> list[Difference]:
        """What differs in the environment of any attempt of the recorded run, and in its data."""
        if not self.run.run_file.is_file():
            return []
        mine = self.run.read()
        now = mine["attempts"][-1]["environment"]
        found = [d for attempt in record["attempts"] for d in environments(attempt["environment"], now)]
        found += between(record.get("data", {}), mine.get("data", {}), "data")
        return list({str(d): d for d in found if d.key != f"variables.{GPUS}"}.values())


def again(record: dict[str, Any], overrides: Sequence[str], place: Path) -> dict[str, Any]:
    """The plain configuration of the run in `record`, writing below `place` only.

    Args:
        record: what `run.json` says.
        overrides: values to set, in Hydra's grammar. `seed=1` sets every seed that followed the recorded one.
        place: a folder.

    Raises:
        RequestError: an override with a wrong key or a value that does not fit.
    """
    plain = copy.deepcopy(record["config"])
    plain["threads"] = plain["threads"] or record["attempts"][-1]["environment"]["threads"]
    for override in overrides:
        key, value = _parse(override)
        if key == "seed":
            followers = [k for k, v in flat(plain).items() if k.endswith(".seed") and v == plain["seed"]]
            for follower in followers:
                _set(plain, follower, value)
        _set(plain, key, value)
    found = problems(plain)
    if found:
        raise RequestError("\n".join(f"{key}: {text}" for key, text in found))
    _gather(plain["trainer"])
    plain["paths"] = {**plain["paths"], "root": str(place), "runs": str(place / "runs")}
    plain["logger"], plain["test"] = {}, False
    plain["trainer"]["max_time"] = None  # the recorded steps are what is compared, however long they take
    if plain["callbacks"].get("progress") is not None:
        plain["callbacks"]["progress"] = None
    return plain


def _gather(trainer: dict[str, Any]) -> None:
    """Of a run that took several nodes: as many processes on this machine, which is the same to all of them."""
    nodes, each = trainer.get("num_nodes") or 1, trainer["devices"]
    if nodes > 1:
        count = len(each) if isinstance(each, list) else each
        trainer |= {"num_nodes": 1, "devices": nodes * count}


def environment_for(attempt: dict[str, Any]) -> dict[str, str]:
    """This process' environment variables, and the recorded ones where this process has none."""
    env = child_environment()
    recorded = dict(attempt["environment"].get("variables", {}))
    if recorded.get(
        GPUS
    ):  # which of equal GPUs it was does not matter, and it may be taken; that it had none does
        del recorded[GPUS]
    if attempt["mirror"]:
        recorded["GATELAB_DATA_MIRROR"] = str(Path(attempt["cwd"]) / attempt["mirror"])
    for name, value in recorded.items():
        env.setdefault(name, value)
    for name in ("GATELAB_RANK_OF", "LOCAL_RANK"):
        env.pop(name, None)
    return env


def _parse(override: str) -> tuple[str, Any]:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except OverrideParseException as error:
        raise RequestError(explain_grammar(error)) from None
    if parsed.is_sweep_override() or parsed.is_delete():
        raise RequestError(f"{override}: one value, please; a run that is made again is one run.")
    return parsed.key_or_group, parsed.value()


def _set(plain: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    node: Any = plain
    for part in outer:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise RequestError(f"{key}: the run has no such key.{nearest(key, flat(plain))}")
    if isinstance(node[last], dict) and not isinstance(value, dict):
        raise RequestError(
            f"{key}={value}: a group was resolved when the run was made; set its keys instead."
        )
    node[last] = value
