"""The teacher of a task: a trained task of the same kind that answers every training batch beside the one that learns.

It is frozen and in evaluation mode, so it draws nothing. It is no part of the student: neither of its checkpoints nor
of its parameters. `gatelab.core.distillation` has the loss.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from gatelab.core.distillation import soft_loss
from gatelab.core.text.head import IGNORE, token_loss
from gatelab.tasks.resume import State

WEIGHT, TEMPERATURE = 0.5, 2.0


class Teacher:
    """A trained task, and how much it counts.

    Args:
        task: with its weights.
        weight: w, the share of its answers in the objective, above 0 and at most 1.
        temperature: T, at least 1.

    Attributes:
        state: where the task carries the teacher's recurrent state from batch to batch, if it does.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, task: Any, weight: float | None = None, temperature: float | None = None) -> None:
        check_numbers(weight, temperature)
        self.weight = WEIGHT if weight is None else weight
        self.temperature = TEMPERATURE if temperature is None else temperature
        self.task: Any = task.eval().requires_grad_(False)
        self.state: State = None

    def to(self, device: torch.device) -> None:
        """Bring the teacher to the device."""
        self.task.to(device)

    def mixed(self, hard: Tensor, soft: Tensor) -> Tensor:
        """(1 - w) times the loss on the truth, and w times that on the teacher's answers."""
        return (1 - self.weight) * hard + self.weight * soft

    def soft_loss(self, logits: Tensor, own: Tensor) -> Tensor:
        """See `gatelab.core.distillation.soft_loss`; `own`: the teacher's logits."""
        return soft_loss(logits, own, self.temperature)

    def token_loss(
        self, head: nn.Module, rows: Tensor, own: Tensor, targets: Tensor, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """The objective and the NLL as `gatelab.core.text.head.token_loss` has them; `own`: the teacher's features.

        The logits of both are whole, N times V numbers; the fused loss of one that learns alone does without.
        """
        with torch.no_grad():
            told = self.task.net.head(own)
        logits = head(rows)
        hard, nll = token_loss(nn.Identity(), logits, targets, label_smoothing)
        soft = self.soft_loss(logits, told).masked_fill(targets == IGNORE, 0.0).sum()
        return self.mixed(hard, soft), nll

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """One teacher serves every copy of a task (averages of its weights)."""
        return self


def check_numbers(weight: float | None, temperature: float | None) -> None:
    """Raise ValueError where one of a teacher's numbers is out of range."""
    if weight is not None and not 0.0 < weight <= 1.0:
        raise ValueError(f"distill_weight must be above 0 and at most 1, not {weight}")
    if temperature is not None and not (temperature >= 1.0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be at least 1, not {temperature}")


def refuse_teacher(task: Any, teacher: Any) -> None:
    """See to it that one task can learn from another.

    Raises:
        ValueError: it learns from none, the teacher is of another kind, or was trained on other data: naming the
            first fact of them that differs.
    """
    if not task.taught_by:
        raise ValueError(f"teacher: {type(task).__name__} learns from no teacher; leave it out")
    if type(teacher).__name__ != type(task).__name__:
        raise ValueError(f"teacher: it is a {type(teacher).__name__}, and this run a {type(task).__name__}")
    for name in task.taught_by:
        theirs, ours = getattr(teacher.spec, name), getattr(task.spec, name)
        if theirs != ours:
            raise ValueError(f"teacher: its data have {name} {_short(theirs)}, and these {_short(ours)}")


def _short(value: Any) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."
