"""Scores of class probabilities as sums and one division: a confusion matrix of counts, and bins of confidence.

Dimensions: `B` examples, `N` classes, `K` bins. NLL in nats.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BINS: Final = 15
"""Of confidence, all equally wide (Guo et al. 2017)."""


class ClassSums(NamedTuple):
    """What adds up over examples and processes.

    counts: `[N, N]` int64, row the true class, column the answer. bins: `[3, K]` float64, of each bin the examples, the
    right answers and the sum of the answers' probabilities. nll: float64.
    """

    counts: Tensor
    bins: Tensor
    nll: Tensor


def class_sums(logits: Tensor, labels: Tensor) -> ClassSums:
    """Return the sums of logits `[B, N]` and true classes `[B]`; the answer is the most probable class."""
    classes = logits.shape[-1]
    log_p = logits.double().log_softmax(-1)
    confidence, answer = log_p.exp().max(-1)
    counts = F.one_hot(labels * classes + answer, classes**2).sum(0).view(classes, classes)
    place = F.one_hot((confidence * BINS).ceil().long().clamp(1, BINS) - 1, BINS).double()  # [B, K]
    of_each = torch.stack((torch.ones_like(confidence), (answer == labels).double(), confidence))
    return ClassSums(counts, of_each @ place, F.nll_loss(log_p, labels, reduction="sum"))


def class_figures(sums: ClassSums) -> dict[str, Tensor]:
    """Return float64 scalars, NaN when nothing was scored.

    * `accuracy`: the share of examples whose answer is right;
    * `macro_f1`: the mean over classes of F1 = 2 hits / (examples of the class + answers of the class); a class that is
      neither the truth nor the answer anywhere is left out;
    * `loss`: nats per example;
    * `ece`: the expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599): with the examples
      in `BINS` bins by the probability of the answer, the sum over bins of |right answers - sum of probabilities|, over
      all examples;
    * `examples`: how many there were.
    """
    counts = sums.counts.double()
    hits, there, said = counts.diagonal(), counts.sum(1), counts.sum(0)
    occurs = there + said > 0
    examples = counts.sum()
    _, right, confidence = sums.bins
    return {
        "accuracy": hits.sum() / examples,
        "macro_f1": (2 * hits[occurs] / (there + said)[occurs]).mean(),
        "loss": sums.nll / examples,
        "ece": (right - confidence).abs().sum() / examples,
        "examples": examples,
    }
