"""From the options of a text to its token ids: the vocabulary, the fold, and every split encoded.

A pure function of the options and the bytes of the files; `disk_cache.py` keeps what it returns. The parts are
elsewhere: corpora.py finds the text, folds.py cuts it, tokenizer.py encodes it.
"""

from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.folds import fold_of_text
from gatelab.data.messages import DataError
from gatelab.data.text.corpora import (
    PUBLISHED_VOCABULARY,
    Corpus,
    TextOptions,
    check_corpus,
    corpus_sources,
    load_corpus,
)
from gatelab.data.text.tokenizer import Tokenizer, tokenizer_from_dict, train_tokenizer


@dataclass
class EncodedText:
    """A text ready to be cut into streams.

    tokens: split -> ids `[n]` int64, in the order train, valid, test; boundaries: places in the training tokens that
    do not follow the token before them; characters: split -> characters of text; fingerprint: file -> sha256.
    """

    tokenizer: Tokenizer
    tokens: dict[str, Tensor]
    boundaries: tuple[int, ...]
    characters: dict[str, int]
    fingerprint: dict[str, str]
    notes: list[str]


def encoded_text(options: TextOptions, mirror: str | None, cache: str | None) -> EncodedText:
    """Return the encoded text, worked out or found; `DataError` or `FetchError` say what is missing or wrong."""

    check_corpus(options)

    def key() -> dict[str, Any]:
        sources = corpus_sources(options, mirror, cache)
        return {"what": "text", "sources": sources, **asdict(options)}

    def make() -> CacheEntry:
        return _keep(_encode(options, mirror, cache))

    return _restore(cached(cache, key, make))


def _keep(text: EncodedText) -> CacheEntry:
    narrow = np.min_scalar_type(text.tokenizer.size - 1)
    facts = {name: getattr(text, name) for name in ("boundaries", "characters", "fingerprint", "notes")}
    arrays = {split: ids.numpy().astype(narrow) for split, ids in text.tokens.items()}
    return CacheEntry(arrays, facts | {"tokenizer": text.tokenizer.to_dict()})


def _restore(entry: CacheEntry) -> EncodedText:
    facts = dict(entry.facts)
    facts["tokenizer"], facts["boundaries"] = (
        tokenizer_from_dict(facts["tokenizer"]),
        tuple(facts["boundaries"]),
    )
    tokens = {split: torch.from_numpy(ids.astype(np.int64)) for split, ids in entry.arrays.items()}
    return EncodedText(tokens=tokens, **facts)


def _encode(options: TextOptions, mirror: str | None, cache: str | None) -> EncodedText:
    corpus = load_corpus(options, mirror, cache)
    published = corpus.text["train"]
    pieces = [published] if options.fold is None else _take_fold(options, corpus)
    tokenizer = _vocabulary(options, published, "".join(pieces))
    ids = [tokenizer.encode(piece) for piece in pieces]
    later = {split: tokenizer.encode(text) for split, text in corpus.text.items() if split != "train"}
    tokens = {"train": torch.cat(ids)} | later
    empty = [split for split in ("train", "valid") if not len(tokens[split])]
    if empty and options.fold is not None:
        where = f"data.fold={options.fold} of data.folds={options.folds}"
        raise DataError(f"{where}: the {empty[0]} part holds no token; give fewer folds")
    return EncodedText(
        tokenizer,
        tokens,
        tuple(accumulate(map(len, ids[:-1]))),
        {split: len(text) for split, text in corpus.text.items()},
        corpus.fingerprint,
        corpus.notes,
    )


def _take_fold(options: TextOptions, corpus: Corpus) -> list[str]:
    """Replace the train and valid text of `corpus` by the fold's; return the pieces of the training text."""
    assert options.folds is not None
    assert options.fold is not None
    train = corpus.text["train"]
    if not corpus.one_text and not train.endswith("\n"):
        train += "\n"
        corpus.notes.append("a newline was put between the train and the valid text")
    pieces, valid, note = fold_of_text(train + corpus.text["valid"], options.folds, options.fold)
    corpus.text |= {"train": "".join(pieces), "valid": valid}
    corpus.notes.append(note)
    return pieces


def _vocabulary(options: TextOptions, published: str, train: str) -> Tokenizer:
    """Return the tokenizer: of the text `train` that is trained on, or of the corpus' own training split."""
    size = options.vocabulary_size
    if options.fold is None:
        closed = options.corpus not in ("text", "stdlib") and size is None
    else:
        whole = size is None and options.max_characters is None
        closed = whole and (options.corpus, options.level) in PUBLISHED_VOCABULARY
    return train_tokenizer(options.level, published if closed else train, size, open_vocabulary=not closed)
