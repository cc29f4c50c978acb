"""Which examples train, validate and test: shares of every class, by a seed, or folds.

Parts are numbers: 0 train, 1 valid, 2 test, as in `SPLITS`; -1 where none is given yet. Dimensions: `n` examples.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gatelab.data.messages import DataError, counted, few
from gatelab.data.specs import SPLITS

TRAIN, VALID, TEST = range(3)
UNUSED = -1


def by_fractions(labels: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Return the part of each example: these fractions of every class, drawn from the seed, give or take one example.

    Every class has an example in the first part. labels: `[n]` int64.
    """
    draw = np.random.Generator(np.random.PCG64([seed, len(labels)]))
    ends = np.cumsum(fractions)[:-1]
    parts = np.zeros(len(labels), dtype=np.int8)
    for label in range(labels.max() + 1):
        own = draw.permutation(np.flatnonzero(labels == label))
        place = (np.arange(len(own)) + draw.random()) / max(len(own), 1)
        parts[own] = np.searchsorted(ends, place, side="right")
        if len(own) and not (parts[own] == TRAIN).any():
            parts[own[0]] = TRAIN
    return parts


def by_folds(labels: np.ndarray, folds: int, fold: int, seed: int) -> np.ndarray:
    """Return the part of each example: fold `fold` (from 0) of `folds` validates, the others train.

    Every class is dealt out in an order that is drawn from the seed; folds differ by at most one example.
    """
    if len(labels) < folds:
        raise DataError(f"data.folds={folds}: there are only {len(labels)} examples; give fewer folds")
    draw = np.random.Generator(np.random.PCG64([seed, len(labels)]))
    order = draw.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    parts = np.zeros(len(labels), dtype=np.int8)
    parts[order[np.arange(len(labels)) % folds == fold]] = VALID
    return parts


def complete_parts(
    labels: np.ndarray,
    given: np.ndarray,
    fractions: Sequence[float] | None,
    folds: int | None,
    fold: int | None,
    seed: int,
    notes: list[str],
    train_examples: int | None = None,
) -> np.ndarray:
    """Return the part of each example: as given, and where the data has no valid split by fractions or folds.

    given: `[n]`, -1 in data that comes without splits. fractions: None: [0.8, 0.1, 0.1], or [0.9, 0.1] of the training
    examples where a test split is given. folds: deal out everything but the test split. train_examples: keep so many
    of those that train, see `by_number`.
    """
    has_test, has_valid = bool((given == TEST).any()), bool((given == VALID).any())
    if fractions is not None:
        if has_valid:
            raise DataError("data.split: the data has splits of its own; leave data.split out")
        if has_test and len(fractions) != 2:
            raise DataError(
                f"data.split={list(fractions)}: the data has a test split; give fractions [train, valid] of the rest"
            )
    shares = list(fractions or ([0.9, 0.1] if has_test else [0.8, 0.1, 0.1]))
    parts = given.copy()
    pool = given != TEST
    if folds is not None and fold is not None:
        if not has_test and len(shares) == 3:  # the same for all folds
            pool = by_fractions(labels, [1 - shares[2], shares[2]], seed) == TRAIN
            parts[~pool] = TEST
        parts[pool] = by_folds(labels[pool], folds, fold, seed)
        valid, of = (parts == VALID).sum(), pool.sum()
        notes.append(
            f"data.fold={fold} of data.folds={folds}: valid is {valid:,} of the {of:,} examples before test"
        )
    elif not pool.any():
        raise DataError("all examples are in the test split; give some of them to train")
    elif not has_valid:
        parts[pool] = by_fractions(labels[pool], shares, seed)
        sizes = (f"{SPLITS[part]} {(parts[pool] == part).sum():,}" for part in range(len(shares)))
        notes.append(f"drawn from each class by data_seed {seed}: {', '.join(sizes)}")
    return parts if train_examples is None else by_number(labels, parts, train_examples, seed, notes)


def by_number(labels: np.ndarray, parts: np.ndarray, number: int, seed: int, notes: list[str]) -> np.ndarray:
    """Return the parts with `number` of the training examples alone, of each class in proportion and at least one.

    The others belong to no part (-1). They are drawn from the seed, so that of two numbers the smaller one's are among
    the larger one's.
    """
    train = np.flatnonzero(parts == TRAIN)
    classes = len(set(labels[train].tolist()))
    if not classes <= number <= len(train):
        raise DataError(
            f"data.train_examples={number}: give {classes} (one of each class) to {len(train):,} (all of them)"
        )
    draw = np.random.Generator(np.random.PCG64([seed, len(train)]))
    turn = np.empty(len(labels))
    for label in set(labels[train].tolist()):
        own = draw.permutation(train[labels[train] == label])
        turn[own] = (np.arange(len(own)) + draw.random()) / len(own)
        turn[own[0]] = -1
    kept = train[np.argsort(turn[train], kind="stable")[:number]]
    notes.append(f"data.train_examples={number}: drawn from {len(train):,} by data_seed {seed}")
    fewer = np.where(parts == TRAIN, UNUSED, parts).astype(parts.dtype)
    fewer[kept] = TRAIN
    return fewer


def check_parts(
    labels: np.ndarray, parts: np.ndarray, classes: Sequence[str], rows: Sequence[str], notes: list[str]
) -> None:
    """Raise `DataError` where a split is empty or has a class that training has not; note classes of few examples.

    rows: where each example stands, in words, for messages.
    """
    if len(classes) < 2:
        raise DataError(f"all examples have the label {classes[0]!r}; give at least two classes")
    if 2 * len(classes) > len(labels):
        raise DataError(
            f"{len(classes):,} different labels for {counted(len(labels), 'example')} ({few(classes)}): give the "
            "column of the classes as data.label; a number to be predicted is no class"
        )
    for part in (TRAIN, VALID):
        if not (parts == part).any():
            raise DataError(
                f"the {SPLITS[part]} split is empty; give it examples of its own, or more to share out by data.split"
            )
    trained = set(labels[parts == TRAIN].tolist())
    unseen = [i for i, label in enumerate(labels.tolist()) if label not in trained]
    if unseen:
        first = unseen[0]
        names = [classes[i] for i in dict.fromkeys(labels[unseen].tolist())]
        raise DataError(
            f"{few([repr(name) for name in names])}: no training example has that label (first in {rows[first]}, "
            f"{SPLITS[parts[first]]}); give it some, or take these {counted(len(unseen), 'example')} out"
        )
    there = [part for part in range(3) if (parts == part).any()]
    counts = Counter(zip(labels.tolist(), parts.tolist(), strict=True))
    for part in there[1:]:
        lacking = [
            f"{name!r} ({counted(sum(counts[label, p] for p in there), 'example')})"
            for label, name in enumerate(classes)
            if not counts[label, part]
        ]
        if lacking:
            notes.append(f"no example of {few(lacking)} in {SPLITS[part]}")
