"""The configuration and the environment in which a recorded run is made again.

The configuration is the recorded one in another place, without trackers and progress, to which values may be set.
Groups cannot be exchanged: what they would bring was resolved when the run was made.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from gatelab.run.config.compose import explain_grammar
from gatelab.run.config.schema import problems
from gatelab.run.config.spelling import nearest
from gatelab.run.differences import flat
from gatelab.run.errors import RequestError

GPUS = "CUDA_VISIBLE_DEVICES"


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
    from gatelab.study.engine.worker import environment

    env = environment()
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
