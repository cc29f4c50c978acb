"""Identity of a run: a hash of the resolved configuration, without what cannot change results, and the seed.

The run directory follows from identity, never from the clock: `<paths.root>/runs/<name>/<hash8>-s<seed>/`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gatelab.run import RequestError
from gatelab.run.config import Composed
from gatelab.run.record.sources import with_sources, without_places

# Where things lie, who watches and what machine it is: not part of what a run is.
LEFT_OUT = ("name", "paths", "logger", "threads", "test", "tags", "note")
LEFT_OUT_OF = {
    "callbacks": ("progress", "throughput", "gradient_norm", "gates", "memory"),
    "data": ("mirror", "cache", "num_workers"),
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "enable_model_summary",
        "log_every_n_steps",
        "profiler",
        "default_root_dir",
    ),
    "task": (),
}
# Keys that came later: null is what was done before them, so the runs of then keep their hash.
LEFT_OUT_IF_NULL = {
    "matmul_precision",
    "compile",
    "data.folds",
    "data.fold",
    "data.borders",
    "data.separator",
    "data.decimal",
    "data.encoding",
    "data.missing_marks",
    "task.teacher",
    "task.distill_weight",
    "task.temperature",
    "task.net.cycle",
    "data.vocabulary",
    "data.train_examples",
}
# Of `data`, what names files. A column or a kind of data under one of these keys is its own only spelling.
DATA_FILES = {f"{split}{key}" for split in ("", "valid_", "test_") for key in ("path", "source", "target")}
# Nodes that came later: with nothing in them but null, false, 0 and empty lists, they change nothing.
LEFT_OUT_IF_EMPTY = ("init", "transfer")


@dataclass(frozen=True)
class Identity:
    """A run's name, the first 8 hexadecimal digits of its configuration's hash, and its seed."""

    name: str
    hash8: str
    seed: int

    def directory(self, runs: str | Path) -> Path:
        """The run directory below `runs`."""
        return Path(runs) / self.name / f"{self.hash8}-s{self.seed}"


def identify(composed: Composed) -> Identity:
    """The identity of a composed configuration."""
    return identity_of(composed.config)


def identity_of(config: DictConfig) -> Identity:
    """The identity of a configuration that is not resolved yet.

    The seed is taken out of the hash, also where other keys refer to it, so that the seeds of one
    configuration share their hash.
    """
    config = copy.deepcopy(config)
    seed = int(config.seed)
    config.seed = 0
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    plain = {str(key): value for key, value in resolved.items()}
    # `runs/x-s${seed}` of seed 0 need not be there
    with contextlib.suppress(RequestError):
        plain = with_sources(plain)
    return Identity(str(config.name), hash_of(plain)[:8], seed)


def hash_of(config: Mapping[Any, Any]) -> str:
    """sha256 of the defining part of a resolved configuration, as canonical JSON."""
    return hashlib.sha256(json.dumps(defining(config), sort_keys=True).encode()).hexdigest()


def first_difference(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> tuple[str, Any, Any] | None:
    """The first key, dotted, of what defines a run that is not the same in two configurations, and both values."""
    first, second = (flat(json.loads(json.dumps(defining(config)))) for config in (one, other))
    for key in sorted(first.keys() | second.keys()):
        values = first.get(key, "absent"), second.get(key, "absent")
        if values[0] != values[1]:
            return key, *values
    return None


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; lists stay whole."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def defining(config: Mapping[Any, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that defines the run."""
    kept: dict[str, Any] = {
        str(key): copy.deepcopy(value)
        for key, value in without_places(dict(config)).items()
        if key not in LEFT_OUT
    }
    for dotted in LEFT_OUT_IF_NULL:
        _drop_null(kept, dotted.split("."))
    for group in LEFT_OUT_IF_EMPTY:
        if isinstance(kept.get(group), dict) and not any(kept[group].values()):
            del kept[group]
    for group, keys in LEFT_OUT_OF.items():
        if isinstance(kept.get(group), dict):
            kept[group] = {key: value for key, value in kept[group].items() if key not in keys}
    if isinstance(kept.get("data"), dict):
        for key in DATA_FILES & kept["data"].keys():
            if isinstance(kept["data"][key], str):
                kept["data"][key] = _one_spelling(kept["data"][key])
    return kept


def _drop_null(node: Any, keys: list[str]) -> None:
    """Take a key, that of a nested mapping by the keys that lead to it, away where it is null."""
    if not isinstance(node, dict) or keys[0] not in node:
        return
    if keys[1:]:
        _drop_null(node[keys[0]], keys[1:])
    elif node[keys[0]] is None:
        del node[keys[0]]


def _one_spelling(path: str) -> str:
    """A path relative to the working directory if it lies below it, else absolute, without `.` and `..`."""
    absolute = os.path.abspath(os.path.expanduser(path))
    inner = os.path.relpath(absolute)
    return absolute if inner.startswith("..") else inner
