"""Differences between two runs: configuration, environment, data, scores, and the first step at which they diverge.

A view over the two directories; nothing is trained and nothing is written.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelab.run.build import request_errors
from gatelab.run.record.directory import RunDirectory, reading
from gatelab.run.record.identity import flat
from gatelab.tasks.trace import Row, read_trace

FACTS = ("python", "platform", "threads", "cpu", "cpu_capability", "cuda", "cudnn", "driver")
ABSENT = "absent"
SCALARS = ("outcome", "epochs", "steps", "parameters", "seconds")


@dataclass
class Divergence:
    """The first row in which two traces differ; None where one of them has ended."""

    step: int
    epoch: int
    what: str
    recorded: str | None
    reproduced: str | None

    def describe(self, first: str = "recorded", second: str = "now") -> str:
        """The divergence in words, with the names `first` and `second` for the two runs."""
        where = f"the {self.what} of step {self.step}"
        if self.what == "weights":
            where = f"the weights after epoch {self.epoch + 1}" if self.step else "the initial weights"
        if self.recorded is None or self.reproduced is None:
            return f"{where}: {first if self.reproduced is None else second} only"
        one, two = (
            f"{value} ({float.fromhex(value):.9g})" if self.what == "loss" else f"{value[:12]}..."
            for value in (self.recorded, self.reproduced)
        )
        return f"{where}: {first} {one}, {second} {two}"


@dataclass
class Comparison:
    """What two runs have in common and what not.

    Attributes:
        runs: the two directories.
        config: keys with other values, without `paths`; environment: code, versions, hardware, variables of the
            last attempts; data: files with another sha256.
        figures: scores and facts of both, the same or not, as (key, first, second); None where a run has none.
        divergence: the first step or epoch in which the traces differ; None if they do not.
        compared: rows of the traces that were compared; None where a run has no trace.
    """

    runs: tuple[str, str]
    config: list[Difference]
    environment: list[Difference]
    data: list[Difference]
    figures: list[Difference]
    divergence: Divergence | None
    compared: int | None


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare the runs in two directories.

    Raises:
        RequestError: one of them is no run directory.
    """
    runs = RunDirectory.open(first), RunDirectory.open(second)
    with reading(f"{runs[0].path} or {runs[1].path}"):
        return _compare(runs)


def _compare(runs: tuple[RunDirectory, RunDirectory]) -> Comparison:
    one, two = (run.read() for run in runs)
    config = between({**one["config"], "paths": {}}, {**two["config"], "paths": {}})
    diverged, compared = _diverge(*runs)
    return Comparison(
        (str(runs[0].path), str(runs[1].path)),
        config,
        environments(*(record["attempts"][-1]["environment"] for record in (one, two))),
        between(one.get("data", {}), two.get("data", {})),
        _figures(*runs),
        diverged,
        compared,
    )


def _figures(*runs: RunDirectory) -> list[Difference]:
    found = []
    for run in runs:
        result = run.result() or {"outcome": run.state()}
        scores = {split: report["metrics"] for split, report in result.get("splits", {}).items()}
        found.append(flat({**{key: result[key] for key in SCALARS if key in result}, **scores}))
    one, two = found
    return [Difference(key, one.get(key), two.get(key)) for key in {**one, **two}]


def _diverge(first: RunDirectory, second: RunDirectory) -> tuple[Divergence | None, int | None]:
    if not (first.trace_file.is_file() and second.trace_file.is_file()):
        return None, None
    with request_errors(""):
        rows = read_trace(first.trace_file), read_trace(second.trace_file)
    for index, (one, two) in enumerate(itertools.zip_longest(*rows)):
        if one != two:
            return divergence(one, two), index
    return None, len(rows[0])


def divergence(wanted: Row | None, row: Row | None) -> Divergence:
    """The difference of two rows at the same place of two traces; if they are of different moments, of the earlier.

    None stands for a trace that has ended; one of them has not.
    """
    if wanted is not None and (row is None or wanted[:3] < row[:3]):
        return Divergence(*wanted, None)
    assert row is not None
    same = wanted is not None and wanted[:3] == row[:3]
    return Divergence(*row[:3], wanted.value if same and wanted else None, row.value)


@dataclass(frozen=True)
class Difference:
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
    """The source files that differ, Gatelab's and a user's own; in older records by sha256 or git, Gatelab's alone."""
    if "sources" in first and "sources" in second:
        return between(first["sources"], second["sources"], "code")
    key = "code" if "code" in first and "code" in second else "git"
    if first.get(key) == second.get(key):
        return []
    one, two = first.get("git") or {}, second.get("git") or {}
    if one.get("revision") != two.get("revision"):
        return [Difference("code", _revision(one), _revision(two))]
    files = [re.split(r"^diff --git a/.* b/(.*)$", git.get("diff", ""), flags=re.M) for git in (one, two)]
    sections = (set(zip(parts[1::2], parts[2::2], strict=True)) for parts in files)
    if changed := sorted({name for name, _ in set.symmetric_difference(*sections)}):
        return [
            Difference("code", _revision(one), f"{_revision(two)}, other changes in {', '.join(changed)}")
        ]
    return [Difference("code", first.get("code"), second.get("code"))]


def _revision(git: Mapping[str, Any]) -> str:
    if not git:
        return "no checkout"
    changes = " with uncommitted changes" if git.get("diff") else ""
    return f"commit {git['revision'][:12]}{changes}"
