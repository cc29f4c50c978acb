"""Extension of a finished run: the same configuration with a larger `trainer.max_epochs` goes on where it ended.

`max_epochs` is part of what a run is, so the longer run has a directory of its own. It begins as a copy of the shorter
one (metrics, trace, checkpoints, attempts; `extends` in run.json names it) and is then continued as an interrupted run
is. The shorter run stays as it is.

That is done only where every step and every weight is the same, to the last bit, as if the longer run had been trained
from the start. It is not where the learning rate depends on the length of the run (`cosine`, `linear`, `onecycle`, a
warm-up given as a share), where the shorter run did not end by `max_epochs` or not with a validation that the longer
one has too, where code of one's own may look at the length, and where code, versions, machine or data have changed.
Then the run starts from the beginning, and why is said.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from gatelab.data.files import write_json
from gatelab.data.messages import counted, few, say
from gatelab.run import RequestError
from gatelab.run.build import REQUEST_ERRORS, make
from gatelab.run.diff import environments
from gatelab.run.load import changed_data
from gatelab.run.record.code import changed_code, targets
from gatelab.run.record.directory import RunDirectory, masked_record
from gatelab.run.record.environment import describe
from gatelab.run.record.identity import Identity, first_difference
from gatelab.run.record.secrets import without_secrets
from gatelab.tasks import AtomicCheckpointIO, CheckpointError, load_checkpoint
from gatelab.tasks.schedules import scheduler_for

WATCHES_THE_LENGTH = ("task", "data", "callbacks")
"""Groups whose classes see the Trainer, and with it the length of the run."""
MACHINE = ("accelerator", "devices", "num_nodes", "strategy")
"""Keys of the Trainer that are not part of what a run is, and change its last bits."""


def begin_from_shorter(run: RunDirectory, config: Mapping[str, Any], identity: Identity, data: Any) -> None:
    """Begin a new run as a copy of the longest finished run that differs in a smaller `max_epochs` only, if there is.

    Call it with the run's lock.

    Args:
        run: the new run; nothing is done if it has been begun.
        config: its resolved configuration; identity: its identity.
        data: its DataModule.
    """
    if run.path.exists() or not isinstance(epochs := config["trainer"].get("max_epochs"), int):
        return
    shorter = max(_shorter(run, config, identity), key=_epochs, default=None)
    if shorter is None:
        return
    text = f"{shorter.path} has {_epochs(shorter)} of the {counted(epochs, 'epoch')}"
    if why := reason_against(shorter, config, data):
        say(f"{text}; this run starts from the beginning all the same: {why}")
        return
    try:
        _copy(shorter, run, config, identity)
    except CheckpointError as error:
        say(f"{text}; this run starts from the beginning all the same: {error}")
        return
    say(f"{text}; this run goes on from there")


def _shorter(run: RunDirectory, config: Mapping[str, Any], identity: Identity) -> Iterator[RunDirectory]:
    """The finished runs of the same seed and name that differ in a smaller `max_epochs` only."""
    for path in run.path.parent.glob(f"*-s{identity.seed}"):
        other = RunDirectory(path)
        try:
            theirs = other.read()["config"]
            result = other.result()
            fewer = 0 < theirs["trainer"]["max_epochs"] < config["trainer"]["max_epochs"]
            same = {**theirs, "trainer": {**theirs["trainer"], "max_epochs": config["trainer"]["max_epochs"]}}
        except (RequestError, OSError, KeyError, TypeError):
            continue
        done = result is not None and result["outcome"] == "done"
        if fewer and done and first_difference(same, without_secrets(dict(config))) is None:
            yield other


def _epochs(run: RunDirectory) -> int:
    return int(run.read()["config"]["trainer"]["max_epochs"])


def reason_against(shorter: RunDirectory, config: Mapping[str, Any], data: Any) -> str | None:
    """Why the longer run would not be the same, to the last bit, if it went on from the shorter one; None if it is."""
    record, result, trainer = shorter.read(), shorter.result() or {}, config["trainer"]
    epochs, every = _epochs(shorter), trainer.get("check_val_every_n_epoch", 1)
    own = [
        f"{group}: {target}"
        for group in WATCHES_THE_LENGTH
        for target in targets(config.get(group))
        if not target.startswith("gatelab.")
    ]
    machine = [key for key in MACHINE if record["config"]["trainer"].get(key) != trainer.get(key)]
    if machine:
        return f"trainer.{machine[0]} is another"
    steps, limit = int(result.get("steps") or 0), int(trainer.get("max_steps") or -1)
    if result.get("epochs") != epochs or not steps or 0 < limit <= steps:
        return "it did not end by trainer.max_epochs"
    if not shorter.last.is_file():
        return "it has no last.ckpt"
    if not every or epochs % every:
        return "it did not end with a validation that the longer run has too"
    if own:
        return f"{own[0]} may depend on the run's length"
    if not _same_rates(config, epochs, steps):
        return (
            "the schedule's learning rate depends on the run's length (schedule=constant and plateau do not)"
        )
    if changed := changed_data(record, data):
        return changed
    if names := changed_code(record):
        return f"the code has changed since ({few(names)})"
    differing = environments(record["attempts"][-1]["environment"], describe())
    return f"the environment differs, {differing[0]}" if differing else None


def _same_rates(config: Mapping[str, Any], epochs: int, steps: int) -> bool:
    """Whether the schedule gives the same rates in the first `steps` steps of a run of `epochs` and of a longer one."""
    node, limit = config["schedule"], int(config["trainer"].get("max_steps") or -1)
    if node is None:
        return True
    longer = steps // epochs * int(config["trainer"]["max_epochs"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    made = []
    try:
        for total in (steps, longer if limit < 0 else min(limit, longer)):
            optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
            made.append(scheduler_for(make(node, "schedule"), optimizer, total))
    except (RequestError, *REQUEST_ERRORS):
        return False
    one, other = made
    if isinstance(one, LambdaLR):
        return all(one.lr_lambdas[0](i) == other.lr_lambdas[0](i) for i in range(steps + 1))
    known = type(one).__module__.startswith("torch.")  # its state tells everything about it
    return known and one.state_dict() == other.state_dict()


def _copy(shorter: RunDirectory, run: RunDirectory, config: Mapping[str, Any], identity: Identity) -> None:
    """Make the new directory in one step, from the shorter one."""
    new = RunDirectory(run.path.with_name(f".{run.path.name}.extension"))
    shutil.rmtree(new.path, ignore_errors=True)
    new.last.parent.mkdir(parents=True)
    try:
        for source, target in (
            (shorter.metrics_file, new.metrics_file),
            (shorter.trace_file, new.trace_file),
            (shorter.tokenizer_file, new.tokenizer_file),
        ):
            if source.is_file():
                shutil.copy2(source, target)
        for source, target in ((shorter.best, new.best), (shorter.last, new.last)):
            if source.is_file():
                AtomicCheckpointIO().save_checkpoint(_renamed(load_checkpoint(source), config), target)
        record = shorter.read()
        record |= {
            "identity": vars(identity),
            "config": dict(config),
            "tracker_id": secrets.token_hex(4),
            "extends": str(Path(os.path.relpath(shorter.path, run.path))),
        }
        write_json(new.run_file, masked_record(record))
        os.rename(new.path, run.path)
    finally:
        shutil.rmtree(new.path, ignore_errors=True)


def _renamed(checkpoint: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint of the shorter run as one of the longer."""
    kept = checkpoint.get("hyper_parameters", {})
    return {**checkpoint, "hyper_parameters": {**kept, "config": without_secrets(dict(config))}}
