"""The run that another one learns from, `task.teacher=RUN_DIR`: checked, and loaded as data.

Its weights are part of what the student is, wherever they lie (`run/record/sources.py`). Of the classes that its record
names, those are built that are Gatelab's, or that the student's own configuration names too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatelab.run import RequestError
from gatelab.run.build import prepare_process
from gatelab.run.config.signatures import locate
from gatelab.run.load import BUILT, LoadedRun, foreign_targets, load_task
from gatelab.run.record.code import targets
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.sources import checked_file
from gatelab.tasks.distillation import check_numbers

KEY = "task.teacher"


def refusal_of_teacher(config: Mapping[str, Any]) -> str | None:
    """Why a configuration's teacher cannot teach it, as far as that shows without data; None if it can."""
    task = config["task"]
    if (teacher := task.get("teacher")) is None:
        alone = [k for k in ("distill_weight", "temperature") if "teacher" in task and task[k] is not None]
        return (
            f"task.{alone[0]}: says how to learn from a teacher; give {KEY}=RUN_DIR too." if alone else None
        )
    if not getattr(kind := locate(task["_target_"]), "taught_by", ()):
        return f"{KEY}: {kind.__name__} learns from no teacher; leave it out."
    try:
        check_numbers(task.get("distill_weight"), task.get("temperature"))
    except ValueError as error:
        return f"task.{error}."
    try:
        checked_file(config, KEY)
        record = RunDirectory.open(teacher).read()
    except RequestError as error:
        return str(error) if str(error).startswith(KEY) else f"{KEY}={error}"
    theirs = (record["config"].get("task") or {}).get("_target_")
    if theirs != task["_target_"]:
        return f"{KEY}={teacher}: is a run of {theirs}, and this one of {task['_target_']}."
    foreign = foreign_targets([record["config"].get(group) for group in BUILT])
    if unknown := sorted(set(foreign) - set(targets(dict(config)))):
        return (
            f"{KEY}={teacher}: names code that is neither Gatelab's nor this run's own: {', '.join(unknown)}. Nothing "
            "was run."
        )
    return None


def load_teacher(config: Mapping[str, Any], data: Any) -> LoadedRun | None:
    """The teacher of a configuration with its weights; `data`: the DataModule of the run that learns.

    Raises:
        RequestError: it cannot be loaded, has changed, or reads other tokens.
    """
    if (teacher := config["task"].get("teacher")) is None:
        return None
    if refused := refusal_of_teacher(config):
        raise RequestError(refused)
    loaded = load_task(teacher, trust=True)  # what it names has just been looked at
    prepare_process(config)  # as this run asks for, not as the teacher did
    theirs, ours = loaded.tokenizer, getattr(data, "tokenizer", None)
    if theirs is not None and ours is not None and theirs.to_dict() != ours.to_dict():
        raise RequestError(
            f"{KEY}={teacher}: reads other tokens than this run (its tokenizer differs); train it on the same data."
        )
    return loaded
