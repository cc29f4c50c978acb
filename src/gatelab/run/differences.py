"""What differs between two records: code, versions, processor, threads, environment variables, data, configuration.

Plain data in, plain data out; nothing is judged. `reproduce.py` asks whether anything explains another result,
`compare.py` shows it to people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

FACTS = ("python", "platform", "threads", "cpu", "cpu_capability", "cuda", "cudnn", "driver")
ABSENT = "absent"


class Difference(NamedTuple):
    """One fact that differs; `key` is dotted, e.g. `versions.torch`."""

    key: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.key}: {shown(self.first)} -> {shown(self.second)}"


def shown(value: Any) -> str:
    """A value for a line of text; long hexadecimal strings are cut."""
    text = ABSENT if value is None else str(value)
    return f"{text[:12]}..." if re.fullmatch(r"[0-9a-f]{40,64}", text) else text


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; lists stay whole."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def between(first: Any, second: Any, prefix: str = "") -> list[Difference]:
    """Every key whose values differ, in the order of the first; an absent key counts as None."""
    one, two = flat(first, prefix), flat(second, prefix)
    return [Difference(k, one.get(k), two.get(k)) for k in {**one, **two} if one.get(k) != two.get(k)]


def environments(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What differs between two `environment`s of `run.json`. Facts that only one of them has are left out."""
    known = [key for key in FACTS if key in first and key in second]
    found = between({k: first[k] for k in known}, {k: second[k] for k in known})
    for key in ("versions", "variables", "native", "gpus"):
        if key in first and key in second:
            found += between(first[key], second[key], key)
    return [*code(first, second), *found]


def code(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Whether Gatelab's own code differs: by its sha256, in older records by git; with the changed files' names."""
    if "code" in first and "code" in second:
        if first["code"] == second["code"]:
            return []
    elif first.get("git") == second.get("git"):
        return []
    one, two = first.get("git") or {}, second.get("git") or {}
    if one.get("revision") != two.get("revision"):
        return [Difference("code", _revision(one), _revision(two))]
    changed = changed_files(one.get("diff", ""), two.get("diff", ""))
    if changed:
        return [
            Difference("code", _revision(one), f"{_revision(two)}, other changes in {', '.join(changed)}")
        ]
    return [Difference("code", first.get("code"), second.get("code"))]


def changed_files(first: str, second: str) -> list[str]:
    """The files in which two outputs of `git diff` differ."""
    one, two = _sections(first), _sections(second)
    return sorted(name for name in {**one, **two} if one.get(name) != two.get(name))


def _sections(diff: str) -> dict[str, str]:
    parts = re.split(r"^diff --git a/.* b/(.*)$", diff, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _revision(git: Mapping[str, Any]) -> str:
    if not git:
        return "no checkout"
    changes = " with uncommitted changes" if git.get("diff") else ""
    return f"commit {git['revision'][:12]}{changes}"
