"""From features to tokens: log-probabilities and losses of an output layer over a vocabulary.

The output layer is an `nn.Linear` (any module that returns logits works), or an `AdaptiveHead` for a large vocabulary.
What a task asks of it stands here: `token_loss` to train, `token_nll` to score.

Dimensions: N positions, F features, V vocabulary. A target of `IGNORE` is not scored. NLL is in nats.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.text import fused_head

IGNORE = -100
"""torch's own convention for a target that does not count."""


class AdaptiveHead(nn.Module):
    """Adaptive softmax (Grave et al. 2017, arXiv:1609.04309): rare words in clusters behind a projection.

    Token ids have to be in the order of frequency, the most frequent first. `head(x [*, F])` gives log-probabilities
    [*, V], which serve as logits: their softmax is the same.

    Args:
        cutoffs: the first id of each cluster after the first, ascending, each below V.
        div_value: each cluster's projection is so many times smaller than the one before.

    Raises ValueError on cutoffs that do not fit the vocabulary.
    """

    def __init__(
        self, features: int, vocab_size: int, cutoffs: Sequence[int], div_value: float = 4.0
    ) -> None:
        super().__init__()
        given = list(cutoffs)
        if not given or given != sorted(set(given)) or given[0] < 1 or given[-1] >= vocab_size:
            raise ValueError(
                f"cutoffs must ascend from at least 1 and stay below the vocabulary's {vocab_size} tokens, got {given}"
            )
        if features // div_value ** len(given) < 1:
            raise ValueError(
                f"cutoffs {given} with div_value {div_value}: the last cluster's projection of {features} features "
                "would have none; give fewer cutoffs or a smaller div_value"
            )
        self.vocab_size = vocab_size
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(features, vocab_size, given, div_value, head_bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities [*, V] of features [*, F]."""
        return self.softmax.log_prob(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def token_nll(head: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """NLL [N] of targets [N] after features [N, F], in float32 at least; 0 where a target is `IGNORE`."""
    if not isinstance(head, AdaptiveHead):
        return F.cross_entropy(head(x).float(), targets, ignore_index=IGNORE, reduction="none")
    scored = targets != IGNORE
    found = x.new_zeros(len(targets), dtype=torch.float32)
    if bool(scored.any()):
        found[scored] = -head.softmax(x[scored], targets[scored]).output.float()
    return found


def token_loss(
    head: nn.Module, x: Tensor, targets: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The objective and the NLL, both summed over the scored ones of targets [N], after features [N, F].

    An `nn.Linear` in float32 on a CPU is one operation with the cross-entropy, see `fused_head.py`.

    label_smoothing: the share of a target's probability that the objective spreads over the vocabulary.
    """
    if isinstance(head, AdaptiveHead):
        if label_smoothing:
            raise ValueError(
                "label_smoothing needs every token's probability: leave cutoffs or label_smoothing out"
            )
        nll = token_nll(head, x, targets).sum()
        return nll, nll
    if isinstance(head, nn.Linear) and fused_head.unsupported(head, x, targets) is None:
        scored = targets != IGNORE
        if not bool(scored.all()):
            x, targets = x[scored], targets[scored]
        if len(targets):
            return fused_head.fused(x, head.weight, head.bias, targets, label_smoothing)
    logits = head(x)
    nll = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    if not label_smoothing:
        return nll, nll
    return (
        F.cross_entropy(
            logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
        ),
        nll,
    )
