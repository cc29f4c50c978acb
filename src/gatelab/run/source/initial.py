"""The weights that a run starts from: those of the source that `init.from` names, taken over before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatelab.core.weights.transfer import Taken, choose_parts, parts_of, take_over
from gatelab.data.messages import say
from gatelab.run import RequestError
from gatelab.run.build import request_errors
from gatelab.run.source import Source, cell_of, open_source
from gatelab.tasks.signals import rank


def start_from_source(config: Mapping[str, Any], task: Any, tokenizer: Any) -> dict[str, Any] | None:
    """Give a new run's network what `init` asks for; tell what was taken and return it for the record.

    None where the configuration names no source.

    Raises:
        RequestError: the source is of another cell or vocabulary, lacks a part, or a tensor does not fit.
    """
    init, source = config.get("init") or {}, _source(config)
    if source is None:
        return None
    _refuse_other_level(source, tokenizer, init["parts"])
    same = source.task is not None and source.task == config["task"]["_target_"]
    with request_errors(f"init.from={source.named}"):
        taken = take_over(
            task.net,
            source.weights,
            parts=init["parts"],
            skip=() if same else ("head",),  # what another task's head says is something else
            tokens=_tokens(tokenizer),
            their_tokens=_tokens(source.tokenizer),
            grow=bool(init["grow"]),
            seed=config["seed"],
        )
    if rank() == 0:
        lines = "\n  ".join(str(taken).splitlines())
        say(f"starts from {source.file} (sha256 {source.sha256[:12]}...)\n  {lines}")
    return {**source.record(), **_facts(taken)}


def refusal_of_source(config: Mapping[str, Any]) -> str | None:
    """Why a run cannot start from what `init.from` names, as far as the source alone tells; None if it can."""
    try:
        _source(config)
    except RequestError as error:
        return str(error)
    return None


def _source(config: Mapping[str, Any]) -> Source | None:
    """The source, which has the parts that are asked for and is of this run's cell; None where none is named."""
    init = config.get("init") or {}
    if init.get("from") is None:
        if wrong := [key for key in ("parts", "grow") if init.get(key)]:
            raise RequestError(f"init.{wrong[0]}: is of a source; give init.from=RUN or FILE too.")
        return None
    source = open_source(config)
    with request_errors(f"init.from={source.named}"):
        choose_parts(init.get("parts") or [], parts_of(source.weights), "the source")
    _refuse_other_cell(source, config)
    return source


def _facts(taken: Taken) -> dict[str, Any]:
    rows = {name: {"matched": matched, "rows": total} for name, (matched, total) in taken.rows.items()}
    return {
        "taken": taken.taken,
        "left": taken.left,
        "unused": taken.unused,
        "rows": rows,
        "grown": taken.grown,
    }


def _refuse_other_cell(source: Source, config: Mapping[str, Any]) -> None:
    theirs, ours = source.cell, cell_of(config)
    parts = (config.get("init") or {}).get("parts")
    wants_core = parts is None or any(part.split(".")[0] not in ("embedding", "head") for part in parts)
    if theirs is not None and ours is not None and theirs != ours and wants_core:
        raise RequestError(
            f"init.from={source.named}: its core is {theirs}, and this run's is {ours}: give this run the source's "
            "model=, or init.parts without the core."
        )


def _refuse_other_level(source: Source, tokenizer: Any, parts: Sequence[str] | None) -> None:
    theirs, ours = (getattr(one, "level", None) for one in (source.tokenizer, tokenizer))
    wants_rows = parts is None or any(part.split(".")[0].endswith(("embedding", "head")) for part in parts)
    if theirs is not None and ours is not None and theirs != ours and wants_rows:
        raise RequestError(
            f"init.from={source.named}: its tokens are of level {theirs}, and the data's of level {ours}: give "
            f"data.level={theirs}, or init.parts=[core]."
        )


def _tokens(tokenizer: Any) -> dict[str, Sequence[str]]:
    """Side -> the tokens in the order of their ids."""
    if tokenizer is None:
        return {}
    if hasattr(tokenizer, "target"):
        return {"source": tokenizer.source.tokens, "target": tokenizer.target.tokens}
    return {"": tokenizer.tokens}
