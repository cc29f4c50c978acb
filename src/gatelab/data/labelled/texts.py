"""Texts with labels: the named corpora, and from texts to token ids.

The vocabulary is that of the training texts alone. Dimensions: `n` examples.
"""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from gatelab.data.fetch import SOURCES, Fetched, fetch, sha256_of
from gatelab.data.labelled.examples import Labelled, Sequences
from gatelab.data.labelled.split import TEST, TRAIN, check_parts, complete_parts
from gatelab.data.messages import DataError, counted, few, shows
from gatelab.data.specs import SPLITS
from gatelab.data.text.kept_vocabulary import kept_vocabulary, vocabulary_sha256
from gatelab.data.text.tokenizer import EOS, UNKNOWN, Tokenizer, train_tokenizer

TREC: Final = {TRAIN: "trec/TREC.train.all", TEST: "trec/TREC.test.all"}
TREC_CLASSES: Final = ("description", "entity", "abbreviation", "human", "location", "number")
NAMES_ARCHIVE: Final = "names/names.tar.gz"
_WORDS: Final = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
UNGIVEN: Final = -1


@dataclass(frozen=True)
class TextOptions:
    """How texts become tokens and splits, as in `LabelledTextDataModule`."""

    level: Literal["word", "char", "byte", "bpe"] = "word"
    vocabulary_size: int | None = None
    min_count: int = 1
    lower: bool = False
    punctuation: Literal["kept", "apart"] = "kept"
    max_length: int | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    split: list[float] | None = None
    data_seed: int = 0
    folds: int | None = None
    fold: int | None = None
    train_examples: int | None = None
    vocabulary: str | None = None


@dataclass
class Texts:
    """What was read.

    parts: `[n]`, -1 where none is given. where: the place of each text in its file, in words. classes: their names in
    order; empty: those that occur, sorted.
    """

    texts: list[str]
    labels: list[str]
    parts: list[int]
    where: list[str]
    classes: Sequence[str] = ()
    fingerprint: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def corpus_sources(corpus: str, mirror: str | None, cache: str | None) -> dict[str, str]:
    """Return file -> sha256 of the bytes that `read_corpus` would read."""
    if corpus == "trec":
        return {name: fetch(name, mirror=mirror, cache=cache).sha256 for name in TREC.values()}
    if archive := _names_archive(mirror):
        return {NAMES_ARCHIVE: sha256_of(archive)}
    return {name: file.sha256 for name, file in _name_files(mirror, cache).items()}


def read_corpus(corpus: str, mirror: str | None, cache: str | None) -> Texts:
    """Return a named corpus."""
    return _trec(mirror, cache) if corpus == "trec" else _names(mirror, cache)


def _trec(mirror: str | None, cache: str | None) -> Texts:
    """Questions by what they ask for (Li and Roth 2002): 5,452 and 500, of six classes, as Kim 2014 tokenised them."""
    found = Texts([], [], [], [], TREC_CLASSES)
    for part, name in TREC.items():
        fetched = fetch(name, mirror=mirror, cache=cache)
        found.fingerprint[name] = fetched.sha256
        for number, line in enumerate(fetched.path.read_bytes().splitlines(), 1):
            label, _, text = line.decode("latin-1").partition(" ")  # one letter in it is no ASCII
            found.texts.append(text)
            found.labels.append(TREC_CLASSES[int(label)])
            found.parts.append(TEST if part == TEST else UNGIVEN)
            found.where.append(f"{name} line {number}")
    return found


def _name_files(mirror: str | None, cache: str | None) -> dict[str, Fetched]:
    names = [name for name in SOURCES if name.startswith("names/")]
    return {name: fetch(name, mirror=mirror, cache=cache) for name in names}


def _names_archive(mirror: str | None) -> Path | None:
    """The mirror's archive of all files, which is published nowhere: each file in it has the published bytes."""
    folder = mirror or os.environ.get("GATELAB_DATA_MIRROR")
    archive = Path(folder).expanduser() / NAMES_ARCHIVE if folder else None
    return archive if archive is not None and archive.is_file() else None


def _names(mirror: str | None, cache: str | None) -> Texts:
    """20,050 surnames of 18 languages (Robertson's tutorial for PyTorch, 2017), by language."""
    files: dict[str, bytes] = {}
    if archive := _names_archive(mirror):
        with tarfile.open(archive) as opened:
            for member in opened.getmembers():
                name = f"names/{Path(member.name).name}"
                if name in SOURCES:
                    files[name] = opened.extractfile(member).read()  # type: ignore[union-attr]
    else:
        files = {name: file.path.read_bytes() for name, file in _name_files(mirror, cache).items()}
    found = Texts([], [], [], [], fingerprint=corpus_sources("names", mirror, cache))
    for name, content in sorted(files.items()):
        if not SOURCES[name].holds_bytes(content):
            raise DataError(f"{archive}: {name} has other bytes than the published ones; remove the archive")
        for number, line in enumerate(content.decode().splitlines(), 1):
            if text := line.replace("\u00a0", " ").strip():
                found.texts.append(text)
                found.labels.append(Path(name).stem)
                found.parts.append(UNGIVEN)
                found.where.append(f"{name} line {number}")
    return found


def normal(text: str, options: TextOptions) -> str:
    """Return a text as it is tokenised: lower-cased, punctuation apart, white space as one space between words."""
    text = text.lower() if options.lower else text
    if options.punctuation == "apart":
        return " ".join(_WORDS.findall(text))
    return " ".join(text.split()) if options.level == "word" else text


def encode(tokenizer: Tokenizer, texts: Sequence[str], options: TextOptions) -> list[np.ndarray]:
    """Return the ids of each text, at most `max_length` of them."""
    return [tokenizer.encode(normal(text, options))[: options.max_length].numpy() for text in texts]


def refuse_empty(texts: Sequence[str], where: Sequence[str]) -> None:
    """Raise `DataError` for texts without a character that shows."""
    if empty := [place for text, place in zip(texts, where, strict=True) if not shows(text)]:
        raise DataError(f"{few(empty)}: the text is empty; remove {'it' if len(empty) == 1 else 'them'}")


def labelled_texts(raw: Texts, options: TextOptions) -> Labelled:
    """Share out the texts and encode them.

    Raises:
        DataError: an empty text, a label that training has not, or too few examples.
    """
    refuse_empty(raw.texts, raw.where)
    notes = list(raw.notes)
    if options.duplicates == "drop":
        raw = _without_duplicates(raw, notes)
    classes = list(raw.classes) or sorted(set(raw.labels))
    labels = np.array([classes.index(label) for label in raw.labels], dtype=np.int64)
    parts = complete_parts(
        labels,
        np.array(raw.parts, dtype=np.int8),
        options.split,
        options.folds,
        options.fold,
        options.data_seed,
        notes,
        options.train_examples,
    )
    check_parts(labels, parts, classes, raw.where, notes)
    _tell_of_twins(raw.texts, parts, notes)
    trained = [normal(text, options) for text, part in zip(raw.texts, parts, strict=True) if part == TRAIN]
    tokenizer = _vocabulary(trained, options)
    ids = encode(tokenizer, raw.texts, options)
    _tell_of_unknown(tokenizer, raw.texts, ids, parts, options, notes)
    dtype = np.min_scalar_type(tokenizer.size - 1)
    return Labelled(
        Sequences.of([one.astype(dtype) for one in ids]),
        labels,
        parts,
        classes,
        tokenizer.to_dict(),
        options.level,
        fingerprint=raw.fingerprint | vocabulary_sha256(options.vocabulary),
        notes=notes,
    )


def _vocabulary(trained: list[str], options: TextOptions) -> Tokenizer:
    if options.vocabulary is not None:
        return kept_vocabulary(options.vocabulary, options.level)
    size = options.vocabulary_size
    if options.min_count > 1 and options.level == "word":
        counts = Counter(word for text in trained for word in text.split())
        often = sum(count >= options.min_count for count in counts.values())
        often += (EOS not in counts) + (UNKNOWN not in counts)
        size = often if size is None else min(size, often)
    return train_tokenizer(options.level, trained, size)


def _without_duplicates(raw: Texts, notes: list[str]) -> Texts:
    """Keep the first of those that have the same text and label."""
    first: dict[tuple[str, str], int] = {}
    for i, pair in enumerate(zip(raw.texts, raw.labels, strict=True)):
        first.setdefault(pair, i)
    kept = sorted(first.values())
    if dropped := len(raw.texts) - len(kept):
        notes.append(f"{dropped:,} of {len(raw.texts):,} examples repeat another one and are left out")
    columns: dict[str, Any] = {
        name: [getattr(raw, name)[i] for i in kept] for name in ("texts", "labels", "parts", "where")
    }
    return Texts(**columns, classes=raw.classes, fingerprint=raw.fingerprint)


def _tell_of_twins(texts: Sequence[str], parts: np.ndarray, notes: list[str]) -> None:
    """Note how many texts of each split occur in training as well."""
    trained = {text for text, part in zip(texts, parts, strict=True) if part == TRAIN}
    for number, split in enumerate(SPLITS):
        own = [text for text, part in zip(texts, parts, strict=True) if part == number]
        if number != TRAIN and (twins := sum(text in trained for text in own)):
            notes.append(f"{split}: {twins:,} of {counted(len(own), 'text')} occur in training as well")


def _tell_of_unknown(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    ids: Sequence[np.ndarray],
    parts: np.ndarray,
    options: TextOptions,
    notes: list[str],
) -> None:
    """Note what share of each split's tokens the vocabulary lacks, and how many texts were cut."""
    unknown = getattr(tokenizer, "index", {}).get(getattr(tokenizer, "unknown", None), UNGIVEN)
    for number, split in enumerate(SPLITS):
        own = [one for one, part in zip(ids, parts, strict=True) if part == number]
        total, lacking = sum(map(len, own)), sum(int((one == unknown).sum()) for one in own)
        if lacking:
            notes.append(f"{split}: {lacking:,} of {total:,} tokens ({lacking / total:.1%}) are unknown")
    if options.max_length is not None:
        cut = sum(len(tokenizer.encode(normal(text, options))) > options.max_length for text in texts)
        if cut:
            notes.append(f"{counted(cut, 'text')} of more than {options.max_length} tokens cut there")
