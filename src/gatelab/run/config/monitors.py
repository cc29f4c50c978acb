"""Which way round a task's metrics are better, and what follows one of them the wrong way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def directions(task: Any) -> dict[str, str | None]:
    """The metrics that a task logs -> whether min or max is better, None of counts; empty if it does not say so."""
    return {f"val/{figure.name}": figure.better for figure in getattr(task, "figures", ())}


def wrong_way(key: str, monitor: str, mode: str | None, better: Mapping[str, str | None]) -> str | None:
    """Why a metric is not followed that way round, and what to give as `key`; None if it is right, or not known."""
    right = better.get(monitor)
    if right is None or mode in (right, None):
        return None
    side = "lower" if right == "min" else "higher"
    return f"{monitor} is better the {side} it is, and {mode} would take the worst; give {key}={right}."
