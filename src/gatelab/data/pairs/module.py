"""The DataModule of translation: pairs of sentences in batches of similar length. It only joins the parts."""

from typing import Final, Literal, Unpack

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.messages import DataError
from gatelab.data.orders import LengthOrder
from gatelab.data.pairs.baselines import pair_baselines
from gatelab.data.pairs.encoded import EncodedPairs, Redrawn
from gatelab.data.pairs.read import Pairs
from gatelab.data.pairs.scores import check_scores
from gatelab.data.pairs.sources import PairOptions, check_sources, load_pairs
from gatelab.data.pairs.spec import PairBatch, PairSpec
from gatelab.data.pairs.vocabulary import Vocabulary, encode
from gatelab.data.text.bpe_dropout import check_bpe_dropout
from gatelab.data.text.tokenizer import PairTokenizer

LONG: Final = 500
"""Tokens, ends included, up to which a sentence is nothing to tell of."""


class PairsDataModule(GatelabDataModule):
    """Sentence pairs of Multi30k or of any files.

    corpus: "multi30k"; "pairs" reads `source` and `target`, two text files whose lines correspond (a folder or a glob
        is joined), and `valid_source`, ... `test_target`; or, with `path`, the columns of a TSV, CSV or Parquet file
        that `source` and `target` name, and `valid_path`, `test_path`.
    pair: which side of Multi30k is the source: "de-en" or "en-de".
    split: fractions [train, valid] or [train, valid, test] of the pairs where validation has no file of its own; they
        are cut in their order. max_pairs: only the first pairs of training.
    level: what a token is: "word" (words and punctuation marks, see `SentenceTokenizer`), "bpe" (pieces; Sennrich et
        al. 2016, arXiv:1508.07909) or "char". joint: one vocabulary for both sides. lower: read both in lower case.
    bpe_dropout: share of the merges that are left out when a training sentence is cut into pieces, anew in every epoch
        (`BPEDropout`). Batches are made by the lengths without it, which are shorter: one may then hold more tokens.
    vocabulary_size: of each side, the most frequent words or characters, or the pieces that BPE learns (None: all;
        4096). min_count: leave out what occurs less often in training.
    batch_size, batch_tokens: the most pairs of a batch, and the most tokens of one side, padding included (None: no
        limit). Pairs of similar length stand together, see `LengthOrder`. eval_batch_size: the same in evaluation.
    bleu_tokenizer: sacrebleu's, for BLEU: 13a for text with spaces; zh, ja-mecab, ko-mecab, char, intl for others.
    folds, fold: validate on block `fold` (from 0) of `folds` of the train and valid pairs.
    mirror, cache: folders to look for files in before downloading (see fetch.py).

    The vocabularies are learnt from the training pairs alone. The references are the raw sentences.
    """

    spec: PairSpec
    tokenizer: PairTokenizer

    def __init__(
        self,
        corpus: Literal["multi30k", "pairs"] = "multi30k",
        pair: Literal["de-en", "en-de"] = "de-en",
        source: str | None = None,
        target: str | None = None,
        valid_source: str | None = None,
        valid_target: str | None = None,
        test_source: str | None = None,
        test_target: str | None = None,
        path: str | None = None,
        valid_path: str | None = None,
        test_path: str | None = None,
        split: list[float] | None = None,
        max_pairs: int | None = None,
        level: Literal["word", "bpe", "char"] = "word",
        joint: bool = False,
        lower: bool = False,
        bpe_dropout: float = 0.0,
        vocabulary_size: int | None = None,
        min_count: int = 1,
        batch_size: int = 80,
        batch_tokens: int | None = None,
        eval_batch_size: int = 100,
        bleu_tokenizer: str = "13a",
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        self.options = PairOptions(
            corpus,
            pair,
            {"train": source, "valid": valid_source, "test": test_source},
            {"train": target, "valid": valid_target, "test": test_target},
            {"train": path, "valid": valid_path, "test": test_path},
            split,
            max_pairs,
            self.folds,
            self.fold,
        )
        check_sources(self.options)
        check_scores(bleu_tokenizer)
        if batch_tokens is not None and batch_tokens < 1:
            raise DataError(f"data.batch_tokens={batch_tokens}: give at least 1, or null for no limit")
        self.vocabulary = Vocabulary(level, joint, lower, vocabulary_size, min_count)
        check_bpe_dropout(bpe_dropout, level)
        self.bpe_dropout = bpe_dropout
        self.batch_tokens, self.bleu_tokenizer = batch_tokens, bleu_tokenizer
        self.mirror, self.cache = mirror, cache
        self.pairs: dict[str, Pairs] = {}

    @property
    def at_hand(self) -> bool:
        """Whether the pairs are this machine's own files."""
        return self.options.corpus == "pairs"

    def setup(self, stage: str | None = None) -> None:
        """Read the pairs, learn the vocabularies, encode; a second call does nothing."""
        if self.pairs:
            return
        corpus = load_pairs(self.options, self.mirror, self.cache)
        self.fingerprint, self.notes = corpus.fingerprint, corpus.notes
        self.tokenizer = self.vocabulary.learn(corpus.pairs["train"])
        self._ids = {split: encode(pairs, self.tokenizer) for split, pairs in corpus.pairs.items()}
        self.pairs, self.splits = corpus.pairs, tuple(corpus.pairs)
        self.notes += [note for split, ids in self._ids.items() for note in _long(split, *ids)]
        target = self.tokenizer.target
        unknown = getattr(target, "index", {}).get(getattr(target, "unknown", None), -1)
        counts = {split: np.concatenate(targets) for split, (_, targets) in self._ids.items()}
        self.spec = PairSpec(
            vocabulary=target.size,
            source_vocabulary=0 if self.tokenizer.joint else self.tokenizer.source.size,
            level=self.vocabulary.level,
            seed_token=target.seed_token,
            unknown_token=unknown,
            pairs={split: len(pairs.sources) for split, pairs in self.pairs.items()},
            tokens={split: len(ids) for split, ids in counts.items()},
            unknown={split: int((ids == unknown).sum()) for split, ids in counts.items()},
            bleu_tokenizer=self.bleu_tokenizer,
        )

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the scores of copying the source and of a word-by-word dictionary, on every sentence of `split`."""
        self._known(split)
        return pair_baselines(self.pairs["train"], self.pairs[split], self.bleu_tokenizer, self.cache)

    def batch(self, split: str, index: np.ndarray | Tensor) -> PairBatch:
        """Return some pairs of `split`, with their sentences."""
        self._known(split)
        pairs = EncodedPairs(self.pairs[split], self.tokenizer, self._ids[split], texts=True)
        return pairs[np.asarray(index)]

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        anew = split == "train" and self.bpe_dropout > 0
        pairs = EncodedPairs(
            self.pairs[split],
            self.tokenizer,
            self._ids[split],
            texts=split != "train",
            redrawn=Redrawn(self.tokenizer, self.bpe_dropout, self.seed) if anew else None,
        )
        lengths, limit = pairs.lengths, self.batch_tokens
        return pairs, self._order(split, lengths, rank, world_size, LengthOrder, limit, tells_epoch=anew)


def _long(split: str, sources: list[np.ndarray], targets: list[np.ndarray]) -> list[str]:
    """What there is to tell of the longest pair of a split, if it is long."""
    lengths = [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
    longest, middle = int(np.argmax(lengths)), int(np.median(lengths))
    if lengths[longest] <= LONG:
        return []
    return [
        f"{split}: pair {longest + 1:,} has {lengths[longest]:,} tokens, the middle one {middle:,}; its batch is "
        "padded to that and takes time and memory accordingly"
    ]
