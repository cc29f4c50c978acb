"""A linear map of how often n-grams occur, beside a recurrent network: it is added to the network's logits.

The map is that of fastText (Joulin et al. 2016, arXiv:1607.01759), which hashes n-grams into buckets; training it
together with a network is Cheng et al. 2016 ("Wide and Deep", arXiv:1606.07792). What a few words decide alone, the map
learns at once, and the network is left with what needs the order.

Dimensions: T time, B batch, N classes, K n-grams of a sequence.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.regularization import check_probability
from gatelab.core.unroll import padding

MODULUS: Final = 2**31 - 1
FACTOR: Final = 1_000_003
"""Of a polynomial hash (Karp and Rabin 1987), a prime and a factor whose products stay below 2**63."""
LONGEST: Final = 10
"""Tokens of an n-gram: longer ones hardly occur twice."""


class NGramMap(nn.Module):
    """Logits of the n-grams of up to `order` tokens: `module(tokens [B, T], lengths=None) -> [B, N]`.

    The weights begin at 0, so that a network beside it begins as it would alone.

    Args:
        classes: N.
        order: tokens of the longest n-grams, at most `LONGEST`.
        buckets: rows of weights that the n-grams are hashed into.
        dropout: share of a sequence's n-grams that is dropped in training; the rest is scaled by 1 / (1 - p).

    Raises ValueError for sizes that are below 1 or too large, and where `dropout` is no probability.
    """

    def __init__(self, classes: int, order: int, buckets: int = 1 << 16, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = {"classes": classes, "n_grams": order, "buckets": buckets}
        if wrong := [f"{name}={n}" for name, n in sizes.items() if n < 1]:
            raise ValueError(f"{', '.join(wrong)}: give at least 1")
        if order > LONGEST:
            raise ValueError(f"n_grams={order}: give at most {LONGEST}")
        self.order, self.dropout = order, check_probability("n_gram_dropout", dropout)
        self.weights = nn.Embedding(buckets, classes)
        nn.init.zeros_(self.weights.weight)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits [B, N]."""
        buckets, real = self.hashed(tokens, lengths)
        counts = F.dropout(real.to(self.weights.weight.dtype), self.dropout, self.training)
        logits: Tensor = torch.einsum("bk,bkn->bn", counts, self.weights(buckets))
        return logits

    def hashed(self, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the buckets [B, K] of all n-grams, K = order T, and which of them end within their sequence."""
        steps = tokens.shape[1]
        ends = torch.arange(steps, device=tokens.device).expand_as(tokens)
        inside = torch.ones_like(tokens, dtype=torch.bool) if lengths is None else ~padding(lengths, steps).T
        buckets, real = [], []
        code = torch.zeros_like(tokens)
        for order in range(1, self.order + 1):  # that ends here: its tokens from the last to the first
            before = F.pad(tokens, (order - 1, 0))[:, :steps]
            code = (code * FACTOR + before + 1) % MODULUS
            buckets.append(code % self.weights.num_embeddings)
            real.append(inside & (ends >= order - 1))
        return torch.cat(buckets, dim=1), torch.cat(real, dim=1)
