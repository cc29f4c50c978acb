"""Every class is shared out by itself, folds are a partition, and what cannot be shared out is named."""

import numpy as np
import pytest

from gatelab.data.labelled.split import (
    TEST,
    TRAIN,
    UNUSED,
    VALID,
    by_folds,
    by_fractions,
    check_parts,
    complete_parts,
)
from gatelab.data.messages import DataError

LABELS = np.repeat([0, 1, 2], [100, 40, 10])
UNGIVEN = np.full(150, -1, dtype=np.int8)


def shares(labels=LABELS, given=UNGIVEN, fractions=None, folds=None, fold=None, seed=0):
    return complete_parts(labels, given, fractions, folds, fold, seed, [])


def test_fractions_hold_in_every_class():
    parts = by_fractions(LABELS, [0.8, 0.1, 0.1], seed=3)
    for label, count in enumerate((100, 40, 10)):
        own = parts[label == LABELS]
        assert [(own == part).sum() for part in (TRAIN, VALID, TEST)] == [0.8 * count, count / 10, count / 10]


def test_the_seed_decides_alone():
    assert (shares(seed=1) == shares(seed=1)).all()
    assert (shares(seed=1) != shares(seed=2)).any()


def test_every_class_is_in_training_however_small():
    for seed in range(20):
        parts = by_fractions(np.arange(30), [0.5, 0.5], seed)
        assert (parts == TRAIN).all()


def test_folds_are_a_partition_and_leave_the_test_split_alone():
    found = [shares(folds=4, fold=k) for k in range(4)]
    tests = found[0] == TEST
    assert tests.sum() == 15
    assert all(((parts == TEST) == tests).all() for parts in found)
    valid = np.stack([parts == VALID for parts in found]).sum(0)
    assert (valid[~tests] == 1).all()
    sizes = [(by_folds(LABELS, 4, k, 0) == VALID).sum() for k in range(4)]
    assert max(sizes) - min(sizes) <= 1


def test_a_given_split_stays_and_a_missing_one_is_cut_from_training():
    given = UNGIVEN.copy()
    given[::3] = TEST
    parts = shares(given=given)
    assert (parts[::3] == TEST).all()
    assert (parts[given != TEST] != TEST).all()
    assert (parts == VALID).sum() == pytest.approx(10, abs=2)
    with pytest.raises(DataError, match=r"the data has a test split; give fractions \[train, valid\]"):
        shares(given=given, fractions=[0.8, 0.1, 0.1])
    with pytest.raises(DataError, match="has splits of its own"):
        shares(given=np.full(150, VALID, np.int8), fractions=[0.8, 0.2])


def checked(labels, parts, classes=("a", "b", "c")):
    notes = []
    rows = [f"row {i + 1}" for i in range(len(labels))]
    check_parts(np.array(labels), np.array(parts), classes, rows, notes)
    return notes


def test_a_label_that_training_has_not_is_named_with_its_row():
    with pytest.raises(DataError, match=r"'c': no training example has that label \(first in row 5, valid\)"):
        checked([0, 0, 1, 1, 2, 0, 1], [0, 1, 0, 0, 1, 2, 0])


def test_a_class_with_one_example_is_told():
    (note,) = checked([0, 0, 1, 1, 2, 0, 1], [0, 1, 0, 1, 0, 0, 0])
    assert note == "no example of 'c' (1 example) in valid"


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(DataError, match="3 different labels for 4 examples"):
        checked([0, 1, 2, 2], [0, 0, 0, 1])
    with pytest.raises(DataError, match="all examples have the label 'a'"):
        checked([0, 0, 0], [0, 0, 1], ("a",))


def test_a_number_of_training_examples_keeps_every_class_and_the_other_splits():
    labels = np.array([0] * 70 + [1] * 27 + [2] * 3)
    given = np.where(np.arange(100) % 10 == 9, TEST, UNUSED).astype(np.int8)
    whole, notes = complete_parts(labels, given, None, None, None, 5, []), []
    fewer = complete_parts(labels, given, None, None, None, 5, notes, 20)
    assert ((whole == fewer) | (whole == TRAIN)).all()
    assert (fewer == TRAIN).sum() == 20
    assert [int(((fewer == TRAIN) & (labels == label)).sum()) for label in range(3)] == [14, 5, 1]
    smaller = complete_parts(labels, given, None, None, None, 5, [], 8)
    assert set(np.flatnonzero(smaller == TRAIN)) < set(np.flatnonzero(fewer == TRAIN))
    other = complete_parts(labels, given, None, None, None, 6, [], 20)
    assert (other != fewer).any()
    assert "data.train_examples=20: drawn from 80 by data_seed 5" in notes


@pytest.mark.parametrize("number", [2, 82])
def test_more_training_examples_than_there_are_and_fewer_than_classes_are_refused(number):
    labels = np.array([0] * 70 + [1] * 27 + [2] * 3)
    given = np.where(np.arange(100) % 10 == 9, TEST, UNUSED).astype(np.int8)
    with pytest.raises(DataError, match=rf"data.train_examples={number}: give 3 .* to 80"):
        complete_parts(labels, given, None, None, None, 5, [], number)
