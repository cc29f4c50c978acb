"""The certificate that evaluation in several streams gives what one stream would: states compared at the
seams.

Stream i > 0 of an evaluation begins with a burn-in that is not scored, and at its end has read exactly the
tokens that stream i-1 ends with (`gatelab.data.text.streams.eval_streams`). If the two states agree there, the
burn-in was long
enough: the perplexity does not depend on the number of streams. This file only measures; the task decides.
"""

import torch
from torch import Tensor

from gatelab.data.specs import IGNORE, TokenBatch
from gatelab.tasks.resume import State, columns


class Stitches:
    """Remembers every stream's state at the end of its burn-in; `see` each window before it is processed."""

    def __init__(self) -> None:
        self._windows = 0
        self._started: Tensor | None = None
        self._after_burn_in: Tensor | None = None
        self._broken = False

    def see(self, batch: TokenBatch, state: State) -> None:
        """Look at a window and the state [L, B, H] that enters it."""
        self._windows += 1
        if self._broken or (self._windows > 1 and self._started is not None and bool(self._started.all())):
            return
        scored = (batch.targets != IGNORE).any(0)
        if self._started is None:
            self._started = torch.zeros_like(scored)
        if self._windows > 1 and (len(scored) != len(self._started) or bool(batch.reset.any())):
            self._broken = True  # streams that start anew in the middle have no seams
            return
        now = columns(state)
        if now is not None and bool((scored & ~self._started).any()):
            kept = torch.full_like(now, torch.nan) if self._after_burn_in is None else self._after_burn_in
            self._after_burn_in = torch.where((scored & ~self._started)[:, None], now, kept)
        self._started |= scored

    def largest(self, last: State) -> Tensor | None:
        """Return the largest difference of states over all seams, or None without seams; collective under
        DDP.

        `last` is the state after the streams' last window. The figure is a float64 scalar in the state's own
        unit (a GRU's state lies in [-1, 1]).
        """
        end = columns(last)
        ends, starts = _all_columns(end), _all_columns(self._after_burn_in, like=end)
        if self._broken or ends is None or starts is None or len(ends) < 2:
            return None
        difference = (starts[1:] - ends[:-1]).abs().max().to(torch.float64)
        return None if bool(difference.isnan()) else difference


def _all_columns(mine: Tensor | None, like: Tensor | None = None) -> Tensor | None:
    """Return the rows of all processes, in order of rank; NaN rows for a process that has none."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return mine
    if mine is None and like is not None:
        mine = torch.full_like(like, torch.nan)
    parts: list[Tensor | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, None if mine is None else mine.cpu())
    rows = [part for part in parts if part is not None]
    return torch.cat(rows) if rows else None
