"""Training of a network that does not begin at random: frozen parts, gradual unfreezing, rates by depth.

Both follow ULMFiT (Howard and Ruder 2018, arXiv:1801.06146, sections 3.2 and 3.3). A network's groups are its parts,
from input to output (`core/weights/transfer.py`). Which of them are trained depends on the epoch alone, so a run that
was stopped goes on exactly.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gatelab.core.weights.transfer import choose_parts, part_of, parts_of


class FineTuning:
    """How each part of a network is trained.

    Args:
        net: the network.
        freeze: parts that keep their values, e.g. `["embedding", "core.0"]`; `core` is all of its layers.
        unfreeze: gradual unfreezing: the last group alone is trained for so many epochs, then the one before it too,
            and so on; None: all from the start.
        decay: the rate of each group is that of the one after it, divided by this (ULMFiT: 2.6); None: one rate.

    Raises:
        ValueError: a part that does not exist, nothing left to train, or a number that is out of range.
    """

    def __init__(
        self,
        net: nn.Module,
        freeze: Sequence[str] = (),
        unfreeze: int | None = None,
        decay: float | None = None,
    ) -> None:
        if unfreeze is not None and unfreeze < 1:
            raise ValueError(
                f"transfer.unfreeze={unfreeze}: give at least 1 epoch, or null for all from the start"
            )
        if decay is not None and decay < 1:
            raise ValueError(
                f"transfer.decay={decay}: give at least 1; 2.6 divides the rate of each lower group by it"
            )
        own = dict(net.named_parameters())
        parts = parts_of(own)
        frozen = choose_parts(freeze, parts, "transfer.freeze: the network")
        self.unfreeze, self.decay = unfreeze, decay
        self.groups = {
            part: [p for name, p in own.items() if part_of(name) == part]
            for part in parts
            if part not in frozen
        }
        if not self.groups:
            raise ValueError("transfer.freeze: nothing is left to train; leave a part out of it")
        for name, parameter in own.items():
            parameter.requires_grad_(part_of(name) not in frozen)

    def trained(self, epoch: int) -> list[str]:
        """The groups that are trained in an epoch (from 0), from input to output."""
        names = list(self.groups)
        return names if self.unfreeze is None else names[-(1 + epoch // self.unfreeze) :]

    def hold(self, epoch: int) -> None:
        """Drop the gradients of the groups that are not trained yet, so that no optimiser touches them."""
        for part in self.groups.keys() - set(self.trained(epoch)):
            for parameter in self.groups[part]:
                parameter.grad = None

    def share_out(self, optimizer: Optimizer) -> None:
        """Split the optimiser's groups by part, the last part first, each with its own rate."""
        if self.decay is None:
            return
        depth = {id(p): i for i, part in enumerate(reversed(self.groups)) for p in self.groups[part]}
        split: list[dict[str, Any]] = []
        for i in range(len(self.groups)):
            for group in optimizer.param_groups:
                if params := [p for p in group["params"] if depth[id(p)] == i]:
                    split.append({**group, "params": params, "lr": group["lr"] / self.decay**i})
        optimizer.param_groups[:] = split
