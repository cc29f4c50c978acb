"""The studies below a folder: found by name, and listed with their states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatelab.run.config.compose import nearest
from gatelab.run.errors import RequestError
from gatelab.study.analysis.read import read_study


def find_study(studies: str | Path, name: str) -> Path:
    """The folder of the study `name` below `studies`; a path to a study's folder is taken as it is.

    Raises:
        RequestError: there is none; the nearest name is given.
    """
    folder = Path(studies) / name
    for candidate in (folder, Path(name)):
        if (candidate / "study.json").is_file():
            return candidate.absolute()
    known = names_of(studies)
    listed = f" Studies there: {', '.join(known)}." if known else " There are none."
    hint = nearest(name, known) or listed
    raise RequestError(f"no study '{name}' below {studies}.{hint}")


def names_of(studies: str | Path) -> list[str]:
    """Names of the studies below a folder."""
    return sorted(path.parent.name for path in Path(studies).glob("*/study.json"))


def list_studies(studies: str | Path) -> list[dict[str, Any]]:
    """Every study below a folder, by name; one that cannot be read has the state `unreadable` and an `error`.

    Returns:
        for each: `name`, `state`, `counts`, `metric`, `best` (value), `created` and `directory`.
    """
    return [_facts(Path(studies) / name) for name in names_of(studies)]


def _facts(directory: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": directory.name, "directory": str(directory), "state": "unreadable"}
    facts |= dict.fromkeys(("counts", "metric", "best", "created"))
    try:
        state = read_study(directory)
    except (RequestError, OSError) as error:
        return {**facts, "error": str(error)}
    return {
        **facts,
        "state": state.state,
        "counts": state.counts,
        "metric": " ".join(objective.metric for objective in state.objectives),
        "best": state.best.value if state.best else None,
        "created": state.created,
    }
