"""The neural cache of Grave, Joulin and Usunier 2017 (arXiv:1612.04426): words that were just read are likely again.

Beside the model's own distribution stands one over the last `window` tokens. With h_t what the head reads at step t
and x_{i+1} the token that followed step i:

    p_cache(w | t)  is proportional to  sum over the last `window` steps i with x_{i+1} = w of exp(theta h_t . h_i)
    p(w | t)  =  (1 - lambda) p_model(w | t) + lambda p_cache(w | t)

Only tokens before the one that is predicted are in the cache. Nothing is trained.

Dimensions: N positions, F features, M states in the cache, P points (pairs of a window and a theta).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class NeuralCache:
    """The last `size` states and the tokens that followed them, at first none."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.states: Tensor | None = None
        self.tokens: Tensor | None = None

    def score(self, x: Tensor, targets: Tensor, points: Sequence[tuple[int, float]]) -> Tensor:
        """Log-probability of each target under the cache, [P, N], for each (window, theta); then remember them.

        Args:
            x: features [N, F] of the steps that follow those in the cache.
            targets: the tokens [N] that follow each of these steps.
            points: (window, theta), no window larger than the cache.

        Minus infinity where a target is not in the cache; NaN where the cache is empty (0/0).
        """
        states = x if self.states is None else torch.cat([self.states, x])
        tokens = targets if self.tokens is None else torch.cat([self.tokens, targets])
        new, old = len(x), len(states) - len(x)
        found = []
        for window, theta in points:
            first = max(0, old - window)  # no step of these looks further back
            steps = torch.arange(first, old + new, device=x.device)
            age = torch.arange(old, old + new, device=x.device)[:, None] - steps
            known = (age >= 1) & (age <= window)
            weight = (theta * (x @ states[first:].T)).masked_fill(~known, -torch.inf)
            same = targets[:, None] == tokens[first:]
            found.append(weight.masked_fill(~same, -torch.inf).logsumexp(1) - weight.logsumexp(1))
        self.states, self.tokens = states[-self.size :], tokens[-self.size :]
        return torch.stack(found)


def mixed(log_model: Tensor, log_cache: Tensor, share: float) -> Tensor:
    """Log of (1 - share) p_model + share p_cache; of p_model alone where the cache is empty."""
    if share == 0:
        return log_model
    both = torch.logaddexp(log_model + math.log1p(-share), log_cache + math.log(share))
    return torch.where(log_cache.isnan(), log_model, both)
