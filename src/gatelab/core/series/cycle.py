"""A cycle that is learnt: the value of every channel at each hour of the day, say, beside the recurrent network.

Residual cycle forecasting (Lin et al. 2024, CycleNet, arXiv:2409.18479): the cycle is taken from the past, the network
forecasts what remains, and the cycle of the future is added to its forecast. Both are trained together.

Dimensions: B windows, W steps of the cycle, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Cycle(nn.Module):
    """The level of each channel at each place of a cycle, all 0 before training.

    Args:
        steps: W, after which it begins again: 24 for a day of hours.
        channels: C.

    Raises ValueError for a cycle of less than two steps.
    """

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        if steps < 2:
            raise ValueError(f"cycle must be at least 2 steps, got {steps}")
        self.steps = steps
        self.levels = nn.Parameter(torch.zeros(steps, channels))

    def forward(self, start: Tensor, steps: int) -> Tensor:
        """Return the levels [B, steps, C] from the steps of time `start` [B] on."""
        places = (start[:, None] + torch.arange(steps, device=start.device)) % self.steps
        return F.embedding(places, self.levels)

    def extra_repr(self) -> str:
        """Sizes for `print`."""
        return f"steps={self.steps}, channels={self.levels.shape[1]}"


def cycle_of(net: nn.Module) -> Cycle | None:
    """The cycle of a network; None where it has none."""
    found = getattr(net, "cycle", None)
    return found if isinstance(found, Cycle) else None
