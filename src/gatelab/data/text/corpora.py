"""From the options of a text to its token ids: finds the text of each corpus, cuts it into splits, encodes them.

Named corpora come through `fetch` with their published sha256; "stdlib" is the source text of the running
Python's own standard library (no download, so `make run` works anywhere; it differs between Python versions,
hence its sha256 is part of the fingerprint); "text" is any UTF-8 file.
"""

import hashlib
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.fetch import fetch, sha256_of
from gatelab.data.folds import fold_of_text
from gatelab.data.messages import DataError, counted
from gatelab.data.specs import SPLITS, check_fractions
from gatelab.data.text.tokenizer import Tokenizer, tokenizer_from_dict, train_tokenizer

_FILES: Final[dict[str, dict[str, str]]] = {
    "ptb_word": {split: f"ptb/ptb.{split}.txt" for split in SPLITS},
    "ptb_char": {split: f"ptb/ptb.{split}.txt" for split in SPLITS},
    "wikitext2": {split: f"wikitext-2/{split}.txt" for split in SPLITS},
    "tinyshakespeare": {"train": "tinyshakespeare/input.txt"},
}
# encodings that belong to a corpus: another level would not be the benchmark of that name
_ONLY_LEVEL: Final = {"ptb_word": "word", "ptb_char": "char"}
# whose vocabulary is part of the benchmark: the symbols of the published training split
PUBLISHED_VOCABULARY: Final = frozenset(
    [("ptb_word", "word"), ("ptb_char", "char"), ("wikitext2", "word"), ("tinyshakespeare", "char")]
)
_DEFAULT_SPLIT: Final = {"tinyshakespeare": [0.9, 0.1], "stdlib": [0.9, 0.05, 0.05], "text": [0.8, 0.1, 0.1]}


@dataclass(frozen=True)
class TextOptions:
    """The options that decide the token ids, as in `TextDataModule`; `paths` has the file of each split, or None."""

    corpus: str
    level: str
    paths: dict[str, str | None]
    split: list[float] | None = None
    vocabulary_size: int | None = None
    max_characters: int | None = None
    folds: int | None = None
    fold: int | None = None


@dataclass
class Corpus:
    """A text for each split.

    text: split -> text, in the order train, valid, test; fingerprint: file -> sha256; notes: what was done.
    one_text: the splits were cut from one text, so that valid goes on where train ends.
    """

    text: dict[str, str]
    fingerprint: dict[str, str]
    notes: list[str] = field(default_factory=list)
    one_text: bool = False


def check_corpus(options: TextOptions) -> None:
    """Raise `DataError` where the options contradict each other, before any file is looked for."""
    name, level = options.corpus, options.level
    if name in _ONLY_LEVEL and level != _ONLY_LEVEL[name]:
        raise DataError(
            f"data.level={level}: {name} is read at level {_ONLY_LEVEL[name]} only; use data=text for others"
        )
    if name != "text" and any(options.paths.values()):
        raise DataError(f"data.path is for data=text; {name} has its own files")


def corpus_sources(
    options: TextOptions, mirror: str | None = None, cache: str | None = None
) -> dict[str, str]:
    """Return file -> sha256 of the bytes that `load_corpus` would read; raise as it does where one is missing."""
    if options.corpus == "text":
        return {f"{split}/{path.name}": sha256_of(path) for split, path in _paths(options.paths).items()}
    if options.corpus == "stdlib":
        digest = hashlib.sha256()
        for path in _stdlib_files():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return {"stdlib": digest.hexdigest()}
    return {file: fetch(file, mirror=mirror, cache=cache).sha256 for file in _FILES[options.corpus].values()}


def load_corpus(options: TextOptions, mirror: str | None = None, cache: str | None = None) -> Corpus:
    """Return the corpus cut into splits (not into folds); `DataError` or `FetchError` say what is missing or wrong."""
    check_corpus(options)
    name, split = options.corpus, options.split
    if name == "text":
        corpus = _read_paths(options.paths)
    elif name == "stdlib":
        text, modules = stdlib_text()
        digest = hashlib.sha256(text.encode()).hexdigest()
        version = ".".join(map(str, sys.version_info[:3]))
        notes = [f"source text of {modules} modules of the standard library of Python {version}"]
        corpus = Corpus({"train": text}, {"stdlib": digest}, notes)
    else:
        corpus = _read_named(name, mirror, cache)
    if options.max_characters is not None:
        _shorten(corpus, options.max_characters)
    if len(corpus.text) == 1:
        _cut(corpus, split or _DEFAULT_SPLIT[name], whole_lines=name != "tinyshakespeare")
    elif split is not None:
        raise DataError(f"data.split: {name} comes with its own splits; leave data.split out")
    for part, text in corpus.text.items():
        if not text:
            source = f"data.path={options.paths['train']}" if name == "text" and corpus.one_text else name
            raise DataError(
                f"{source}: the {part} split is empty; give a longer text or other data.split fractions"
            )
    return corpus


def _read_named(name: str, mirror: str | None, cache: str | None) -> Corpus:
    corpus = Corpus({}, {})
    for split, file in _FILES[name].items():
        fetched = fetch(file, mirror=mirror, cache=cache)
        text = _decode(fetched.path, fetched.path.read_bytes())
        corpus.text[split] = mikolov_characters(text) if name == "ptb_char" else text
        corpus.fingerprint[file] = fetched.sha256
    return corpus


def mikolov_characters(text: str) -> str:
    """Return Mikolov's character encoding of PTB: each line stripped, a space becomes `_`, newlines stay."""
    lines = text.removesuffix("\n").split("\n")
    return "".join(line.strip().replace(" ", "_") + "\n" for line in lines)


def stdlib_text() -> tuple[str, int]:
    """Return the source of all top-level modules of the running Python's standard library, and their number.

    Only names in `sys.stdlib_module_names` count: build files and what a distribution put beside them differ
    by machine.
    """
    files = _stdlib_files()
    return "".join(_decode(path, path.read_bytes()) for path in files), len(files)


def _stdlib_files() -> list[Path]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in sorted(folder.glob("*.py")) if path.stem in sys.stdlib_module_names]
    if not files:
        raise DataError(
            f"{folder}: no modules in source form here; use another corpus, e.g. data=text data.path=FILE"
        )
    return files


def _paths(paths: Mapping[str, str | None]) -> dict[str, Path]:
    """Return the file of each split that has one; `DataError` where it is missing."""
    if paths["train"] is None:
        raise DataError("data=text needs data.path=FILE (a UTF-8 text file)")
    if paths["valid"] is None and paths["test"] is not None:
        raise DataError("data.test_path is given without data.valid_path; give both, or only data.path")
    found = {}
    for split, name in paths.items():
        if name is None:
            continue
        path = Path(name).expanduser()
        key = "data.path" if split == "train" else f"data.{split}_path"
        if path.is_dir():
            raise DataError(f"{key}={name}: is a folder; name one file in it")
        if not path.is_file():
            raise DataError(f"{key}={name}: there is no such file (looked in {path.resolve().parent})")
        found[split] = path
    return found


def _read_paths(paths: Mapping[str, str | None]) -> Corpus:
    corpus = Corpus({}, {})
    for split, path in _paths(paths).items():
        raw = path.read_bytes()
        corpus.text[split] = _decode(path, raw)
        # the name says which file it was on any machine; the whole path only where two names are alike
        label = path.name if path.name not in corpus.fingerprint else str(path)
        corpus.fingerprint[label] = hashlib.sha256(raw).hexdigest()
    return corpus


def _decode(path: Path, raw: bytes) -> str:
    """Return UTF-8 text with `\\n` line ends (no byte-order mark)."""
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 (byte {error.start} is 0x{raw[error.start]:02x}); convert the file to "
            "UTF-8"
        ) from None


def _shorten(corpus: Corpus, limit: int) -> None:
    """Keep the first `limit` characters of each text."""
    if limit < 1:
        raise DataError(f"data.max_characters={limit}: give at least 1")
    for split, text in corpus.text.items():
        if len(text) > limit:
            corpus.notes.append(f"{split}: the first {limit:,} of {len(text):,} characters")
            corpus.text[split] = text[:limit]


def _cut(corpus: Corpus, split: list[float], whole_lines: bool) -> None:
    """Cut the one text at the given fractions, moved on to the end of the line when `whole_lines`."""
    check_fractions(split)
    text = corpus.text["train"]
    cuts = [0]
    for fraction in accumulate(split[:-1]):
        at = int(round(fraction, 12) * len(text))
        if whole_lines and (newline := text.find("\n", at)) >= 0:
            at = newline + 1
        cuts.append(at)
    cuts.append(len(text))
    corpus.text = {name: text[a:b] for name, a, b in zip(SPLITS, cuts[:-1], cuts[1:], strict=False)}
    corpus.one_text = True
    corpus.notes.append(
        "cut into " + ", ".join(f"{name} {len(part):,}" for name, part in corpus.text.items()) + " characters"
    )


@dataclass
class EncodedText:
    """A text ready to be cut into streams.

    tokens: split -> ids `[n]` int64, in the order train, valid, test; boundaries: places in the training tokens that
    do not follow the token before them; characters: split -> characters of text; unknown: split -> tokens
    that stand for words or characters outside the vocabulary; fingerprint: file -> sha256.
    """

    tokenizer: Tokenizer
    tokens: dict[str, Tensor]
    boundaries: tuple[int, ...]
    characters: dict[str, int]
    unknown: dict[str, int]
    fingerprint: dict[str, str]
    notes: list[str]


def encoded_text(options: TextOptions, mirror: str | None, cache: str | None) -> EncodedText:
    """Return the encoded text, worked out or found in the cache (see disk_cache.py).

    It is a pure function of the options and the bytes of the files. `DataError` or `FetchError` say what is missing or
    wrong.
    """
    check_corpus(options)

    def key() -> dict[str, Any]:
        sources = corpus_sources(options, mirror, cache)
        return {"what": "text", "sources": sources, **asdict(options)}

    def make() -> CacheEntry:
        return _keep(_encoded(options, mirror, cache))

    return _restore(cached(cache, key, make))


def _keep(text: EncodedText) -> CacheEntry:
    narrow = np.min_scalar_type(text.tokenizer.size - 1)
    facts = {
        name: getattr(text, name) for name in ("boundaries", "characters", "unknown", "fingerprint", "notes")
    }
    arrays = {split: ids.numpy().astype(narrow) for split, ids in text.tokens.items()}
    return CacheEntry(arrays, facts | {"tokenizer": text.tokenizer.to_dict()})


def _restore(entry: CacheEntry) -> EncodedText:
    facts = entry.facts | {
        "tokenizer": tokenizer_from_dict(entry.facts["tokenizer"]),
        "boundaries": tuple(entry.facts["boundaries"]),
        "tokens": {split: torch.from_numpy(ids.astype(np.int64)) for split, ids in entry.arrays.items()},
    }
    return EncodedText(**facts)


def _encoded(options: TextOptions, mirror: str | None, cache: str | None) -> EncodedText:
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
    _refuse_too_few(options.level, tokens)
    texts = corpus.text | {"train": "".join(pieces)}
    unknown = {split: tokenizer.count_unknown(texts[split], part) for split, part in tokens.items()}
    telling = "bits per character hold what it costs to tell which they are"
    bits = telling if options.level == "char" else "no bits per character"
    notes = [
        f"{split}: {count:,} of {len(tokens[split]):,} tokens ({count / len(tokens[split]):.2%}) are outside the "
        f"vocabulary, read as unknown: {bits}, and perplexity compares at this vocabulary only"
        for split, count in unknown.items()
        if count
    ]
    return EncodedText(
        tokenizer,
        tokens,
        tuple(accumulate(map(len, ids[:-1]))),
        {split: len(text) for split, text in corpus.text.items()},
        unknown,
        corpus.fingerprint,
        [*corpus.notes, *notes],
    )


def _refuse_too_few(level: str, tokens: Mapping[str, Tensor]) -> None:
    """Raise `DataError` for a training text without a pair of tokens, and another one without any."""
    for split, ids in tokens.items():
        if len(ids) < (least := 2 if split == "train" else 1):
            thing = {"word": "word", "char": "character"}.get(level, "token")
            why = "nothing separates words" if level == "word" and len(ids) else "that is too little"
            fix = f"{why}; {'take data.level=char or bpe, or ' if level == 'word' else ''}give a longer text"
            raise DataError(
                f"the {split} text is {counted(len(ids), thing)}, and at least {least} are needed: {fix}"
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
