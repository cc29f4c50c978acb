"""Folds: blocks that partition the data exactly, pasts that never hold their future, refusals that name the keys."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.folds import check_folds, fold_of_text, item_cuts, rolling_cuts, text_cuts
from gatelab.data.messages import DataError

TEXTS = st.one_of(
    st.text("ab \n", min_size=60, max_size=600),  # many short lines
    st.text("ab ", min_size=60, max_size=600),  # one line of words
    st.text("ab", min_size=60, max_size=600),  # nowhere to cut
)


@given(rows=st.integers(20, 5000), folds=st.integers(2, 12))
@settings(max_examples=150, deadline=None)
def test_rolling_blocks_are_equal_adjoin_and_end_where_the_test_split_begins(rows, folds):
    try:
        cuts = rolling_cuts(rows, folds, lookback=3, horizon=2, season=4)
    except DataError:
        assert rows // (folds + 1) < 5
        return
    assert len(cuts) == folds + 1
    assert set(np.diff(cuts)) == {rows // (folds + 1)}
    assert cuts[-1] == rows
    # what the division leaves over is trained on, by all
    assert cuts[0] == rows // (folds + 1) + rows % (folds + 1)


def test_rolling_cuts_are_rounded_as_published():
    # sklearn.model_selection.TimeSeriesSplit(3): trains on the rows before 4, 6, 8 of 10
    assert rolling_cuts(10, 3, lookback=1, horizon=1, season=1) == [4, 6, 8, 10]


@given(
    rows=st.integers(10, 800),
    folds=st.integers(2, 20),
    lookback=st.integers(1, 60),
    horizon=st.integers(1, 60),
    season=st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_folds_are_refused_exactly_when_a_part_is_too_short_and_the_advice_works(
    rows, folds, lookback, horizon, season
):
    block = rows // (folds + 1)
    enough = rows - folds * block >= max(lookback + horizon, season + 1) and block >= horizon
    sizes = {"lookback": lookback, "horizon": horizon, "season": season}
    if enough:
        assert rolling_cuts(rows, folds, **sizes)[0] == rows - folds * block
        return
    with pytest.raises(DataError, match=rf"data\.folds={folds}: .*data\.lookback={lookback}") as error:
        rolling_cuts(rows, folds, **sizes)
    if advised := re.search(r"; data\.folds=(\d+) fits", str(error.value)):
        most = int(advised[1])
        assert 2 <= most < folds
        rolling_cuts(rows, most, **sizes)
    else:
        with pytest.raises(DataError):
            rolling_cuts(rows, 2, **sizes)


@given(text=TEXTS, folds=st.integers(2, 10))
@settings(max_examples=200, deadline=None)
def test_blocks_of_text_partition_it_and_are_of_near_equal_size(text, folds):
    cuts = text_cuts(text, folds)
    assert "".join(text[a:b] for a, b in pairwise(cuts)) == text
    share = len(text) / folds
    assert all(0.5 * share - 1 <= size <= 1.5 * share + 1 for size in np.diff(cuts))


@given(text=TEXTS, folds=st.integers(2, 10), data=st.data())
@settings(max_examples=100, deadline=None)
def test_the_block_and_the_pieces_are_the_whole_text_and_share_nothing(text, folds, data):
    fold = data.draw(st.integers(0, folds - 1))
    pieces, valid, _ = fold_of_text(text, folds, fold)
    before, after = (["", *pieces] if fold == 0 else [*pieces, ""])[:2]
    assert before + valid + after == text
    assert len(pieces) == (1 if fold in (0, folds - 1) else 2)


@given(
    words=st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=100, max_size=300), folds=st.integers(2, 5)
)
@settings(max_examples=50, deadline=None)
def test_a_cut_never_divides_a_line_or_word_that_is_short(words, folds):
    lines = "".join(f"{word}\n" for word in words)
    assert all(lines[cut - 1] == "\n" for cut in text_cuts(lines, folds)[1:])
    line = " ".join(words) + "\n"
    assert all(line[cut - 1] in " \n" for cut in text_cuts(line, folds)[1:])


@given(items=st.integers(2, 300), folds=st.integers(2, 20))
def test_blocks_of_items_partition_them_evenly(items, folds):
    if items < folds:
        with pytest.raises(DataError, match=rf"data\.folds={folds}"):
            item_cuts(items, folds)
        return
    sizes = np.diff(item_cuts(items, folds))
    assert sizes.sum() == items
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(
    ("folds", "fold", "message"),
    [
        (3, None, r"data\.folds=3 without data\.fold: .* data\.fold=0 to 2"),
        (None, 1, r"data\.fold=1 without data\.folds: give data\.folds"),
        (1, 0, r"data\.folds=1: give at least 2"),
        (0, 0, r"data\.folds=0: give at least 2"),
        (3, 3, r"data\.fold=3: .* data\.folds=3 has data\.fold=0 to 2"),
        (3, -1, r"data\.fold=-1: .* data\.fold=0 to 2"),
    ],
)
def test_bad_folds_are_named(folds, fold, message):
    with pytest.raises(DataError, match=message):
        check_folds(folds, fold)


def test_a_text_too_short_for_its_folds_is_refused():
    with pytest.raises(DataError, match=r"data\.folds=9: 30 characters"):
        text_cuts("x" * 30, 9)
