"""The pairs of each split: Multi30k, or files of your own; cut into splits and folds.

Multi30k (Elliott et al. 2016, arXiv:1605.00459): 29,000 / 1,014 / 1,000 captions of pictures in English with German
translations, raw text, test set "2016 flickr". For research and education; nothing of it is shipped.
"""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from gatelab.data.fetch import fetch
from gatelab.data.folds import item_cuts
from gatelab.data.messages import DataError, counted
from gatelab.data.pairs.read import Pairs, read_files, read_table
from gatelab.data.specs import SPLITS, check_fractions

MULTI30K: Final = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
"""Split -> the name of its files."""
DEFAULT_SPLIT: Final = [0.9, 0.05, 0.05]


@dataclass(frozen=True)
class PairOptions:
    """Where the pairs are, as in `PairsDataModule`; `sources`, `targets` and `paths` have what is named for a split."""

    corpus: str
    pair: str
    sources: dict[str, str | None]
    targets: dict[str, str | None]
    paths: dict[str, str | None]
    split: list[float] | None = None
    max_pairs: int | None = None
    folds: int | None = None
    fold: int | None = None


@dataclass
class PairCorpus:
    """pairs: split -> its pairs, in the order train, valid, test; notes: what was done."""

    pairs: dict[str, Pairs]
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> dict[str, str]:
        """File -> sha256; another of the same name is marked with its split."""
        found: dict[str, str] = {}
        for split, pairs in self.pairs.items():
            for name, sha256 in pairs.sha256.items():
                found[name if found.get(name, sha256) == sha256 else f"{split}/{name}"] = sha256
        return found


def check_sources(options: PairOptions) -> None:
    """Raise `DataError` where the options contradict each other, before any file is looked for."""
    named = [n for names in (options.sources, options.targets, options.paths) for n in names.values() if n]
    if options.corpus == "multi30k":
        if named:
            raise DataError(
                "data.source, data.target and data.path are for data=pairs; multi30k has its own files"
            )
        if options.split is not None:
            raise DataError("data.split: multi30k comes with its own splits; leave data.split out")
    elif not (options.sources["train"] and options.targets["train"]):
        raise DataError(
            "data=pairs needs data.source=FILE and data.target=FILE, two text files whose lines correspond; or "
            "data.path=FILE.tsv (.csv, .parquet) with data.source and data.target naming its columns"
        )
    for split in ("valid", "test"):
        if bool(options.sources[split]) != bool(options.targets[split]):
            raise DataError(f"data.{split}_source and data.{split}_target: give both or none")
    if options.split is not None:
        check_fractions(options.split)
    if options.max_pairs is not None and options.max_pairs < 1:
        raise DataError(f"data.max_pairs={options.max_pairs}: give at least 1, or null for all")


def load_pairs(options: PairOptions, mirror: str | None = None, cache: str | None = None) -> PairCorpus:
    """Return the pairs of each split; `DataError` or `FetchError` say what is missing or wrong."""
    check_sources(options)
    notes: list[str] = []
    pairs = _multi30k(options.pair, mirror, cache) if options.corpus == "multi30k" else _own(options, notes)
    corpus = PairCorpus(pairs, notes)
    if len(corpus.pairs) == 1:
        _cut(corpus, options.split or DEFAULT_SPLIT)
    elif options.split is not None:
        raise DataError("data.split: the validation pairs have a file of their own; leave data.split out")
    if options.folds is not None and options.fold is not None:
        _take_fold(corpus, options.folds, options.fold)
    if options.max_pairs is not None:
        corpus.pairs["train"] = corpus.pairs["train"].part(0, options.max_pairs)
        corpus.notes.append(f"train: the first {len(corpus.pairs['train'].sources):,} pairs")
    _note_repeated(corpus)
    train = corpus.pairs["train"]
    if train.sources == train.targets:
        corpus.notes.append("source and target are the same in every pair of train: the task is to copy")
    return corpus


def _multi30k(pair: str, mirror: str | None, cache: str | None) -> dict[str, Pairs]:
    found = {}
    for split, name in MULTI30K.items():
        fetched = {f"multi30k/{name}.{language}.gz": None for language in pair.split("-")}
        files = {file: fetch(file, mirror=mirror, cache=cache) for file in fetched}
        source, target = (str(file.path) for file in files.values())
        sha256 = {name: file.sha256 for name, file in files.items()}
        found[split] = read_files("source", source, "target", target)._replace(sha256=sha256)
    return found


def _own(options: PairOptions, notes: list[str]) -> dict[str, Pairs]:
    """The pairs of the user's files: `path` with two columns, or two files a split."""
    found: dict[str, Pairs] = {}
    columns = options.sources["train"], options.targets["train"]
    for split in SPLITS:
        prefix = "" if split == "train" else f"{split}_"
        path, source, target = (names[split] for names in (options.paths, options.sources, options.targets))
        if options.paths["train"]:
            if split != "train" and source:
                raise DataError(
                    f"data.{prefix}source: with data.path the columns are named once; give data.{prefix}path"
                )
            if path and columns[0] and columns[1]:
                found[split] = read_table(f"data.{prefix}path", path, *columns, notes)  # type: ignore[arg-type]
        elif path:
            raise DataError(
                f"data.{prefix}path goes with data.path; give data.{prefix}source and data.{prefix}target"
            )
        elif source and target:
            found[split] = read_files(f"data.{prefix}source", source, f"data.{prefix}target", target, notes)
    if "test" in found and "valid" not in found:
        raise DataError("test pairs are given without validation pairs; give both, or neither")
    return found


def _cut(corpus: PairCorpus, split: list[float]) -> None:
    """Cut the one set of pairs, in its order, at the given fractions."""
    whole = corpus.pairs["train"]
    count = len(whole.sources)
    cuts = [0, *(round(fraction * count) for fraction in accumulate(split[:-1])), count]
    parts = {name: whole.part(a, b) for name, a, b in zip(SPLITS, cuts[:-1], cuts[1:], strict=False)}
    if empty := [name for name, pairs in parts.items() if not pairs.sources]:
        raise DataError(
            f"data.split={split}: the {empty[0]} split of {counted(count, 'pair')} is empty; give more pairs or "
            "other fractions"
        )
    corpus.pairs = parts
    sizes = ", ".join(f"{name} {len(pairs.sources):,}" for name, pairs in parts.items())
    corpus.notes.append(f"cut into {sizes} pairs, in their order")


def _take_fold(corpus: PairCorpus, folds: int, fold: int) -> None:
    """Replace the train and valid pairs by the fold's."""
    train, valid = corpus.pairs["train"], corpus.pairs["valid"]
    whole = Pairs(train.sources + valid.sources, train.targets + valid.targets, train.sha256 | valid.sha256)
    cuts = item_cuts(len(whole.sources), folds)
    start, stop = cuts[fold], cuts[fold + 1]
    before, after = whole.part(0, start), whole.part(stop, len(whole.sources))
    corpus.pairs |= {
        "train": before._replace(
            sources=before.sources + after.sources, targets=before.targets + after.targets
        ),
        "valid": whole.part(start, stop),
    }
    corpus.notes.append(
        f"data.fold={fold} of data.folds={folds}: valid is pairs {start:,} to {stop:,} of the {len(whole.sources):,} "
        "of train and valid"
    )


def _note_repeated(corpus: PairCorpus) -> None:
    """Tell how many pairs of the other splits were seen in training."""
    train = corpus.pairs["train"]
    seen = set(zip(train.sources, train.targets, strict=True))
    for split, pairs in corpus.pairs.items():
        repeated = sum(pair in seen for pair in zip(pairs.sources, pairs.targets, strict=True))
        if repeated and split != "train":
            corpus.notes.append(f"{split}: {repeated:,} of {len(pairs.sources):,} pairs are in train too")
