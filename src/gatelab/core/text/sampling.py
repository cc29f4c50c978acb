"""Text drawn from a language model's predictions, one token after another; and the likeliest one, by beam search.

A step takes the logits of the next token and, in this order, lowers those of tokens that were there (a repetition
penalty: Keskar et al. 2019, CTRL, arXiv:1909.05858), divides all by the temperature, keeps the top k (Fan et al. 2018,
arXiv:1805.04833), of these the nucleus of mass p (Holtzman et al. 2020, arXiv:1904.09751) and what is at least min p
times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082), and draws. Token ids only; a tokenizer turns
them into text.

Dimensions: T time, N samples or hypotheses side by side, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

READ_AT_ONCE = 256
"""Steps of a prompt whose logits are held at once."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token every time.
        top_k: keep the k most likely tokens.
        top_p: keep the smallest set of most likely tokens whose probabilities sum to at least p.
        min_p: keep the tokens that are at least this many times as likely as the likeliest, in [0, 1].
        repetition_penalty: the logit of every token that was read or drawn before is divided by it where positive and
            multiplied where negative, so that above 1 it becomes less likely; 1: none.

    Raises ValueError on a value out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must lie in [0, 1], got {self.min_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")

    def draw(
        self, logits: Tensor, seen: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw one token [N] from each row of logits [N, V]; `seen` [N, V] bool has those that were there before."""
        if seen is not None:
            penalty = self.repetition_penalty
            lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(seen, lowered, logits)
        if self.temperature == 0:
            return logits.argmax(-1)
        below = logits.double() - logits.amax(-1, keepdim=True)  # at most 0, so that no quotient overflows
        kept = restrict(below / self.temperature, self.top_k, self.top_p, self.min_p)
        return torch.multinomial(kept.softmax(-1), 1, generator=generator)[:, 0]


def restrict(
    logits: Tensor, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None
) -> Tensor:
    """Set the logits [*, V] outside the top k, the nucleus of mass p or min p to minus infinity.

    All count on the distribution that is given: the nucleus is taken of what the top k left. The most likely token
    always stays, and of equal logits at the border of k or p the one with the lower index.
    """
    if top_k is None and top_p is None and not min_p:
        return logits
    order = logits.argsort(dim=-1, descending=True, stable=True)
    ranked = logits.gather(-1, order)
    dropped = torch.zeros_like(order, dtype=torch.bool)
    if top_k is not None:
        dropped[..., top_k:] = True
    if top_p is not None:
        probabilities = ranked.masked_fill(dropped, -torch.inf).softmax(-1)
        dropped |= probabilities.cumsum(-1) - probabilities >= top_p
    if min_p:
        dropped |= ranked < ranked[..., :1] + math.log(min_p)
    dropped[..., 0] = False
    return logits.masked_fill(torch.empty_like(dropped).scatter_(-1, order, dropped), -torch.inf)


def generate(
    model: nn.Module,
    prompt: Tensor,
    steps: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    n: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue a prompt by `steps` tokens and return only these, [steps] int64; [n, steps] where `n` is given.

    Args:
        model: `model(tokens [T, N], state) -> (logits [T, N, V], state)`, as a `LanguageModel`; it is run
            without dropout and left in the mode it was in.
        prompt: [T] int64 on the model's device, T >= 1.
        steps: number of tokens to draw.
        temperature, top_k, top_p, min_p, repetition_penalty: see `Sampling`.
        n: so many samples of the same prompt, drawn side by side.
        generator: source of randomness, on the model's device; with one, the same seed gives the same text.

    Raises ValueError on an empty prompt or an argument out of its range.
    """
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    drawn = list(draw(model, prompt, steps, sampling, n=1 if n is None else n, generator=generator))
    rows = torch.stack(drawn, 1) if drawn else prompt.new_empty(1 if n is None else n, 0)
    return rows[0] if n is None else rows


def draw(
    model: nn.Module,
    prompt: Tensor,
    steps: int,
    sampling: Sampling,
    *,
    n: int = 1,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield `steps` times the next token [n] of `n` continuations; the arguments and errors are those of `generate`."""
    _check(prompt, steps)
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return _draw(model, [prompt[:, None].expand(-1, n)], steps, sampling, generator)


def draw_each(
    model: nn.Module,
    prompts: Sequence[Tensor],
    steps: int,
    sampling: Sampling,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield `steps` times the next token [N] of N texts side by side, each of which follows a prompt [T] of its own.

    Arguments and errors are those of `generate`. What is drawn for one depends on the others, by the generator.
    """
    for prompt in prompts:
        _check(prompt, steps)
    return _draw(model, [prompt[:, None] for prompt in prompts], steps, sampling, generator)


def _draw(
    model: nn.Module,
    prompts: Sequence[Tensor],
    steps: int,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    """The next tokens [N] of all prompts [T, n], whose n add up to N."""
    if not (steps and prompts):
        return
    with _evaluating(model):
        read = [_next(model, prompt, None) for prompt in prompts]
        logits, state = torch.cat([logits for logits, _ in read]), _beside([state for _, state in read])
        seen = None
        if sampling.repetition_penalty != 1.0:
            rows = [row for prompt in prompts for row in prompt.unbind(1)]
            seen = torch.stack(
                [torch.zeros_like(logits[0], dtype=torch.bool).index_fill(0, r, True) for r in rows]
            )
        for step in range(steps):
            token = sampling.draw(logits, seen, generator)
            yield token
            if seen is not None:
                seen.scatter_(1, token[:, None], True)
            if step + 1 < steps:
                logits, state = _next(model, token[None], state)


def beam_search(
    model: nn.Module,
    prompt: Tensor,
    steps: int,
    width: int,
    *,
    ended: Callable[[Sequence[int]], bool] | None = None,
) -> Tensor:
    """The likeliest continuation that a beam of `width` hypotheses finds, [at most steps] int64.

    Each step extends every hypothesis by every token and keeps the `width` likeliest of all. A hypothesis whose tokens
    have `ended` leaves the beam, which then has one fewer (Sutskever et al. 2014, arXiv:1409.3215). In the end
    hypotheses of different lengths are compared by their mean log-probability per token: the sum divided by the length,
    which is the normalisation of Wu et al. 2016 (arXiv:1609.08144) with exponent 1. Without `ended` all are equally
    long, and the sum alone decides. `width` 1 is the most likely token every time.

    Raises ValueError on an empty prompt or an argument out of its range.
    """
    _check(prompt, steps)
    if width < 1:
        raise ValueError(f"beam must be at least 1, got {width}")
    done: list[tuple[float, list[int]]] = []
    texts: list[list[int]] = [[]]
    scores = torch.zeros(1, dtype=torch.float64, device=prompt.device)
    tokens, state = prompt[:, None], None
    with _evaluating(model):
        for step in range(steps):
            logits, state = _next(model, tokens, state)
            total = scores[:, None] + logits.double().log_softmax(-1)
            best, place = total.flatten().topk(min(width - len(done), total.numel()))
            rows, token = place // total.shape[1], place % total.shape[1]
            longer = [[*texts[row], int(t)] for row, t in zip(rows.tolist(), token.tolist(), strict=True)]
            over = [step + 1 == steps or (ended is not None and ended(text)) for text in longer]
            done += [
                (score / len(text), text)
                for score, text, end in zip(best.tolist(), longer, over, strict=True)
                if end
            ]
            live = [i for i, end in enumerate(over) if not end]
            if not live:
                break
            texts, scores = [longer[i] for i in live], best[live]
            tokens, state = token[live][None], _columns(state, rows[live])
    return prompt.new_tensor(max(done, key=lambda pair: pair[0])[1] if done else [])


def _check(prompt: Tensor, steps: int) -> None:
    if prompt.dim() != 1 or prompt.numel() == 0:
        raise ValueError(f"prompt must be [T] with at least one token, got shape {list(prompt.shape)}")
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Run the model without dropout, and leave it in the mode it was in."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def _next(model: nn.Module, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The logits [N, V] of the token after tokens [T, N], and the state there."""
    for part in tokens.split(READ_AT_ONCE):
        logits, state = model(part, state)
    return logits[-1], state


def _beside(states: Sequence[Any]) -> Any:
    """One state [L, N, H], or several of them, from those of texts that are to go on side by side."""
    if states[0] is None or len(states) == 1:
        return states[0]
    if isinstance(states[0], Tensor):
        return torch.cat(list(states), 1)
    return tuple(_beside(parts) for parts in zip(*states, strict=True))


def _columns(state: Any, rows: Tensor) -> Any:
    """The state [L, N, H], or several of them, of these hypotheses."""
    if state is None:
        return None
    return (
        state.index_select(1, rows)
        if isinstance(state, Tensor)
        else tuple(_columns(part, rows) for part in state)
    )
