"""Tokenizers: text survives the round trip, ids the serialisation, and unknown input is never silent."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.messages import DataError
from gatelab.data.text.tokenizer import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    tokenizer_from_dict,
    train_tokenizer,
)

TEXT = "the cat sat\non the mat\n\nthe end <unk> naïve 猫\n"


@pytest.fixture(params=["word", "char", "bpe"])
def tokenizer(request) -> Tokenizer:
    return train_tokenizer(request.param, TEXT, 300 if request.param == "bpe" else None)


def test_training_text_survives_the_round_trip(tokenizer):
    ids = tokenizer.encode(TEXT)
    assert ids.dtype == torch.int64
    assert 0 <= int(ids.min()) <= int(ids.max()) < tokenizer.size
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.decode(ids.tolist()) == TEXT


def test_plain_data_gives_the_same_tokenizer_back(tokenizer):
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert (again.level, again.size, again.seed_token) == (
        tokenizer.level,
        tokenizer.size,
        tokenizer.seed_token,
    )
    assert torch.equal(again.encode("the end\nmat"), tokenizer.encode("the end\nmat"))


def test_empty_text_is_no_token(tokenizer):
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("").dtype == torch.int64


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_bpe_expresses_any_text(text):
    encoder = BPETokenizer.train(TEXT, 260)
    assert encoder.decode(encoder.encode(text)) == text


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_characters_encode_one_to_one(text):
    encoder = CharTokenizer.train(text, open_vocabulary=False)
    assert len(encoder.encode(text)) == len(text)
    assert encoder.decode(encoder.encode(text)) == text


def test_bpe_training_is_repeatable():
    assert BPETokenizer.train(TEXT * 3, 290).to_dict() == BPETokenizer.train(TEXT * 3, 290).to_dict()


def test_bpe_never_makes_the_seed_token_from_text():
    encoder = BPETokenizer.train(TEXT, 260)
    assert encoder.seed_token not in encoder.encode("a <eos> b").tolist()


def test_bpe_needs_room_for_all_bytes():
    with pytest.raises(DataError, match=r"vocabulary_size=100.*257"):
        BPETokenizer.train(TEXT, 100)


def test_every_newline_is_one_eos():
    words = WordTokenizer.train("a b\n\nc\n")
    assert words.encode("a b\n\nc\n").tolist().count(words.seed_token) == 3
    assert words.symbols[words.seed_token] == "<eos>"


def test_unknown_words_and_characters_become_the_unknown_token():
    words, characters = WordTokenizer.train("a b\n"), CharTokenizer.train("ab\n")
    assert words.decode(words.encode("a zebra")) == "a <unk>"
    assert characters.decode(characters.encode("aé")) == "a\ufffd"


def test_without_an_unknown_token_the_stranger_is_named():
    words = WordTokenizer.train("a b\n", open_vocabulary=False)
    characters = CharTokenizer.train("ab\n", open_vocabulary=False)
    with pytest.raises(DataError, match="'zebra'"):
        words.encode("a zebra")
    with pytest.raises(DataError, match=r"'é' .first at position 1"):
        characters.encode("aéa")


def test_size_keeps_the_most_frequent_and_the_special_words():
    words = WordTokenizer.train("a a a b b c\n", 4)
    assert sorted(words.symbols) == ["<eos>", "<unk>", "a", "b"]
    assert words.size == 4


def test_ids_go_by_falling_frequency():
    assert WordTokenizer.train("b a a c c c\n", open_vocabulary=False).symbols[-3:] == ["c", "a", "b"]


def test_unknown_levels_are_refused():
    with pytest.raises(DataError, match=r"data\.level='syllable'"):
        train_tokenizer("syllable", TEXT)
    with pytest.raises(DataError, match="'level' is None"):
        tokenizer_from_dict({})
