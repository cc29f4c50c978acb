"""Reproduction of a recorded run: the loss of every step and the weights after every epoch, compared bit for bit.

The recorded configuration is trained once more by a process of its own (`frozen_run`), in a temporary folder, with the
recorded threads and environment variables. Its `trace.csv` is compared with the recorded one while it grows, so the
first difference ends it. Nothing is written beside the recorded run.
"""

from __future__ import annotations

import copy
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError, RunFailed
from gatelab.run.build import request_errors
from gatelab.run.config import problems
from gatelab.run.config.explain import explain_grammar
from gatelab.run.diff import Difference, Divergence, between, divergence, environments
from gatelab.run.frozen_run import FROZEN_RUN, Tail, child_environment, end_of, write_request
from gatelab.run.load import require_sizes, require_trusted_targets, with_own_places
from gatelab.run.process_group import ProcessGroup
from gatelab.run.record.directory import RunDirectory, reading
from gatelab.run.record.environment import VARIABLES
from gatelab.run.record.identity import Identity, flat
from gatelab.tasks.signals import RANK_OF
from gatelab.tasks.trace import Row, parse_trace, read_trace

GPUS = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.1


@dataclass
class Reproduction:
    """Result of a reproduction.

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


def reproduce(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    steps: int | None = None,
    keep: Path | None = None,
    strict: bool = False,
    trust: bool = False,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Reproduction:
    """Train the run in `path` again, compare, and remove what was trained.

    Args:
        overrides: what to change, e.g. `["seed=1"]`, to see that it matters.
        steps: compare so many training steps only; None: all that are recorded.
        keep: a new folder for the new run, which is then trained to its end.
        strict: see `Reproduction`.
        trust: accept targets that are not part of Gatelab.
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
    found = Reproduction(str(run.path), list(overrides), strict=strict)
    try:
        with reading(run.run_file):
            record = record if trust else with_own_places(run, record)
            config = frozen_config(record, overrides, place, trust=trust)
            require_sizes(run, record)
            new = _SecondRun(record, config, place, trust=trust)
        with new:
            _compare(expected, new, found, on_step)
            found.environment = new.differences(record)
            if keep is not None:
                new.check_end()
                found.kept = str(new.run.path)
    finally:
        if keep is None:
            shutil.rmtree(place, ignore_errors=True)
    return found


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
    expected: list[Row], new: _SecondRun, found: Reproduction, on_step: Callable[[int, int], None]
) -> None:
    """Follow the new trace until the first difference or the last expected row."""
    rows = iter(expected)
    wanted = next(rows)
    total = expected[-1].step
    for row in new.rows():
        if row.step < expected[0].step:  # the record may begin later, if an older version began the run
            continue
        if row[:3] == wanted[:3] and row.step == 0:  # go on: the first step shows what it amounts to
            found.initial = None if row == wanted else divergence(wanted, row)
        elif row != wanted:
            found.first = divergence(wanted, row)
            return
        found.steps += row.what == "loss"
        found.epochs += row.what == "weights" and row.step > 0
        on_step(row.step, total)
        following = next(rows, None)
        if following is None:
            return
        wanted = following
    found.first = divergence(wanted, None)


class _SecondRun:
    """The new run: its process, its trace as it grows, its end. Leaving the context ends the process."""

    def __init__(self, record: dict[str, Any], config: dict[str, Any], place: Path, *, trust: bool) -> None:
        attempt = record["attempts"][-1]
        identity = Identity(**{**record["identity"], "seed": config["seed"]})
        self.run = RunDirectory(identity.directory(config["paths"]["runs"]))
        if not self.run.path.resolve().is_relative_to(place.resolve()):
            raise RequestError(f"the run's name, {identity.name}, leads to another folder than the run's.")
        self.request, self.log = place / "request.json", place / "log.txt"
        write_request(self.request, config, identity, threads=config["threads"])
        command = [sys.executable, "-m", FROZEN_RUN, str(self.request)]
        cwd = Path(attempt["cwd"]) if Path(attempt["cwd"]).is_dir() else Path.cwd()
        env = environment_for(attempt)
        if not trust:  # Python would import the files of that directory before its own
            env["PYTHONSAFEPATH"] = "1"
        self._process = ProcessGroup.start(command, self.log, env, cwd)

    def __enter__(self) -> _SecondRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the trace as they are written, until the run has ended.

        Raises:
            RequestError, RunFailed: the run was refused or failed; not before its last row was yielded.
        """
        tail = Tail(self.run.trace_file)
        while True:
            ended = self._process.poll() is not None  # before reading, so that the last rows are not missed
            yield from parse_trace(tail.read().decode())
            if ended:
                self.check_end()
                return
            time.sleep(POLL_SECONDS)

    def check_end(self) -> None:
        """Wait for the end; raise if the run did not come to its end."""
        code = self._process.wait()
        if code == 0:
            return
        end = end_of(self.request)
        if end is None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing was printed"]
            raise RunFailed(f"the new run ended with exit code {code}: {tail[0]}")
        error = RequestError if end["outcome"] == "refused" else RunFailed
        raise error(f"the run cannot be reproduced: {end['error']}")

    def differences(self, record: dict[str, Any]) -> list[Difference]:
        """What differs in the environment of any attempt of the recorded run, and in its data."""
        if not self.run.run_file.is_file():
            return []
        mine = self.run.read()
        now = mine["attempts"][-1]["environment"]
        found = [d for attempt in record["attempts"] for d in environments(attempt["environment"], now)]
        found += between(record.get("data", {}), mine.get("data", {}), "data")
        return list({str(d): d for d in found if d.key != f"variables.{GPUS}"}.values())


def frozen_config(
    record: dict[str, Any], overrides: Sequence[str], place: Path, *, trust: bool = False
) -> dict[str, Any]:
    """The configuration of a `run.json`, writing below the folder `place` only, without trackers and progress.

    `overrides` set values, in Hydra's grammar. `seed=1` sets every seed that followed the recorded one. Groups cannot
    be exchanged: their content was resolved when the run was made.

    Raises:
        RequestError: an override with a wrong key or a value that does not fit, or a target that is not trusted.
    """
    config = copy.deepcopy(record["config"])
    for name, node in (config.get("callbacks") or {}).items():
        target = str((node or {}).get("_target_"))
        if target.startswith("pytorch_lightning.") and target.endswith("Checkpoint"):
            config["callbacks"][name] = None  # it writes where it is told, and changes no number
    config["threads"] = config["threads"] or record["attempts"][-1]["environment"]["threads"]
    config["logger"], config["test"] = {}, False
    for override in overrides:
        key, value = _parse(override)
        if key == "seed":
            for follower, seed in flat(config).items():
                if follower.endswith(".seed") and seed == config["seed"]:
                    _set(config, follower, value)
        _set(config, key, value)
    require_trusted_targets(config, trust=trust)
    # an old run may have followed its metric the wrong way round; that is done again
    if found := [(key, text) for key, text in problems(config) if key != "task.mode"]:
        raise RequestError("\n".join(f"{key}: {text}" for key, text in found))
    trainer, callbacks = config["trainer"], config["callbacks"] or {}
    if (nodes := trainer.get("num_nodes") or 1) > 1:  # as many processes on this machine give the same values
        each = trainer["devices"]
        trainer |= {"num_nodes": 1, "devices": nodes * (len(each) if isinstance(each, list) else each)}
    trainer["max_time"] = None  # the recorded steps are compared, however long they take
    config["paths"] = {**config["paths"], "root": str(place), "runs": str(place / "runs")}
    if callbacks.get("progress") is not None:
        callbacks["progress"] = None
    return config


def environment_for(attempt: dict[str, Any]) -> dict[str, str]:
    """This process' environment variables, and where it has none the recorded ones, of those that a run records."""
    env = child_environment()
    noted = attempt["environment"].get("variables", {})
    recorded = {name: str(noted[name]) for name in VARIABLES if name in noted}
    if recorded.get(GPUS):  # which of equal GPUs it was does not matter; that it had none does
        del recorded[GPUS]
    if attempt["mirror"]:
        recorded["GATELAB_DATA_MIRROR"] = str(Path(attempt["cwd"]) / attempt["mirror"])
    for name in (RANK_OF, "LOCAL_RANK"):
        env.pop(name, None)
    return {**recorded, **env}


def _parse(override: str) -> tuple[str, Any]:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except OverrideParseException as error:
        raise RequestError(explain_grammar(error)) from None
    if parsed.is_sweep_override() or parsed.is_delete():
        raise RequestError(f"{override}: one value, please; a run that is made again is one run.")
    return parsed.key_or_group, parsed.value()


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    node: Any = config
    for part in outer:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise RequestError(f"{key}: the run has no such key.{did_you_mean(key, flat(config))}")
    if isinstance(node[last], dict) and not isinstance(value, dict):
        raise RequestError(
            f"{key}={value}: a group was resolved when the run was made; set its keys instead."
        )
    node[last] = value
