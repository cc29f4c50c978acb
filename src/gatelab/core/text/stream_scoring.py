"""Scores of a text that is read once, in order, as one stream: static, with a temperature, and with dropout left on.

The first input is the seed token, every token is scored once, and the state goes on from chunk to chunk. Everything
works on what a `LanguageModel` has: `features` and `head`.

Dimensions: N positions, n of a chunk, F features, G temperatures, V vocabulary. NLL is in nats.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gatelab.core.text.head import token_nll


def chunks(model: Any, inputs: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features [n, F] and targets [n] of inputs [N], `size` at a time."""
    state = None
    for part, target in zip(inputs.split(size), targets.split(size), strict=True):
        x, state = model.features(part[:, None], state)
        yield x[:, 0], target


def tempered_nll(head: nn.Module, x: Tensor, targets: Tensor, temperatures: Sequence[float]) -> Tensor:
    """NLL [G, n] of targets [n] after features [n, F] under softmax(logits / temperature)."""
    logits = head(x).float()
    own = logits.gather(1, targets[:, None])[:, 0]
    return torch.stack([(logits / t).logsumexp(1) - own / t for t in temperatures])


@torch.no_grad()
def monte_carlo_nll(
    model: Any,
    inputs: Tensor,
    targets: Tensor,
    *,
    passes: int,
    window: int,
    seed: int = 0,
    tick: Callable[[int], None] = lambda tokens: None,
) -> Tensor:
    """NLL [N] of the mean of the probabilities of `passes` passes with dropout on (Gal and Ghahramani 2016).

    Every pass draws anew and carries its own state. Masks that are locked, and dropped weights, are drawn once a
    window of `window` steps. The model comes back in the mode that it was in, torch's random numbers too.
    """
    training = model.training
    devices = [inputs.device.index or 0] if inputs.device.type == "cuda" else []
    total = torch.full((len(inputs),), -torch.inf, dtype=torch.float64)
    try:
        model.train()
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for _ in range(passes):
                at = 0
                for x, target in chunks(model, inputs, targets, window):
                    part = slice(at, at := at + len(target))
                    total[part] = torch.logaddexp(
                        total[part], -token_nll(model.head, x, target).cpu().double()
                    )
                    tick(len(target))
    finally:
        model.train(training)
    return math.log(passes) - total
