"""The DataModule of language modelling: a corpus, its tokenizer, and windows over parallel streams.

One window is one batch, in the corpus's order, so a task can carry its state from batch to batch. This file
only joins the parts: encoded.py gives the token ids, streams.py cuts them.
"""

from typing import Any, Literal, Unpack

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.messages import DataError, counted
from gatelab.data.orders import SHORTEST, RandomWindows
from gatelab.data.specs import TextSpec
from gatelab.data.text.baselines import text_baselines
from gatelab.data.text.corpora import TextOptions, check_corpus
from gatelab.data.text.encoded import encoded_text
from gatelab.data.text.streams import StreamWindows, eval_streams, train_streams
from gatelab.data.text.tokenizer import Tokenizer


class TextDataModule(GatelabDataModule):
    """Language-modelling windows of a named corpus or of any text file.

    corpus: which text; "text" reads `path` (and `valid_path`, `test_path`, else `split` cuts the one text). Each is a
        file, a folder (all files in it and below) or a glob; several files are joined in the order of their names.
        Those that end in `.gz` or `.zst` are unpacked.
    level: what a token is: a word, a character, a byte (of any file, whether text or not) or a piece of BPE.
    vocabulary_size: keep the most frequent words or characters, or the pieces BPE learns (None: all; 4096 for bpe).
    vocabulary: the run whose vocabulary the text is read with (see kept_vocabulary.py), in place of the text's own.
    split: fractions [train, valid] or [train, valid, test] of a single text. max_characters: use only the
        beginning.
    batch_size, window: parallel streams and steps per training batch. random_window: draw the steps around `window`,
        anew for each epoch (see `RandomWindows`); the task scales its rate by them.
    eval_batch_size, eval_window: the same for evaluation (window None: whole streams). burn_in: unscored
        tokens that an evaluation stream reads before its part, so that the result is the one of a single
        stream (see streams.py).
    folds, fold: validate on block `fold` (from 0) of `folds` of the train and valid text (see folds.py).
    mirror, cache: folders to look for files in before downloading (see fetch.py).

    A fold's vocabulary comes from its own training text. Where the vocabulary is part of the benchmark, it stays the
    published one: perplexities over different vocabularies could not be averaged, and PTB's and WikiText-2's texts
    already hold `<unk>` for every word outside it.

    The token ids lie in a file of the cache that is mapped into memory: a corpus may be larger than memory.
    `tokens` has them for each split, as tensors of the smallest unsigned type.
    """

    spec: TextSpec
    tokenizer: Tokenizer

    def __init__(
        self,
        corpus: Literal[
            "ptb_word",
            "ptb_char",
            "wikitext2",
            "wikitext103",
            "text8",
            "enwik8",
            "tinyshakespeare",
            "stdlib",
            "text",
        ] = "ptb_word",
        level: Literal["word", "char", "byte", "bpe"] = "word",
        path: str | None = None,
        valid_path: str | None = None,
        test_path: str | None = None,
        split: list[float] | None = None,
        vocabulary: str | None = None,
        vocabulary_size: int | None = None,
        max_characters: int | None = None,
        batch_size: int = 20,
        window: int = 35,
        random_window: bool = False,
        eval_batch_size: int = 10,
        eval_window: int | None = 35,
        burn_in: int = 1000,
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        if window < 1 or (eval_window is not None and eval_window < 1):
            raise DataError(f"data.window={window}, data.eval_window={eval_window}: give at least 1 step")
        if burn_in < 1:  # without one, nothing would show whether the streams meet
            raise DataError(f"data.burn_in={burn_in}: give at least 1 token")
        if vocabulary_size is not None and vocabulary_size < 1:
            raise DataError(f"data.vocabulary_size={vocabulary_size}: give at least 1, or null for all")
        if vocabulary is not None and vocabulary_size is not None:
            raise DataError("data.vocabulary is of an earlier run: leave data.vocabulary_size out")
        if max_characters is not None and max_characters < 1:
            raise DataError(f"data.max_characters={max_characters}: give at least 1, or null for all")
        if random_window and window < 2 * SHORTEST:
            raise DataError(f"data.window={window}: random windows need at least {2 * SHORTEST} steps")
        paths = {"train": path, "valid": valid_path, "test": test_path}
        self.options = TextOptions(
            corpus, level, paths, split, vocabulary_size, max_characters, self.folds, self.fold, vocabulary
        )
        check_corpus(self.options)
        self.window, self.eval_window, self.burn_in = window, eval_window, burn_in
        self.random_window = random_window
        self.mirror, self.cache = mirror, cache
        self.tokens: dict[str, Tensor] = {}
        self.boundaries: tuple[int, ...] = ()

    @property
    def at_hand(self) -> bool:
        """Whether the corpus is one of this machine's own files."""
        return self.options.corpus in ("stdlib", "text")

    def prepare_data(self) -> None:
        """Set up here: the other processes of the machine then find what was worked out."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read, build the vocabulary from the training split, encode; a second call does nothing."""
        if self.tokens:
            return
        text = encoded_text(self.options, self.mirror, self.cache)
        self.tokenizer, self.boundaries = text.tokenizer, text.boundaries
        self._ids, self._sha256 = text.tokens, text.sha256
        self.tokens = {split: torch.from_numpy(ids) for split, ids in text.tokens.items()}
        self.splits = tuple(text.tokens)
        self.fingerprint, self.notes = text.fingerprint, text.notes
        self.spec = TextSpec(
            vocabulary=self.tokenizer.size,
            level=self.options.level,
            seed_token=self.tokenizer.seed_token,
            tokens={split: len(ids) for split, ids in self.tokens.items()},
            characters=text.characters,
            unknown=text.unknown,
            random_window=self.window if self.random_window else 0,
        )

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the metrics of the train-unigram and the interpolated bigram model on every token of `split`."""
        self._known(split)
        options: dict[str, Any] = {
            "vocabulary": self.spec.vocabulary,
            "seed_token": self.spec.seed_token,
            "characters": self.spec.characters[split],
            "unknown": self.spec.unknown[split],
            "escape": self.spec.escape(split),
            "boundaries": self.boundaries,
            "bits": self.spec.bits,
        }
        return cached(
            self.cache,
            lambda: {"what": "text baselines", "text": self._sha256, "split": split, **options},
            lambda: CacheEntry({}, text_baselines(self._ids["train"], self._ids[split], **options)),
        ).facts

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        tokens, seed_token = self._ids[split], self.spec.seed_token
        if split == "train":
            if len(tokens) < self.window:
                raise DataError(
                    f"data.window={self.window}: the train text is {counted(len(tokens), 'token')}, shorter than one "
                    "window; give a longer text or a smaller data.window"
                )
            streams = train_streams(tokens, self.batch_size, seed_token, self.boundaries)
            window = self.window
        else:
            streams = eval_streams(tokens, self.eval_batch_size, self.burn_in, seed_token, world_size)
            window = self.eval_window or len(tokens)
        windows = StreamWindows(streams, window, rank=rank, world_size=world_size)
        # every rank visits every window: what ranks share are the streams inside it
        if split == "train" and self.random_window:
            steps = streams.steps
            return windows, RandomWindows(steps, window, [step for step, _ in streams.resets], seed=self.seed)
        return windows, BatchOrder(len(windows), 1, shuffle=False)
