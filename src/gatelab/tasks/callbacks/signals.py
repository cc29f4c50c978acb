"""How a run says that it stopped early in good order. Who notes the signals is `gatelab.tasks.stop`."""

from typing import Any


class RunInterrupted(Exception):
    """The run was asked to stop, wrote `last.ckpt` and stopped; starting it again continues it."""


class RunPruned(Exception):
    """The run was judged not worth going on with, wrote `last.ckpt` and stopped; it can be continued all the same.

    Attributes:
        by: who judged, as plain data for the record.
    """

    def __init__(self, why: str, by: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.by = by or {}
