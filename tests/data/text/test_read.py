"""A text that is read in parts has the tokens of the whole text, at every level and however its bytes arrive."""

import pytest
import torch

from gatelab.data.messages import DataError
from gatelab.data.text import encoded
from gatelab.data.text.encoded import encoded_parts
from gatelab.data.text.tokenizer import ByteTokenizer, train_tokenizer

TEXT = (
    "one  two three\nna\u00efve caf\u00e9 \u4e00\u4e8c\ttab\n\n" * 9
    + "no end of a line " * 20
    + "two \n  \nend"
)


def blocks(raw, size):
    return [raw[i : i + size] for i in range(0, len(raw), size)]


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("level", ["word", "char", "bpe"])
def test_the_parts_together_are_the_text(level, size, monkeypatch):
    monkeypatch.setattr(encoded, "PART", 40)
    tokenizer = train_tokenizer(level, TEXT, 300 if level == "bpe" else None)
    raw = TEXT.replace("\n", "\r\n").encode()
    parts = list(encoded_parts([b"\xef\xbb\xbf", *blocks(raw, size)], tokenizer, "it"))
    assert "".join(text for text, _ in parts) == TEXT
    assert torch.equal(torch.cat([ids for _, ids in parts]), tokenizer.encode(TEXT))
    if size == 1:
        assert max(len(text) for text, _ in parts) <= 40


def test_a_byte_is_a_token_whatever_it_is():
    raw = bytes(range(256)) + b"\r\n\xff"
    ids = torch.cat([ids for _, ids in encoded_parts(blocks(raw, 7), ByteTokenizer(), "it")])
    assert ids.tolist() == list(raw)


def test_a_text_is_not_held_while_it_is_read(monkeypatch):
    monkeypatch.setattr(encoded, "PART", 1000)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield b"a line of text\n" * 10

    parts = encoded_parts(endless(), train_tokenizer("char", "a line of text\n"), "it")
    for _, (text, _) in zip(range(5), parts, strict=False):
        assert len(text) <= 1150
    assert taken < 50


@pytest.mark.parametrize("level", ["word", "char", "bpe"])
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "no token"),
        (b"\xef\xbb\xbf", "no token"),
        (b"fine\nand\nn\xe4\n", r"it: line 3 is not UTF-8 \(byte 10 is 0xe4\)"),
        (b"cut off \xe4\xb8", "line 1 is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(level, raw, message):
    tokenizer = train_tokenizer(level, TEXT, 300 if level == "bpe" else None)
    with pytest.raises(DataError, match=message):
        list(encoded_parts(blocks(raw, 3), tokenizer, "it"))


def test_white_space_is_no_word():
    with pytest.raises(DataError, match="no token"):
        list(encoded_parts([b"  \t "], train_tokenizer("word", TEXT), "it"))
