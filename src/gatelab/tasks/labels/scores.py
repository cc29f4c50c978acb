"""Scores of a classifier as sums and one division: a confusion matrix of counts, and bins of confidence.

Letters: N classes, B examples, K bins. NLL in nats.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

BINS = 15
"""Of confidence, all equally wide (Guo et al. 2017)."""


class ClassificationScores(Metric):
    """Accuracy, macro-F1, loss and calibration error.

    `compute` returns float64 scalars:

    * `accuracy`: the share of examples whose most probable class is the right one;
    * `macro_f1`: the mean over classes of F1 = 2 hits / (examples of the class + answers of the class); a class that is
      neither the truth nor the answer anywhere is left out;
    * `loss`: nats per example;
    * `ece`: the expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599): with the examples
      in K bins by the probability of the answer, the sum over bins of |right answers - sum of probabilities|, over all
      examples;
    * `examples`: how many there were.

    Args:
        classes: N.

    Attributes:
        counts: [N, N] int64, row the true class, column the answer.
        bins: [3, K] float64, of each bin the examples, the right answers and the sum of the answers' probabilities.
    """

    full_state_update = False
    counts: Tensor
    bins: Tensor
    nll: Tensor

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.add_state("counts", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("bins", torch.zeros(3, BINS, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits [B, N] and the true classes [B]."""
        log_p = logits.double().log_softmax(-1)
        self.nll += F.nll_loss(log_p, labels, reduction="sum")
        confidence, answer = log_p.exp().max(-1)
        pairs = F.one_hot(labels * self.classes + answer, self.classes**2).sum(0)
        self.counts += pairs.view(self.classes, self.classes)
        place = F.one_hot((confidence * BINS).ceil().long().clamp(1, BINS) - 1, BINS).double()  # [B, K]
        of_each = torch.stack((torch.ones_like(confidence), (answer == labels).double(), confidence))
        self.bins += of_each @ place

    def compute(self) -> dict[str, Tensor]:
        """Return the figures named above; NaN when nothing was scored."""
        counts = self.counts.double()
        hits, there, said = counts.diagonal(), counts.sum(1), counts.sum(0)
        examples = counts.sum()
        occurs = there + said > 0
        _, right, confidence = self.bins
        return {
            "accuracy": hits.sum() / examples,
            "macro_f1": (2 * hits[occurs] / (there + said)[occurs]).mean(),
            "loss": self.nll / examples,
            "ece": (right - confidence).abs().sum() / examples,
            "examples": examples,
        }
