"""A score of text with unknown words or characters says their share; bits per character are those of the whole text."""

import math

import pytest

from gatelab.data.messages import DataError
from gatelab.data.text.module import TextDataModule

WORDS = "".join(f"w{n % 7} w{n * n % 11}\n" for n in range(600))


def module(tmp_path, text, **options):
    (tmp_path / "t.txt").write_text(text)
    data = TextDataModule("text", path=str(tmp_path / "t.txt"), cache=str(tmp_path / "cache"), **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize("size", [None, 8, 5, 2])
def test_the_share_of_unknown_words_stands_beside_the_score_in_the_place_of_bits(tmp_path, size):
    data = module(tmp_path, WORDS, vocabulary_size=size)
    known = set(data.tokenizer.symbols)
    for split in ("valid", "test"):
        for scores in data.baselines(split).values():
            assert ("bpc" in scores) == (size is None)
            assert ("unknown" in scores) == (size is not None)
        assert (data.spec.unknown[split] > 0) == (size is not None)
    assert any("outside the vocabulary" in note for note in data.notes) == (size is not None)
    assert len(known) == data.spec.vocabulary


def test_a_word_that_is_spelt_as_the_unknown_one_is_known(tmp_path):
    data = module(tmp_path, WORDS.replace("w3", "<unk>"))
    assert not any(data.spec.unknown.values())
    assert "bpc" in data.baselines("test")["unigram"]


@pytest.mark.parametrize("strange", ["\u00e9", "\u00e9\u4e00\U0001f600" * 20])
def test_unknown_characters_cost_what_it_takes_to_tell_which(tmp_path, strange):
    """The bits are those of a code that gives the text back, so a smaller vocabulary does not look better."""
    data = module(tmp_path, WORDS + strange, level="char")
    tokens = data.spec.tokens["test"]
    assert data.spec.unknown == {"train": 0, "valid": 0, "test": len(strange)}
    for scores in data.baselines("test").values():
        assert scores["unknown"] == pytest.approx(len(strange) / tokens)
        telling = len(strange) * math.log2(1_112_064) / tokens
        assert scores["bpc"] == pytest.approx(scores["loss"] / math.log(2) + telling)
    assert "unknown" not in data.baselines("valid")["unigram"]
    bits = [
        module(tmp_path, WORDS, level="char", vocabulary_size=size).baselines("test")["unigram"]["bpc"]
        for size in (None, 8, 5, 2)
    ]
    assert bits == sorted(bits)


def test_pieces_of_bytes_express_every_text(tmp_path):
    data = module(tmp_path, WORDS + "\u00e9\u4e00", level="bpe", vocabulary_size=260)
    assert not any(data.spec.unknown.values())
    assert "bpc" in data.baselines("test")["bigram"]


@pytest.mark.parametrize("level", ["word", "char", "bpe"])
@pytest.mark.parametrize(
    "text", ["", "a", "\n", " " * 500, "\t \u3000" * 90, "\u4e00" * 400, "ab", "a b", " a" + " " * 300]
)
def test_a_text_that_is_too_short_to_learn_from_is_refused_in_words(tmp_path, level, text):
    refused = ""
    try:
        data = module(tmp_path, text, level=level)
        for split in ("valid", "test"):
            data.baselines(split)
    except DataError as error:
        refused = str(error)
    assert refused == "" or ("text" in refused and len(refused) < 400)
    assert refused or len(text) > 200
