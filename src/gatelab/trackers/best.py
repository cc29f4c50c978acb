"""The best value so far of the metric that decides which epoch is best: what trackers show as the run's score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatelab.trackers.follow import STEP, Row


class Best:
    """Takes row after row.

    Args:
        config: of the run, resolved.

    Attributes:
        name: of the metric; value: the best so far, and step: the finished steps when it was measured (None: none yet).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        own = (config.get("callbacks") or {}).get("checkpoints") or {}
        self.name = str(own.get("monitor") or config["task"]["monitor"])
        self._sign = 1 if (own.get("mode") or config["task"]["mode"]) == "min" else -1
        self.value: float | None = None
        self.step: int | None = None

    def take(self, row: Row) -> bool:
        """Whether this row has a better value than all before it."""
        value = row.get(self.name)
        if value is None or value != value:
            return False
        if self.value is not None and self._sign * value >= self._sign * self.value:
            return False
        self.value, self.step = float(value), int(row[STEP])
        return True
