"""The vocabularies of both sides, from the training pairs alone, and sentences as token ids."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gatelab.data.messages import DataError
from gatelab.data.pairs.read import Pairs
from gatelab.data.text.tokenizer import (
    CharTokenizer,
    PairTokenizer,
    SentenceTokenizer,
    Tokenizer,
    train_tokenizer,
)

TABLES: Final = {"word": SentenceTokenizer, "char": CharTokenizer}
"""Levels whose vocabulary is a list of what occurs."""


@dataclass(frozen=True)
class Vocabulary:
    """The options that decide the token ids, as in `PairsDataModule`."""

    level: str
    joint: bool
    lower: bool
    size: int | None
    min_count: int

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise DataError(f"data.vocabulary_size={self.size}: give at least 1, or null for all")
        if self.min_count < 1:
            raise DataError(f"data.min_count={self.min_count}: give at least 1")
        if self.min_count > 1 and self.level not in TABLES:
            raise DataError(
                f"data.min_count={self.min_count} is for words and characters; at data.level={self.level} "
                "data.vocabulary_size says how many pieces there are"
            )

    def learn(self, train: Pairs) -> PairTokenizer:
        """Return the tokenizer of both sides."""
        sides = [train.sources + train.targets] if self.joint else [train.sources, train.targets]
        made = [self._side(sentences) for sentences in sides]
        return PairTokenizer.of(made[0], made[-1], lower=self.lower)

    def _side(self, sentences: Sequence[str]) -> Tokenizer:
        text = "\n".join(sentences) + "\n"
        text = text.lower() if self.lower else text
        if self.level not in TABLES:
            return train_tokenizer(self.level, text, self.size)
        kind = TABLES[self.level]
        counts = Counter(kind.split(text))
        extra = {kind.seed, kind.unknown}
        kept = sum(n >= self.min_count for symbol, n in counts.items() if symbol not in extra) + len(extra)
        return kind.train(text, kept if self.size is None else min(kept, self.size))


def encode(pairs: Pairs, tokenizer: PairTokenizer) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the ids `[n]` int32 of every source and of every target, their ends included."""
    sides = (pairs.sources, tokenizer.source), (pairs.targets, tokenizer.target)
    sources, targets = (
        [tokenizer.read(sentence, side).numpy().astype(np.int32) for sentence in sentences]
        for sentences, side in sides
    )
    return sources, targets
