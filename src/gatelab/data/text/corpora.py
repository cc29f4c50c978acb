"""From the options of a text to its splits: finds the text of each corpus and cuts it.

Named corpora come through `fetch` with their published sha256; "stdlib" is the source text of the running
Python's own standard library (no download, so `make run` works anywhere; it differs between Python versions,
hence its sha256 is part of the fingerprint); "text" is any file, folder or glob of them. A large text is never
held in memory whole (long_text.py).
"""

import hashlib
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Final

from gatelab.data.fetch import fetch
from gatelab.data.messages import DataError, counted, few
from gatelab.data.specs import SPLITS, check_fractions
from gatelab.data.text.long_text import LongText
from gatelab.data.text.text_files import (
    TextFiles,
    characters,
    find_files,
    page_kind,
    refuse_pages,
    text_of,
    text_of_member,
)
from gatelab.data.text.tokenizer import check_pieces

_FILES: Final[dict[str, dict[str, str]]] = {
    "ptb_word": {split: f"ptb/ptb.{split}.txt" for split in SPLITS},
    "ptb_char": {split: f"ptb/ptb.{split}.txt" for split in SPLITS},
    "wikitext2": {split: f"wikitext-2/{split}.txt" for split in SPLITS},
    "tinyshakespeare": {"train": "tinyshakespeare/input.txt"},
}
# published as a zip archive: its name, and the member of each split
_ARCHIVES: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "wikitext103": (
        "wikitext-103/wikitext-103-v1.zip",
        {split: f"wikitext-103/wiki.{split}.tokens" for split in SPLITS},
    ),
    "text8": ("text8/text8.zip", {"train": "text8"}),
    "enwik8": ("enwik8/enwik8.zip", {"train": "enwik8"}),
}
# encodings that belong to a corpus: another level would not be the benchmark of that name
_ONLY_LEVEL: Final = {"ptb_word": "word", "ptb_char": "char", "text8": "char", "enwik8": "byte"}
# whose vocabulary is part of the benchmark: the symbols of the published training split
PUBLISHED_VOCABULARY: Final = frozenset(
    [
        ("ptb_word", "word"),
        ("ptb_char", "char"),
        ("wikitext2", "word"),
        ("wikitext103", "word"),
        ("text8", "char"),
        ("tinyshakespeare", "char"),
    ]
)
_DEFAULT_SPLIT: Final = {
    "tinyshakespeare": [0.9, 0.1],
    "stdlib": [0.9, 0.05, 0.05],
    "text8": [0.9, 0.05, 0.05],
    "enwik8": [0.9, 0.05, 0.05],
    "text": [0.8, 0.1, 0.1],
}
_CALLED_TEXT: Final = ("", ".txt", ".text")
# cut at exactly these places, wherever a line ends
_CUT_INSIDE_LINES: Final = ("tinyshakespeare", "text8", "enwik8")
# characters of the one published text (bytes of enwik8), of which the splits are fractions
_CHARACTERS: Final = {"text8": 100_000_000, "enwik8": 100_000_000}


@dataclass(frozen=True)
class TextOptions:
    """The options that decide the token ids, as in `TextDataModule`; `paths` has what is named for a split, or None."""

    corpus: str
    level: str
    paths: dict[str, str | None]
    split: list[float] | None = None
    vocabulary_size: int | None = None
    max_characters: int | None = None
    folds: int | None = None
    fold: int | None = None
    vocabulary: str | None = None


@dataclass
class Corpus:
    """A text for each split.

    text: split -> text, in the order train, valid, test, where at level "byte" a character is a byte;
    fingerprint: file -> sha256; notes: what was done.
    one_text: the splits were cut from one text, so that valid goes on where train ends.
    """

    text: dict[str, LongText]
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
    if level == "byte" and options.vocabulary_size is not None:
        raise DataError(
            f"data.vocabulary_size={options.vocabulary_size}: at level byte it is 256; leave it out"
        )
    if level == "bpe" and options.vocabulary_size is not None:
        check_pieces(options.vocabulary_size)


def corpus_sources(
    options: TextOptions, mirror: str | None = None, cache: str | None = None
) -> dict[str, str]:
    """Return file -> sha256 of the bytes that `load_corpus` would read; raise as it does where one is missing."""
    name = options.corpus
    if name == "text":
        return {f"{split}/{files.label}": files.sha256() for split, files in _paths(options.paths).items()}
    if name == "stdlib":
        digest = hashlib.sha256()
        for path in _stdlib_files():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return {"stdlib": digest.hexdigest()}
    files = [_ARCHIVES[name][0]] if name in _ARCHIVES else list(_FILES[name].values())
    return {file: fetch(file, mirror=mirror, cache=cache).sha256 for file in files}


def load_corpus(options: TextOptions, mirror: str | None = None, cache: str | None = None) -> Corpus:
    """Return the corpus cut into splits (not into folds); `DataError` or `FetchError` say what is missing or wrong."""
    check_corpus(options)
    name, split = options.corpus, options.split
    if name == "text":
        corpus = _read_paths(options.paths, options.level)
    elif name == "stdlib":
        corpus = _read_stdlib(options.level)
    elif name in _ARCHIVES:
        corpus = _read_archive(name, options.level, mirror, cache)
    else:
        corpus = _read_named(name, options.level, mirror, cache)
    if options.max_characters is not None:
        _shorten(corpus, options.max_characters)
    if len(corpus.text) == 1:
        _cut(corpus, split or _DEFAULT_SPLIT[name], whole_lines=name not in _CUT_INSIDE_LINES)
    elif split is not None:
        raise DataError(f"data.split: {name} comes with its own splits; leave data.split out")
    for part, text in corpus.text.items():
        if not text:
            source = f"data.path={options.paths['train']}" if name == "text" and corpus.one_text else name
            raise DataError(
                f"{source}: the {part} split is empty; give a longer text or other data.split fractions"
            )
    return corpus


def _read_named(name: str, level: str, mirror: str | None, cache: str | None) -> Corpus:
    corpus = Corpus({}, {})
    for split, file in _FILES[name].items():
        fetched = fetch(file, mirror=mirror, cache=cache)
        text = text_of([fetched.path], level)
        corpus.text[split] = LongText.of(mikolov_characters(str(text))) if name == "ptb_char" else text
        corpus.fingerprint[file] = fetched.sha256
    return corpus


def _read_archive(name: str, level: str, mirror: str | None, cache: str | None) -> Corpus:
    archive, members = _ARCHIVES[name]
    fetched = fetch(archive, mirror=mirror, cache=cache)
    texts = {split: text_of_member(fetched.path, member, level) for split, member in members.items()}
    if name in _CHARACTERS and (found := len(texts["train"])) != (published := _CHARACTERS[name]):
        raise DataError(
            f"{fetched.path}: {name} has {found:,} characters, and {published:,} were published; remove it to "
            "download it again"
        )
    return Corpus(texts, {archive: fetched.sha256})


def _read_stdlib(level: str) -> Corpus:
    text, modules = stdlib_text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    version = ".".join(map(str, sys.version_info[:3]))
    notes = [f"source text of {modules} modules of the standard library of Python {version}"]
    # at level byte, every byte of its UTF-8 as one character
    text = text.encode().decode("latin-1") if level == "byte" else text
    return Corpus({"train": LongText.of(text)}, {"stdlib": digest}, notes)


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
    texts = [characters(str(path), iter([path.read_bytes()]), "char") for path in files]
    return "".join("".join(text) for text in texts), len(files)


def _stdlib_files() -> list[Path]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in sorted(folder.glob("*.py")) if path.stem in sys.stdlib_module_names]
    if not files:
        raise DataError(
            f"{folder}: no modules in source form here; use another corpus, e.g. data=text data.path=FILE"
        )
    return files


def _paths(paths: Mapping[str, str | None]) -> dict[str, TextFiles]:
    """Return the files of each split that has some; `DataError` where they are missing."""
    if paths["train"] is None:
        raise DataError("data=text needs data.path=FILE (a text file, a folder of them or a glob)")
    if paths["valid"] is None and paths["test"] is not None:
        raise DataError("data.test_path is given without data.valid_path; give both, or only data.path")
    keys = {split: "data.path" if split == "train" else f"data.{split}_path" for split in paths}
    return {split: find_files(keys[split], name) for split, name in paths.items() if name is not None}


def _read_paths(paths: Mapping[str, str | None], level: str) -> Corpus:
    corpus, first = Corpus({}, {}), dict[Path, str]()
    for split, files in _paths(paths).items():
        if twice := [file.name for file in files.files if first.setdefault(file.resolve(), split) != split]:
            corpus.notes.append(f"{split}: read in another split too: {few(twice)}")
        if level != "byte":
            _tell_pages(files.files, split, corpus.notes)
        corpus.text[split] = text_of(files.files, level)
        if not corpus.text[split]:
            raise DataError(f"{files.root}: is empty; give a file that holds text")
        # the name says which file it was on any machine; the whole path only where two names are alike
        label = files.label if files.label not in corpus.fingerprint else str(paths[split])
        corpus.fingerprint[label] = files.sha256()
        if len(files.files) > 1:
            corpus.notes.append(f"{split}: {files.label}, joined in the order of their names")
    return corpus


def _tell_pages(files: Sequence[Path], split: str, notes: list[str]) -> None:
    """Refuse web pages and the like that are called texts; note the others where not every file is one."""
    pages = [file for file in files if page_kind(file)]
    called = [f for f in pages if Path(re.sub(r"\.(gz|zst)$", "", f.name.lower())).suffix in _CALLED_TEXT]
    refuse_pages(called, ", or name it for what it is (.html, .json) if it is to be read as it stands")
    if 0 < len(pages) < len(files):
        named = few([file.name for file in pages])
        notes.append(
            f"{split}: read as they stand, {counted(len(pages), 'web page')} (or XML, JSON): {named}"
        )


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
