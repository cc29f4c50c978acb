"""How the rows of a batch are walked: sorted by length, so that the rows still running are the first ones.

Index work only, done once per call; nothing here knows the cell.

Dimensions: T time, B batch, N the sum of the lengths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gatelab.core.native.checks import address
from gatelab.core.native.library import load, most_threads

SMALL = 1 << 16  # floats below which one thread copies faster than two


@dataclass(frozen=True)
class Batch:
    """A batch as the kernel sees it (csrc/gru.h). Without lengths, N = T*B and `order` is None.

    Zoneout comes with it, because it too says which states go on: in training the drawn mask, in evaluation p.
    """

    steps: int
    size: int
    reverse: bool
    resets: Tensor | None  # [T, B] bool, by time and batch row
    lengths: Tensor | None = None  # [B] int64, longest first
    rows: Tensor | None = None  # [B] int64, the batch row of each place
    order: Tensor | None = None  # [N] int64, the row of x.view(T*B, D) for each row that is computed
    listed: Tensor | None = None  # [T*B] int64: `order`, then the rows past the lengths
    drawn: Tensor | None = None  # [T, B, H] bool, by time and batch row: where a unit keeps its state
    p: float = 0.0

    @property
    def count(self) -> int:
        """N, the number of rows that are computed."""
        return self.steps * self.size if self.order is None else self.order.numel()

    def gather(self, x: Tensor) -> Tensor:
        """From x [T, B, F] the rows [N, F] that are computed, in the kernel's order."""
        flat = x.reshape(self.steps * self.size, x.shape[2])
        return flat if self.order is None else flat.index_select(0, self.order)

    def scatter(self, rows: Tensor) -> Tensor:
        """The reverse of `gather`: [T, B, F] with zeros where nothing was computed."""
        if self.listed is None:
            return rows.view(self.steps, self.size, -1)
        count, width = rows.shape
        padded = torch.empty(self.steps, self.size, width)
        threads = most_threads() if padded.numel() > SMALL else 1
        source = address("rows", rows, (self.count, width))
        listed = self.listed.data_ptr()
        load().spread(source, listed, count, self.listed.numel(), width, threads, padded.data_ptr())
        return padded


def plan(
    steps: int,
    size: int,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    reverse: bool = False,
    drawn: Tensor | None = None,
    p: float = 0.0,
) -> Batch:
    """Sort the rows by length, longest first, and list the rows of the input in the order of the walk.

    `reset_mask[t]` puts a boundary between t-1 and t. Walking backward it is crossed on the way into t-1, so
    there the mask is moved by one; the boundaries before a row's first step and after its last do not count.
    """
    if reset_mask is not None and reverse:
        last = torch.full((size,), steps - 1) if lengths is None else lengths - 1
        reset_mask = torch.cat((reset_mask[1:], torch.zeros_like(reset_mask[:1])))
        reset_mask = reset_mask & (torch.arange(steps).unsqueeze(1) != last)
    resets = None if reset_mask is None else reset_mask.contiguous()
    if lengths is None:
        return Batch(steps, size, reverse, resets, drawn=drawn, p=p)
    ordered, rows = lengths.sort(descending=True, stable=True)
    listed = torch.empty(steps * size, dtype=torch.int64)
    places = (address("lengths", t, (size,), torch.int64) for t in (ordered, rows))
    count = load().order(*places, steps, size, reverse, listed.data_ptr())
    if count == steps * size:
        return Batch(steps, size, reverse, resets, drawn=drawn, p=p)
    return Batch(steps, size, reverse, resets, ordered, rows, listed[:count], listed, drawn, p)
