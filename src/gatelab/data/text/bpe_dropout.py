"""BPE-dropout: training text that is cut into pieces anew in every epoch.

Provilkov, Emelianenko and Voita 2020 ("BPE-Dropout: Simple and Effective Subword Regularization", arXiv:1910.13267,
algorithm 1): at each step of putting a word together, every merge that could be made is left out with probability p,
and the first of those that are left is made; where none is left, the word is done. At p = 0 this is BPE itself, and
whatever is drawn, the pieces give the same text.

The `tokenizers` library has it too, but draws from a generator that cannot be given a seed; here a run that is stopped
and goes on sees the same pieces.
"""

import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gatelab.data.messages import DataError
from gatelab.data.text.tokenizer import BPETokenizer, Tokenizer

AT_ONCE = 256
"""Numbers that are drawn at once: one by one they would take longer than the merging."""


def check_bpe_dropout(p: float, level: str) -> None:
    """Raise DataError unless 0 <= p < 1, and 0 where the tokens are not pieces."""
    if not 0 <= p < 1:
        raise DataError(f"data.bpe_dropout={p}: give a probability, 0 <= p < 1; the paper takes 0.1")
    if p and level != BPETokenizer.level:
        raise DataError(f"data.bpe_dropout={p} is for pieces: take data.level=bpe, not {level}")


class BPEDropout:
    """Cut text into the pieces of a tokenizer of level bpe, leaving each possible merge out with probability `p`.

    Raises DataError unless 0 <= p < 1.
    """

    def __init__(self, tokenizer: Tokenizer, p: float) -> None:
        check_bpe_dropout(p, tokenizer.level)
        from tokenizers import pre_tokenizers

        self.p = p
        model = json.loads(tokenizer.to_dict()["tokenizer"])["model"]
        self.ids: dict[str, int] = model["vocab"]
        self.rank = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
        self._words = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str

    def encode(self, text: str, draw: np.random.Generator) -> Tensor:
        """Return the ids `[n]` int64 of the pieces of `text`; what is left out, `draw` decides."""
        dice = _numbers(draw)
        ids = [
            self.ids[piece]
            for line in text.splitlines(keepends=True)
            for word, _ in self._words(line)
            for piece in self._pieces(word, dice)
        ]
        return torch.tensor(ids, dtype=torch.int64)

    def _pieces(self, word: str, dice: Iterator[float]) -> list[str]:
        parts = list(word)
        while True:
            first, place = len(self.rank), -1
            for i in range(len(parts) - 1):
                rank = self.rank.get((parts[i], parts[i + 1]), first)
                if rank < first and next(dice) >= self.p:  # one that comes later anyway needs no number
                    first, place = rank, i
            if place < 0:
                return parts
            parts[place : place + 2] = [parts[place] + parts[place + 1]]


def _numbers(draw: np.random.Generator) -> Iterator[float]:
    """Numbers from 0 to 1 without end."""
    while True:
        yield from draw.random(AT_ONCE).tolist()
