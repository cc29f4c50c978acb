"""Whose code a study that exists would run: Gatelab's, what this command names, or that of the study's folder.

A study's folder may come from a stranger. Going on with it runs what its files name: a space function kept as
`space.py`, and the targets of its configurations; it opens the storage and writes to the folders that they name. A
point of its queue chooses among these and can name no other (`StudySpec.split`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gatelab.data.fetch import default_cache
from gatelab.run import CONF_DIR, RequestError
from gatelab.run.record.directory import reading
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.storage import hide_password
from gatelab.study.space import function_file
from gatelab.study.spec import FUNCTION, kept_sources, read_template


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
            f"study {study.name}: it names what is neither part of Gatelab nor named by this command: "
            f"{', '.join(foreign)}. Nothing was run or opened. If you know it, give the whole command that began the "
            f"study, or type:\n  {_trusting(overrides, config_dirs)}"
        )


def require_own_targets(path: Path) -> None:
    """See to it that composing a study's configurations imports nothing that is not part of Gatelab.

    Raises:
        RequestError: it would; the code is named.
    """
    from gatelab.run.load import require_trusted_targets

    study = StudyDirectory.open(path)
    with reading(study.file):
        require_trusted_targets([*_configurations(study), *_written(study.read())])


def _trusting(overrides: Sequence[str], config_dirs: Sequence[Path]) -> str:
    """This command with `--trust`, to be typed; of the study's own files nothing stands in it."""
    folders = [word for folder in config_dirs for word in ("--config-dir", str(folder))]
    return shlex.join(["gatelab", "sweep", *overrides, *folders, "--trust"])


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
    storage = record["settings"].get("storage")
    if storage is not None and not any(str(storage) in text for text in overrides):
        foreign.append(f"study.storage={hide_password(str(storage))}")
    foreign += sorted(place for place in set(_places(study)) if not any(place in text for text in overrides))
    dotted = record["settings"].get("space")
    if dotted is not None and not _same_function(study.path / FUNCTION, str(dotted), overrides):
        foreign.append(f"{study.path / FUNCTION}")
    return foreign


def _places(study: StudyDirectory) -> Iterator[str]:
    """The folders outside of the study's root that its configurations write to."""
    allowed = (study.path.resolve().parents[1], default_cache().resolve())
    for file in study.templates.glob("*.yaml"):
        for key, place in read_template(file).get("paths", {}).items():
            path = Path(str(place)).resolve()
            if key != "mirror" and place is not None and not any(map(path.is_relative_to, allowed)):
                yield f"paths.{key}={place}"


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
    points = [{"key": k, "choices": [v]} for point in record.get("points") or () for k, v in point.items()]
    for entry in (*(record.get("space") or ()), *points):
        if "_target_" in json.dumps(entry):
            choices = entry.get("choices") if str(entry.get("key", "")).endswith("_target_") else None
            yield from ({"_target_": choice} for choice in choices or [json.dumps(entry)])
