"""Whose code a study that exists would run: Gatelab's, what this command names, or that of the study's folder.

A study's folder may come from a stranger. Going on with it runs what its files name: a space function kept as
`space.py`, and the targets of its configurations. A point of its queue chooses among these and can name no other
(`StudySpec.split`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gatelab.run import CONF_DIR, RequestError
from gatelab.run.record.directory import reading
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.space import function_file
from gatelab.study.spec import FUNCTION, kept_sources


def require_own_code(path: Path, overrides: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """See to it that going on with a study runs no code that neither Gatelab nor this command names.

    Args:
        path: the study's folder; overrides, config_dirs: the command that goes on with it.

    Raises:
        RequestError: it would; the code is named.
    """
    study = StudyDirectory.open(path)
    with reading(study.file):
        foreign = _foreign(study, study.read(), overrides, config_dirs)
    if foreign:
        raise RequestError(
            f"study {study.name}: it runs code that is not part of Gatelab: {', '.join(foreign)}. Nothing was run. "
            "Give the whole command that began it, which names this code; --trust allows it, if you know the code."
        )


def _foreign(
    study: StudyDirectory, record: Any, overrides: Sequence[str], config_dirs: Sequence[Path]
) -> list[str]:
    from gatelab.run.load import foreign_targets  # it loads PyTorch

    named = [*overrides, *(file.read_text() for folder in config_dirs for file in folder.rglob("*.yaml"))]
    foreign = [
        name
        for name in foreign_targets([*_configurations(study), *_written(record)])
        if not any(name in text for text in named)
    ]
    dotted = record["settings"].get("space")
    if dotted is not None and not _same_function(study.path / FUNCTION, str(dotted), overrides):
        foreign.append(f"{study.path / FUNCTION}")
    return foreign


def _same_function(kept: Path, dotted: str, overrides: Sequence[str]) -> bool:
    """Whether the command names the space function, and its file holds what the study kept."""
    if f"study.space={dotted}" not in overrides or not kept.is_file():
        return False
    return function_file(dotted, Path.cwd()).read_bytes() == kept.read_bytes()


def _configurations(study: StudyDirectory) -> Iterator[Any]:
    """The content of every YAML file of the study that is not Gatelab's own."""
    files: list[tuple[Path, Path | None]] = [(file, None) for file in study.templates.glob("*.yaml")]
    sources = kept_sources(study.conf) if study.conf.is_dir() else ()
    for source in sources:
        files += [(file, CONF_DIR / file.relative_to(source)) for file in source.rglob("*.yaml")]
    for file, own in files:
        try:
            text = file.read_text()
            if own is None or not own.is_file() or own.read_text() != text:
                yield yaml.safe_load(text)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise RequestError(f"{file}: cannot be read ({str(error).splitlines()[0]}).") from None


def _written(record: Any) -> Iterator[Any]:
    """What `study.json` itself sets as a target: by an override, a point, or a choice of the space."""
    for text in record.get("overrides") or ():
        key, _, value = str(text).partition("=")
        if "_target_" in str(text):
            yield {"_target_": value if key.endswith("_target_") else str(text)}
    for entry in (*(record.get("space") or ()), *(record.get("points") or ())):
        if "_target_" in json.dumps(entry):
            choices = entry.get("choices") if str(entry.get("key", "")).endswith("_target_") else None
            yield from ({"_target_": choice} for choice in choices or [json.dumps(entry)])
