"""BPE-dropout: BPE itself where nothing is left out, always the same text, and as often apart as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.messages import DataError
from gatelab.data.text.bpe_dropout import BPEDropout, check_bpe_dropout
from gatelab.data.text.tokenizer import BPETokenizer

CORPUS = "the dog and the small stone\nthe tree's, not these: the tall men; théâtre, naïve\n" * 20
TOKENIZER = BPETokenizer.train(CORPUS, 320)


def draw(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text() | st.lists(st.sampled_from(CORPUS.split())).map(" ".join))
def test_nothing_left_out_is_bpe_itself(text):
    assert BPEDropout(TOKENIZER, 0.0).encode(text, draw()).tolist() == TOKENIZER.encode(text).tolist()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 99), st.integers(0, 9))
def test_the_pieces_give_the_same_text_whatever_is_left_out(text, percent, seed):
    assert TOKENIZER.decode(BPEDropout(TOKENIZER, percent / 100).encode(text, draw(seed))) == text


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_merge_is_left_out_with_probability_p(p):
    pair = BPETokenizer.train("ab\n" * 9, 258)  # every byte, the end, and one piece
    text, n = "ab\n", 20_000
    dropout, dice = BPEDropout(pair, p), draw()
    whole = len(pair.encode(text))
    apart = sum(len(dropout.encode(text, dice)) > whole for _ in range(n))
    assert abs(apart / n - p) < 5 * np.sqrt(p * (1 - p) / n)


def test_a_word_has_many_spellings_and_mostly_its_own():
    dropout, dice = BPEDropout(TOKENIZER, 0.1), draw()
    found = [tuple(dropout.encode(" the", dice).tolist()) for _ in range(500)]
    assert len(set(found)) > 2
    assert max(set(found), key=found.count) == tuple(TOKENIZER.encode(" the").tolist())


@pytest.mark.parametrize(("p", "level"), [(1.0, "bpe"), (-0.1, "bpe"), (float("nan"), "bpe"), (0.1, "word")])
def test_what_cannot_be_is_refused_by_its_key(p, level):
    with pytest.raises(DataError, match=r"data\.bpe_dropout="):
        check_bpe_dropout(p, level)
