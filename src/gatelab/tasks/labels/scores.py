"""Scores of a classifier that add up over batches and processes.

Letters: B examples, N classes.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from gatelab.data.labelled.scores import BINS, ClassSums, class_figures, class_sums


class ClassificationScores(Metric):
    """Accuracy, macro-F1, loss, calibration error and number of examples, see `class_figures`.

    Args:
        classes: N.

    Attributes:
        counts: the confusion matrix [N, N] int64, row the true class, column the answer.
    """

    full_state_update = False
    counts: Tensor
    bins: Tensor
    nll: Tensor

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zeros = ClassSums(
            torch.zeros(classes, classes, dtype=torch.int64),
            torch.zeros(3, BINS, dtype=torch.float64),
            torch.zeros((), dtype=torch.float64),
        )
        for name, value in zeros._asdict().items():
            self.add_state(name, value, dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits [B, N] and the true classes [B]."""
        for name, value in class_sums(logits, labels)._asdict().items():
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Return the figures as float64 scalars; NaN when nothing was scored."""
        return class_figures(ClassSums(self.counts, self.bins, self.nll))
