"""What is asked of a text that a model writes, and tokens becoming text while they are drawn.

The numbers are in `gatelab.core.text.sampling`; here are the options that `Task.generate`, the command line and the
Python API share, and where a text ends.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from gatelab.core.text.sampling import Sampling, beam_search, draw, draw_each
from gatelab.data.messages import did_you_mean
from gatelab.data.text.tokenizer import Tokenizer
from gatelab.tasks.contract import Remark

TEMPERATURE = 0.8


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How a text goes on.

    Attributes:
        tokens: how many to add at most.
        temperature: of the softmax; 0 takes the likeliest token each time; None: 0.8.
        top_k, top_p, min_p, repetition_penalty: see `gatelab.core.text.sampling.Sampling`.
        n: so many texts, drawn side by side.
        beam: look for the likeliest text with so many hypotheses, in place of drawing; see `beam_search`.
        stop: texts; the first of them that appears ends the continuation, and is not part of it.
        seed: of the draws.

    Raises ValueError on a value out of its range, and on options that do not go together.
    """

    tokens: int = 300
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    n: int = 1
    beam: int | None = None
    stop: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise ValueError(f"tokens must be at least 0, got {self.tokens}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")
        if isinstance(self.stop, str) or "" in self.stop:
            raise ValueError(f"stop must be a list of texts, none of them empty, got {self.stop!r}")
        if not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed must be a number of 64 bits, got {self.seed}")
        sampling = self.sampling  # raises
        if self.beam is not None:
            self._check_beam(self.beam)
        elif self.n > 1 and sampling.temperature == 0:
            raise ValueError(
                f"temperature=0 always takes the likeliest token: n={self.n} texts would be equal"
            )

    def _check_beam(self, beam: int) -> None:
        if beam < 1:
            raise ValueError(f"beam must be at least 1, got {beam}")
        drawing = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "n")
        usual = {field.name: field.default for field in fields(self)}
        if given := [name for name in drawing if getattr(self, name) != usual[name]]:
            raise ValueError(
                f"beam={beam} looks for the likeliest text and draws nothing: leave {', '.join(given)} out, or beam"
            )

    @property
    def sampling(self) -> Sampling:
        """How each token is drawn."""
        return Sampling(
            temperature=TEMPERATURE if self.temperature is None else self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Generation":
        """From keyword arguments; a ValueError where one is unknown."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ValueError(f"{name}: no such option.{did_you_mean(name, known)}")
        return cls(**options)


class Continuation:
    """The text of tokens that come one after another, until one of the texts `stop` appears in it.

    A token's text may depend on its neighbours (spaces between words, bytes of one character), so each is decoded with
    those since the end of a character before the last one.

    Attributes:
        text: what is there, without the stop; ended: whether a stop appeared.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.text, self.ended = "", False
        self._shown = 0
        self._tokens: list[int] = []
        self._known = 0  # tokens at the beginning whose text has been told

    def add(self, token: int) -> None:
        """Take the next token; a text that has ended stays as it is."""
        if self.ended:
            return
        self._tokens.append(token)
        self._tell(complete=False)

    def finish(self) -> None:
        """Take what is left of an incomplete character."""
        if not self.ended:
            self._tell(complete=True)

    def _tell(self, *, complete: bool) -> None:
        before, now = (self.tokenizer.decode(ids) for ids in (self._tokens[: self._known], self._tokens))
        if now.endswith("\ufffd") and not complete:  # perhaps the first bytes of a character
            return
        old = len(self.text)
        self.text += now[len(before) :]
        self._tokens, self._known = self._tokens[self._known :], len(self._tokens) - self._known
        places = (self.text.find(stop, max(0, old - len(stop) + 1)) for stop in self.stop)
        if found := [place for place in places if place >= 0]:
            self.text, self.ended = self.text[: min(found)], True

    def new(self, *, last: bool = False) -> str:
        """Return what no stop can take back any more, all of it if `last`, and was not returned before."""
        held = 0 if last or self.ended else max((self._held(stop) for stop in self.stop), default=0)
        text = self.text[self._shown : len(self.text) - held]
        self._shown += len(text)
        return text

    def _held(self, stop: str) -> int:
        """The length of the longest end of the text that `stop` begins with."""
        return next((k for k in range(len(stop) - 1, 0, -1) if self.text.endswith(stop[:k])), 0)


def begin(tokenizer: Tokenizer, prompt: str) -> tuple[str, torch.Tensor]:
    """A prompt as it stands before its continuation, and its tokens [T]; warns of what the vocabulary lacks."""
    if unknown := tokenizer.unknown_in(prompt):
        shown = ", ".join(map(repr, unknown[:5])) + ", ..." * (len(unknown) > 5)
        warnings.warn(f"not in the run's vocabulary, so read as unknown: {shown}", Remark, stacklevel=3)
    space = " " if tokenizer.level == "word" and prompt and not prompt[-1].isspace() else ""
    return prompt + space, torch.tensor([tokenizer.seed_token, *tokenizer.encode(prompt).tolist()])


def continuations(
    net: nn.Module,
    tokenizer: Tokenizer,
    start: torch.Tensor,
    options: Generation,
    show: Callable[[str], None] | None = None,
) -> list[str]:
    """Return `options.n` texts that follow the tokens `start` [T]; `show` is told the first of them, bit by bit."""
    if options.beam is not None:
        text = Continuation(tokenizer, options.stop)
        _extend(text, beam_search(net, start, options.tokens, options.beam, ended=_ends(tokenizer, options)))
        texts = [text]
    else:
        generator = torch.Generator().manual_seed(options.seed)
        drawn = draw(net, start, options.tokens, options.sampling, n=options.n, generator=generator)
        texts = _spelt(drawn, tokenizer, options.n, options, show)
    if show is not None:
        show(texts[0].new(last=True))
    return [text.text for text in texts]


def continuations_of_each(
    net: nn.Module, tokenizer: Tokenizer, starts: Sequence[torch.Tensor], options: Generation
) -> list[str]:
    """Return a text that follows each of the tokens `starts` [T], drawn side by side; without `n` and `beam`."""
    generator = torch.Generator().manual_seed(options.seed)
    drawn = draw_each(net, starts, options.tokens, options.sampling, generator=generator)
    return [text.text for text in _spelt(drawn, tokenizer, len(starts), options)]


def _spelt(
    drawn: Iterable[torch.Tensor],
    tokenizer: Tokenizer,
    count: int,
    options: Generation,
    show: Callable[[str], None] | None = None,
) -> list[Continuation]:
    """The texts of tokens [count] that come one after another."""
    texts = [Continuation(tokenizer, options.stop) for _ in range(count)]
    for tokens in drawn:
        for text, token in zip(texts, tokens.tolist(), strict=True):
            text.add(token)
        if show is not None and (new := texts[0].new()):
            show(new)
        if all(text.ended for text in texts):
            break
    for text in texts:
        text.finish()
    return texts


def _extend(text: Continuation, tokens: Iterable[int]) -> None:
    for token in tokens:
        text.add(int(token))
    text.finish()


def _ends(tokenizer: Tokenizer, options: Generation) -> Callable[[Sequence[int]], bool] | None:
    """Whether a hypothesis holds one of the stops; None where there are none."""
    if not options.stop:
        return None

    def ended(tokens: Sequence[int]) -> bool:
        text = Continuation(tokenizer, options.stop)
        _extend(text, tokens)
        return text.ended

    return ended
