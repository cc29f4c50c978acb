"""What the rounds of `scripts/bench/overhead.py` say together: medians, ratios, and whether the values agree.

A ratio is the median over the rounds of one tool's seconds by another's in the same round: the machine's speed
drifts from round to round, and both had the same of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

OURS = "gatelab"


@dataclass(frozen=True)
class Turn:
    """One tool in one round.

    Attributes:
        seconds: of its command; values: of the trials, by their number.
    """

    seconds: float
    values: list[float]


Round = Mapping[str, Mapping[str, Any]]


def names_of(rounds: Sequence[Round]) -> list[str]:
    """The tools that were there in some round, ours first."""
    return list(dict.fromkeys(name for this in rounds for name in this))


def ratios(rounds: Sequence[Round]) -> dict[str, float]:
    """Ours by each tool's seconds: below 1 where ours was faster."""
    found = {}
    for name in names_of(rounds):
        both = [this[OURS]["seconds"] / this[name]["seconds"] for this in rounds if name in this]
        found[name] = round(median(both), 3)
    return found


def disagreement(rounds: Sequence[Round]) -> float:
    """The largest relative difference of a trial's value between any two turns; 0 where all are the same."""
    columns = zip(*(turn["values"] for this in rounds for turn in this.values()), strict=True)
    return max((max(column) - min(column)) / abs(min(column)) for column in columns)


def other_values(rounds: Sequence[Round], name: str) -> int:
    """Trials of a tool, in all rounds, with another value than ours has in the same round."""
    pairs = [(this[OURS]["values"], this[name]["values"]) for this in rounds if name in this]
    return sum(a != b for ours, others in pairs for a, b in zip(ours, others, strict=True))


def show(document: Mapping[str, Any]) -> str:
    """The table for people."""
    rounds = document["rounds"]
    lines = [f"{'':14}{'seconds':>9}  {'gatelab is':>12}   rounds"]
    for name in names_of(rounds):
        seconds = [this[name]["seconds"] for this in rounds if name in this]
        ratio = document["ratios"][name]
        beside = "" if name == OURS else f"{ratio:.2f} x"
        each = "  ".join(f"{value:.1f}" for value in seconds)
        lines.append(f"{name:14}{median(seconds):9.1f}  {beside:>12}   {each}")
    others = {name: other_values(rounds, name) for name in names_of(rounds)}
    lines += [
        f"{name}: other values than {OURS} in {count} trials" for name, count in others.items() if count
    ]
    return "\n".join(lines)
