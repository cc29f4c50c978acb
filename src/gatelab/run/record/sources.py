"""Runs and files that a configuration names, whose content is part of what the run is: their sha256 stands for them.

A configuration says where they lie (`init.from=RUN`), which is not part of a run's identity; `source_sha256` in the
resolved configuration says what they hold, and is. A further key is one more line of `SOURCES`.

Files that a user's own classes read are recorded beside the data's, in `data` of `run.json` (`own_files`).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gatelab.data.fetch import sha256_of
from gatelab.data.files import files_of
from gatelab.data.messages import DataError
from gatelab.data.text.kept_vocabulary import vocabulary_file
from gatelab.run import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.find import has, runs_below

RECORDED: Final = "source_sha256"
"""The key of the resolved configuration: dotted key of a source -> sha256."""


def weights_file(named: str) -> Path:
    """The file with the weights of a run (its best checkpoint, else its last) or the file that is named.

    Raises:
        RequestError: there is no such run or file, or the run has no checkpoint yet.
    """
    if (file := Path(named).expanduser()).is_file():
        return file
    run = _run(named)
    found = next((path for path in (run.best, run.last) if path.is_file()), None)
    if found is None:
        raise RequestError(f"{named}: has no checkpoint yet; train it first.")
    return found


def _run(named: str) -> RunDirectory:
    path = Path(named).expanduser()
    if path.is_dir() and not has(path, "run.json") and not runs_below(path):
        raise RequestError(f"{named}: holds no run.json, so it is not a run directory; give a run or a file.")
    return RunDirectory.open(path if path.is_dir() else named)


SOURCES: Final[dict[str, Callable[[str], Path]]] = {
    "init.from": weights_file,
    "data.vocabulary": vocabulary_file,
    "task.teacher": weights_file,
}
"""Dotted key of the configuration -> which file its value means."""


def sources_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The runs and files that a resolved configuration names, by dotted key."""
    found: dict[str, str] = {}
    for key in SOURCES:
        group, _, name = key.rpartition(".")
        node = config.get(group)
        if isinstance(node, Mapping) and isinstance(node.get(name), str):
            found[key] = node[name]
    return found


def with_sources(config: dict[str, Any]) -> dict[str, Any]:
    """The resolved configuration with the sha256 of what it names; one that has them keeps those of then.

    Raises:
        RequestError: something that it names is not there; the message begins with the key.
    """
    named = sources_of(config)
    if not named or config.get(RECORDED):
        return config
    return {**config, RECORDED: {key: sha256_of(source_file(key, value)) for key, value in named.items()}}


def source_file(key: str, named: str) -> Path:
    """The file that the value `named` of `key` means; raises as `with_sources`."""
    try:
        return SOURCES[key](named)
    except DataError as error:
        raise RequestError(f"{error}.") from None
    except RequestError as error:
        raise RequestError(f"{key}={error}") from None


def checked_file(config: Mapping[str, Any], key: str) -> Path:
    """The file that `key` of a resolved configuration means, which holds what it held when the run was asked for.

    Raises:
        RequestError: it is gone, or has changed.
    """
    named = sources_of(config)[key]
    file = source_file(key, named)
    then = (config.get(RECORDED) or {}).get(key)
    if then is not None and (now := sha256_of(file)) != then:
        raise RequestError(
            f"{key}={named}: {file.name} has changed since this run was asked for (sha256 {then[:12]}... then, "
            f"{now[:12]}... now). Put it back as it was, or ask for the run again."
        )
    return file


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without where its sources lie: what they hold stands under `source_sha256`."""
    config = copy.copy(config)
    for key in sources_of(config) if config.get(RECORDED) else ():
        group, _, name = key.rpartition(".")
        config[group] = {inner: value for inner, value in config[group].items() if inner != name}
    return config


READING = ("data", "task", "model", "optim", "schedule")
"""Groups of a configuration whose files make a result; those of callbacks and loggers may be written by them."""
NOT_OWN = ("gatelab", "torch", "pytorch_lightning")
"""Packages whose classes record what they read themselves, or read nothing."""


def own_files(config: Mapping[str, Any], data: Any) -> dict[str, str]:
    """The sha256 of the files that a user's own classes read, as far as these are named.

    They are named by the configuration, as a text that an own class gets and that is the path of a file
    (`model.table`, by its key), and by `data_files()` of the DataModule `data` (by their names, from the folder on that
    they share).

    Raises:
        RequestError: `data_files()` names something that is not there.
    """
    named = {key: sha256_of(Path(file).expanduser()) for key, file in named_files(config)}
    return named | _digests(getattr(data, "data_files", tuple)())


def has_own_code(config: Mapping[str, Any]) -> bool:
    """Whether a class that reads files is neither Gatelab's nor one of torch or Lightning."""
    return any(_is_own(node) for _, node in _nodes({key: config.get(key) for key in READING}, ""))


def named_files(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The dotted keys of an own class's arguments whose values are paths of files, with the values."""
    for path, node in _nodes({key: config.get(key) for key in READING}, ""):
        for key, value in _texts(node, path) if _is_own(node) else ():
            if os.path.isfile(os.path.expanduser(value)):
                yield key, value


def _nodes(item: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node with a `_target_`, at any depth, with its dotted key."""
    if isinstance(item, Mapping) and "_target_" in item:
        yield path, item
    for key, value in _items(item):
        yield from _nodes(value, f"{path}.{key}" if path else str(key))


def _texts(item: Any, path: str) -> Iterator[tuple[str, str]]:
    """The texts in a node, also in lists and dicts of it, but not those of a node inside with a class of its own."""
    for key, value in _items(item):
        if isinstance(value, str):
            yield f"{path}.{key}", value
        elif not (isinstance(value, Mapping) and "_target_" in value):
            yield from _texts(value, f"{path}.{key}")


def _items(item: Any) -> Iterable[tuple[Any, Any]]:
    return item.items() if isinstance(item, Mapping) else enumerate(item) if isinstance(item, list) else ()


def _is_own(node: Mapping[str, Any]) -> bool:
    return str(node["_target_"]).partition(".")[0] not in NOT_OWN


def _digests(given: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """The sha256 of files, and of those in folders, by their names from the folder on that all of them share."""
    files: set[Path] = set()
    for name in given:
        try:
            found = [Path(name)] if os.path.isfile(name) else files_of("data_files()", Path(name))
        except DataError as error:
            raise RequestError(f"data: {error}.") from None
        if not found:
            raise RequestError(f"data: data_files() names {name}, and there is no such file.")
        files |= {Path(os.path.abspath(file)) for file in found}
    shared = os.path.commonpath([file.parent for file in files]) if files else ""
    return {file.relative_to(shared).as_posix(): sha256_of(file) for file in sorted(files)}
