"""Corpora: the published token counts exactly, splits that lose nothing, refusals that name the option or file."""

import hashlib

import pytest

from gatelab.data.messages import DataError
from gatelab.data.text.corpora import TextOptions, load_corpus, mikolov_characters, stdlib_text
from gatelab.data.text.module import TextDataModule

NO_PATHS = {"train": None, "valid": None, "test": None}

PUBLISHED = {
    ("ptb_word", "word"): (10_000, {"train": 929_589, "valid": 73_760, "test": 82_430}),
    ("ptb_char", "char"): (50, {"train": 5_017_482, "valid": 393_042, "test": 442_423}),
    ("wikitext2", "word"): (33_278, {"train": 2_088_628, "valid": 217_646, "test": 245_569}),
    ("tinyshakespeare", "char"): (65, {"train": 1_003_854, "valid": 111_540}),
}


@pytest.mark.parametrize(
    ("corpus", "level"),
    [pytest.param(*c, marks=[pytest.mark.slow] * (c[0] == "wikitext2")) for c in PUBLISHED],  # the largest
)
def test_token_counts_are_the_published_ones(mirror, corpus, level):
    data = TextDataModule(corpus=corpus, level=level, mirror=str(mirror))
    data.setup()
    vocabulary, tokens = PUBLISHED[corpus, level]
    assert data.spec.vocabulary == vocabulary
    assert data.spec.tokens == tokens
    assert data.splits == tuple(tokens)
    assert all(len(sha256) == 64 for sha256 in data.fingerprint.values())


def test_mikolov_characters():
    assert mikolov_characters(" no it was n't \n black <unk> \n") == "no_it_was_n't\nblack_<unk>\n"


def test_standard_library_text_is_the_same_twice_and_all_python():
    text, modules = stdlib_text()
    assert text == stdlib_text()[0]
    assert modules > 100
    assert "class ABCMeta" in text


def test_embedded_corpus_needs_nothing_and_carries_its_hash():
    data = TextDataModule(corpus="stdlib", level="char", max_characters=200_000)
    data.setup()
    assert sum(data.spec.tokens.values()) == 200_000
    assert data.fingerprint == {"stdlib": hashlib.sha256(stdlib_text()[0].encode()).hexdigest()}
    assert any("200,000" in note for note in data.notes)


def test_one_file_is_cut_at_line_ends_and_nothing_is_lost(tmp_path):
    text = "".join(f"line {i}\n" for i in range(100))
    (tmp_path / "a.txt").write_text(text)
    corpus = load_corpus(TextOptions("text", "word", NO_PATHS | {"train": str(tmp_path / "a.txt")}))
    assert list(corpus.text) == ["train", "valid", "test"]
    assert "".join(map(str, corpus.text.values())) == text
    assert all(str(part).endswith("\n") for part in corpus.text.values())


def test_separate_files_are_taken_as_they_are(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"text {name}\n")
    paths = {"train": str(tmp_path / "a"), "valid": str(tmp_path / "b"), "test": None}
    corpus = load_corpus(TextOptions("text", "char", paths))
    assert {split: str(text) for split, text in corpus.text.items()} == {
        "train": "text a\n",
        "valid": "text b\n",
    }
    assert set(corpus.fingerprint) == {"a", "b"}
    with pytest.raises(DataError, match=r"data\.split"):
        load_corpus(TextOptions("text", "char", paths, split=[0.5, 0.5]))


def test_line_ends_and_byte_order_mark_do_not_matter(tmp_path):
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\nfour\r\n")
    (tmp_path / "unix.txt").write_bytes(b"one\ntwo\nthree\nfour\n")
    texts = [
        load_corpus(TextOptions("text", "char", NO_PATHS | {"train": str(tmp_path / name)}, [0.5, 0.5])).text
        for name in ("windows.txt", "unix.txt")
    ]
    assert [[str(part) for part in text.values()] for text in texts] == [["one\ntwo\nthree\n", "four\n"]] * 2


@pytest.mark.parametrize("level", ["word", "char", "bpe"])
def test_any_text_file_at_any_level(tmp_path, level):
    (tmp_path / "my.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 60)
    data = TextDataModule(
        "text", level, path=str(tmp_path / "my.txt"), vocabulary_size=300 if level == "bpe" else None
    )
    data.setup()
    assert sum(data.spec.characters.values()) == 44 * 60
    assert data.spec.level == level


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": "text"}, r"needs data\.path"),
        ({"corpus": "text", "path": "no_such.txt"}, r"data\.path=no_such\.txt: there is no such file"),
        ({"corpus": "stdlib", "path": "x"}, r"data\.path is for data=text"),
        ({"corpus": "ptb_char", "level": "word"}, "ptb_char is read at level char only"),
        ({"corpus": "stdlib", "split": [0.5, 0.6]}, r"data\.split=\[0\.5, 0\.6\]"),
        ({"corpus": "stdlib", "max_characters": 0}, r"data\.max_characters=0"),
        ({"corpus": "stdlib", "max_characters": 5}, "split is empty"),
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"window": 0}, r"data\.window=0"),
        ({"burn_in": -1}, r"data\.burn_in=-1"),
        ({"num_workers": -1}, r"data\.num_workers=-1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        TextDataModule(**{"level": "char"} | options).setup()


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "latin.txt").write_bytes("fine\nnaïve\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt: line 2 is not UTF-8"):
        load_corpus(TextOptions("text", "char", NO_PATHS | {"train": str(tmp_path / "latin.txt")}))
