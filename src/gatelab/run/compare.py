"""Two runs side by side: what differs in configuration, environment and data, their scores, and where they part.

A view over the two directories; nothing is trained and nothing is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatelab.run.build import request_errors
from gatelab.run.differences import Difference, between, environments, flat
from gatelab.run.record.directory import RunDirectory
from gatelab.run.reproduce import Parting, parting
from gatelab.tasks.trace import read_trace

FACTS = ("outcome", "epochs", "steps", "parameters", "seconds")


@dataclass
class Comparison:
    """What two runs have in common and what not.

    Attributes:
        runs: the two directories.
        config: keys with other values, without `paths`; environment: code, versions, hardware, variables of the
            last attempts; data: files with another sha256.
        figures: scores and facts of both, the same or not, as (key, first, second); None where a run has none.
        parting: the first step or epoch in which the traces differ; None if they do not.
        compared: rows of the traces that were compared; None where a run has no trace.
    """

    runs: tuple[str, str]
    config: list[Difference]
    environment: list[Difference]
    data: list[Difference]
    figures: list[Difference]
    parting: Parting | None
    compared: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        groups = ("config", "environment", "data", "figures")
        rows = {name: [item._asdict() for item in getattr(self, name)] for name in groups}
        return {**asdict(self), **rows}


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare the runs in two directories.

    Raises:
        RequestError: one of them is no run directory.
    """
    runs = RunDirectory.open(first), RunDirectory.open(second)
    one, two = (run.read() for run in runs)
    config = between({**one["config"], "paths": {}}, {**two["config"], "paths": {}})
    parted, compared = _part(*runs)
    return Comparison(
        (str(runs[0].path), str(runs[1].path)),
        config,
        environments(*(record["attempts"][-1]["environment"] for record in (one, two))),
        between(one.get("data", {}), two.get("data", {})),
        _figures(*runs),
        parted,
        compared,
    )


def _figures(*runs: RunDirectory) -> list[Difference]:
    found = []
    for run in runs:
        result = run.result() or {"outcome": run.state()}
        scores = {split: report["metrics"] for split, report in result.get("splits", {}).items()}
        found.append(flat({**{key: result[key] for key in FACTS if key in result}, **scores}))
    one, two = found
    return [Difference(key, one.get(key), two.get(key)) for key in {**one, **two}]


def _part(first: RunDirectory, second: RunDirectory) -> tuple[Parting | None, int | None]:
    if not (first.trace_file.is_file() and second.trace_file.is_file()):
        return None, None
    with request_errors(""):
        rows = read_trace(first.trace_file), read_trace(second.trace_file)
    for index, (one, two) in enumerate(zip(*rows, strict=False)):
        if one != two:
            return parting(one, two), index
    same = min(map(len, rows))
    if len(rows[0]) > same:
        return Parting(*rows[0][same], None), same
    if len(rows[1]) > same:
        row = rows[1][same]
        return Parting(row.step, row.epoch, row.what, None, row.value), same
    return None, same
