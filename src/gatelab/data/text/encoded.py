"""From the texts of a corpus to token ids in a file that is mapped into memory, whatever its size.

The texts are encoded chunk by chunk, in the smallest integer type that holds the vocabulary, into a file of the cache
(`disk_cache.mapped`). A text is the same tokens whether it is read at once or in chunks.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
from torch import Tensor

from gatelab.data.disk_cache import ArrayWriter, mapped
from gatelab.data.folds import fold_of_text
from gatelab.data.messages import DataError, counted
from gatelab.data.text.corpora import (
    PUBLISHED_VOCABULARY,
    Corpus,
    TextOptions,
    check_corpus,
    corpus_sources,
    load_corpus,
)
from gatelab.data.text.kept_vocabulary import kept_vocabulary, vocabulary_sha256
from gatelab.data.text.long_text import LongText
from gatelab.data.text.text_files import characters
from gatelab.data.text.tokenizer import Tokenizer, tokenizer_from_dict, train_tokenizer

PART: Final = 1 << 20
"""Most characters of a stream that are encoded at once."""
PUBLISHED_TOKENS: Final = {
    ("wikitext103", "word"): (267_735, {"train": 103_227_021, "valid": 217_646, "test": 245_569})
}
"""Vocabulary and tokens of each split, of corpora whose archive does not say it by its length alone."""


@dataclass
class EncodedText:
    """A text ready to be cut into streams.

    tokens: split -> ids `[n]` of the smallest unsigned type, mapped from a file, in the order train, valid, test;
    boundaries: places in the training tokens that do not follow the token before them; characters: split ->
    characters of text (bytes at level "byte"); unknown: split -> tokens that stand for words or characters outside the
    vocabulary; fingerprint: file -> sha256; sha256: that of all this.
    """

    tokenizer: Tokenizer
    tokens: dict[str, np.ndarray]
    boundaries: tuple[int, ...]
    characters: dict[str, int]
    unknown: dict[str, int]
    fingerprint: dict[str, str]
    notes: list[str]
    sha256: str


def encoded_text(options: TextOptions, mirror: str | None, cache: str | None) -> EncodedText:
    """Return the encoded text, worked out or found in the cache (see disk_cache.py).

    It is a pure function of the options and the bytes of the files. `DataError` or `FetchError` say what is missing or
    wrong.
    """
    check_corpus(options)

    def key() -> dict[str, Any]:
        sources = corpus_sources(options, mirror, cache)
        vocabulary = vocabulary_sha256(options.vocabulary)  # its content, not its place
        return {"what": "text", "sources": sources, **asdict(options), "vocabulary": vocabulary}

    entry = mapped(cache, key, lambda writer: _encode(options, mirror, cache, writer))
    facts = entry.facts | {
        "tokenizer": tokenizer_from_dict(entry.facts["tokenizer"]),
        "boundaries": tuple(entry.facts["boundaries"]),
    }
    return EncodedText(tokens=entry.arrays, sha256=entry.sha256, **facts)


def _encode(
    options: TextOptions, mirror: str | None, cache: str | None, writer: ArrayWriter
) -> dict[str, Any]:
    """Write the tokens of each split and return the other facts of the `EncodedText`."""
    corpus = load_corpus(options, mirror, cache)
    published = corpus.text["train"]
    pieces = [published] if options.fold is None else _take_fold(options, corpus)
    tokenizer = _vocabulary(options, published, corpus.text["train"])
    dtype = np.min_scalar_type(tokenizer.size - 1)
    unknown = dict.fromkeys(corpus.text, 0)

    def ids(split: str, text: LongText) -> Iterator[np.ndarray]:
        for chunk in text.chunks():
            tokens = tokenizer.encode_chunk(chunk)
            unknown[split] += tokenizer.count_unknown(chunk, tokens)
            yield tokens.numpy()

    parts = [writer.add("train", dtype, ids("train", piece)) for piece in pieces]
    counts = {"train": sum(parts)}
    for split, text in corpus.text.items():
        if split != "train":
            counts[split] = writer.add(split, dtype, ids(split, text))
    empty = [split for split in ("train", "valid") if not counts[split]]
    if empty and options.fold is not None:
        where = f"data.fold={options.fold} of data.folds={options.folds}"
        raise DataError(f"{where}: the {empty[0]} part holds no token; give fewer folds")
    _refuse_too_few(options.level, counts)
    _refuse_unpublished(options, tokenizer, counts)
    telling = "bits per character hold what it costs to tell which they are"
    bits = telling if options.level == "char" else "no bits per character"
    notes = [
        f"{split}: {count:,} of {counts[split]:,} tokens ({count / counts[split]:.2%}) are outside the "
        f"vocabulary, read as unknown: {bits}, and perplexity compares at this vocabulary only"
        for split, count in unknown.items()
        if count
    ]
    return {
        "tokenizer": tokenizer.to_dict(),
        "boundaries": list(accumulate(parts[:-1])),
        "characters": {split: len(text) for split, text in corpus.text.items()},
        "unknown": unknown,
        "fingerprint": corpus.fingerprint | vocabulary_sha256(options.vocabulary),
        "notes": [*corpus.notes, *notes],
    }


def _refuse_unpublished(options: TextOptions, tokenizer: Tokenizer, counts: Mapping[str, int]) -> None:
    """Raise `DataError` where a whole corpus has other tokens than the published ones."""
    published = PUBLISHED_TOKENS.get((options.corpus, options.level))
    whole = all(
        option is None
        for option in (options.max_characters, options.vocabulary_size, options.vocabulary, options.fold)
    )
    if published is None or not whole or (tokenizer.size, dict(counts)) == published:
        return
    vocabulary, tokens = published
    wrong = [f"{s}: {counts[s]:,} tokens, not {n:,}" for s, n in tokens.items() if counts[s] != n]
    if tokenizer.size != vocabulary:
        wrong.append(f"{tokenizer.size:,} different ones, not {vocabulary:,}")
    raise DataError(
        f"{options.corpus}: other tokens than the published ones ({'; '.join(wrong)}); remove its archive "
        "from the mirror or the cache, so that it is downloaded again"
    )


def _refuse_too_few(level: str, counts: Mapping[str, int]) -> None:
    """Raise `DataError` for a training text without a pair of tokens, and another one without any."""
    for split, count in counts.items():
        if count < (least := 2 if split == "train" else 1):
            thing = {"word": "word", "char": "character"}.get(level, level if level == "byte" else "token")
            why = "nothing separates words" if level == "word" and count else "that is too little"
            fix = f"{why}; {'take data.level=char or bpe, or ' if level == 'word' else ''}give a longer text"
            raise DataError(
                f"the {split} text is {counted(count, thing)}, and at least {least} are needed: {fix}"
            )


def _take_fold(options: TextOptions, corpus: Corpus) -> list[LongText]:
    """Replace the train and valid text of `corpus` by the fold's; return the pieces of the training text."""
    assert options.folds is not None
    assert options.fold is not None
    train = corpus.text["train"]
    if not corpus.one_text and options.level != "byte" and str(train[-1:]) != "\n":
        train = LongText.joined([train, LongText.of("\n")])
        corpus.notes.append("a newline was put between the train and the valid text")
    whole = LongText.joined([train, corpus.text["valid"]])
    pieces, valid, note = fold_of_text(whole, options.folds, options.fold)
    corpus.text |= {"train": LongText.joined(pieces), "valid": valid}
    corpus.notes.append(note)
    return pieces


def _vocabulary(options: TextOptions, published: LongText, train: LongText) -> Tokenizer:
    """Return the tokenizer: of the text `train` that is trained on, or of the corpus' own training split."""
    if options.vocabulary is not None:
        return kept_vocabulary(options.vocabulary, options.level)
    size = options.vocabulary_size
    if options.fold is None:
        closed = options.corpus not in ("text", "stdlib") and size is None
    else:
        whole = size is None and options.max_characters is None
        closed = whole and (options.corpus, options.level) in PUBLISHED_VOCABULARY
    text = published if closed else train
    return train_tokenizer(options.level, text.chunks(), size, open_vocabulary=not closed)


def encoded_parts(blocks: Iterable[bytes], tokenizer: Tokenizer, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the text of `blocks` in parts, and the ids `[n]` int64 of each; together they are those of the whole text.

    Bytes are read as in training (`characters`): at level "byte" each is a character of the parts. `DataError` names
    the place in the text called `name` that is not UTF-8, and a text without a token.
    """
    pieces = characters(name, iter(blocks), tokenizer.level, as_bytes=False)
    empty = True
    for part in LongText(lambda: pieces, 0, sys.maxsize).chunks(PART):
        ids = tokenizer.encode_chunk(part).long()
        empty = empty and not len(ids)
        yield part, ids
    if empty:
        raise DataError(f"{name}: there is no token in it, so nothing to score; give a text")
