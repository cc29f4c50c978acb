"""The leaderboard's trials scored otherwise (`gatelab eval --rows`): marked figures beside the static ones that rank.

A method's figures are those of the runs that it has scored; the static ones beside them are of the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gatelab.run.record.rows import readable_rows, shown_parameters
from gatelab.study.analysis.leaderboard import Row
from gatelab.study.analysis.state import Run
from gatelab.study.analysis.statistics import Summary, decimals, summarise, values_of

MARK = (
    "The order above is that of the static figures. Here the same checkpoints are scored otherwise; in brackets the "
    "static figure of the same split and runs. Parameters with a * were tuned on valid."
)


@dataclass(frozen=True)
class Otherwise:
    """One trial scored by one method on one split.

    Attributes:
        rank, trial: of the leaderboard.
        what: the method in a sentence.
        figures: metric -> what the method gives and the static figure.
        parameters: of the first run; each run is tuned for itself.
    """

    rank: int
    trial: int
    split: str
    title: str
    what: str
    figures: Mapping[str, tuple[Summary, Summary]]
    parameters: str


def scored_otherwise(rows: Sequence[Row]) -> list[Otherwise]:
    """What was scored of the leaderboard's trials, in its order; empty where nothing was."""
    found = []
    for row in rows:
        groups: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = {}
        for run in row.trial.runs:
            for scored in readable_rows(run.directory):
                groups.setdefault((scored["split"], scored["method"]), []).append((run, scored))
        for (split, _), parts in groups.items():
            first = parts[0][1]
            names = [
                n for n in first["figures"] if all(n in s["metrics"] and n in s["static"] for _, s in parts)
            ]
            found.append(
                Otherwise(
                    *(row.rank, row.trial.number, split, first["title"], first["what"]),
                    {
                        name: (_summary(parts, "metrics", name), _summary(parts, "static", name))
                        for name in names
                    },
                    shown_parameters(first),
                )
            )
    return found


def _summary(parts: Sequence[tuple[Run, Mapping[str, Any]]], kind: str, name: str) -> Summary:
    runs = [replace(run, value=float(scored[kind][name])) for run, scored in parts]
    return summarise(list(values_of(runs).values()))


def columns(found: Sequence[Otherwise]) -> dict[str, list[str]]:
    """Title -> one text a row, as `leaderboard.columns`."""
    shown = {
        "rank": [str(one.rank) for one in found],
        "trial": [str(one.trial) for one in found],
        "split": [one.split for one in found],
        "scored by": [one.title for one in found],
    }
    for name in dict.fromkeys(name for one in found for name in one.figures):
        pairs = [one.figures.get(name) for one in found]
        digits = decimals([summary for pair in pairs if pair for summary in pair])
        shown[name] = [f"{pair[0].text(digits)} ({pair[1].text(digits)})" if pair else "" for pair in pairs]
    return shown | {"with": [one.parameters for one in found]}


def sentences(found: Sequence[Otherwise]) -> list[str]:
    """Each method once, in a sentence."""
    return [f"{title}: {what}" for title, what in dict.fromkeys((one.title, one.what) for one in found)]
