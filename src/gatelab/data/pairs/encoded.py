"""Sentence pairs as token ids in padded batches, in training perhaps cut into pieces anew in every epoch.

Dimensions: `n` tokens of a sentence.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from gatelab.data.pairs.read import Pairs
from gatelab.data.pairs.spec import PairBatch, PairTexts
from gatelab.data.specs import IGNORE
from gatelab.data.text.bpe_dropout import BPEDropout
from gatelab.data.text.tokenizer import PairTokenizer

Ids = list[np.ndarray]


class Redrawn:
    """Reads pairs into pieces that are drawn anew in every epoch, see `BPEDropout`: (seed, epoch, number) decides.

    Raises DataError as `BPEDropout` does.
    """

    def __init__(self, tokenizer: PairTokenizer, p: float, seed: int) -> None:
        self.tokenizer, self.seed = tokenizer, seed
        self.source = BPEDropout(tokenizer.source, p)
        self.target = self.source if tokenizer.joint else BPEDropout(tokenizer.target, p)

    def __call__(self, pairs: Pairs, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Return the ids `[n]` of the source and of the target of one pair, their ends included."""
        draw = np.random.Generator(np.random.PCG64([self.seed, epoch, number]))
        read, ended = self.tokenizer.as_read, self.tokenizer.ended
        source = self.source.encode(read(pairs.sources[number]), draw)
        target = self.target.encode(read(pairs.targets[number]), draw)
        return ended(source, self.tokenizer.source), ended(target, self.tokenizer.target)


class EncodedPairs(Dataset):
    """Pairs as token ids; an array of numbers gives the `PairBatch` of those, and so does (epoch, numbers).

    texts: whether a batch has the sentences too. redrawn: reads a pair anew in an epoch.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: PairTokenizer,
        ids: tuple[Ids, Ids],
        *,
        texts: bool,
        redrawn: Redrawn | None = None,
    ) -> None:
        self.pairs, self.tokenizer, self.texts, self.redrawn = pairs, tokenizer, texts, redrawn
        self.sources, self.targets = ids

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of the longer side of each pair [n]."""
        return np.array([max(map(len, pair)) for pair in zip(self.sources, self.targets, strict=True)])

    def __getitem__(self, index: Any) -> PairBatch:
        epoch, index = index if isinstance(index, tuple) else (None, index)
        if epoch is None or self.redrawn is None:
            read = [
                tuple(torch.from_numpy(side[i]).long() for side in (self.sources, self.targets))
                for i in index
            ]
        else:
            read = [self.redrawn(self.pairs, epoch, int(i)) for i in index]
        sources, targets = (list(side) for side in zip(*read, strict=True))
        seed = torch.tensor([self.tokenizer.seed_token])
        inputs = [torch.cat((seed, target[:-1])) for target in targets]
        texts = None
        if self.texts:
            sources_as_read = [self.pairs.sources[i] for i in index]
            texts = PairTexts(sources_as_read, [self.pairs.targets[i] for i in index], self.tokenizer)
        return PairBatch(
            source=pad_sequence(sources, padding_value=self.tokenizer.source.seed_token),
            lengths=torch.tensor([len(source) for source in sources]),
            inputs=pad_sequence(inputs, padding_value=self.tokenizer.seed_token),
            targets=pad_sequence(targets, padding_value=IGNORE),
            texts=texts,
        )
