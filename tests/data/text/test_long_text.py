"""A text that is read in pieces is cut, searched and encoded like the same text in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.folds import fold_of_text
from gatelab.data.text import long_text
from gatelab.data.text.long_text import LongText
from gatelab.data.text.module import TextDataModule
from gatelab.data.text.tokenizer import train_tokenizer

TEXTS = st.lists(st.text(alphabet="ab \n\té猫", max_size=12), max_size=8)
NUMBERS = st.integers(-40, 100)


def read(pieces: list[str]) -> LongText:
    return LongText(lambda: iter(pieces))


@given(pieces=TEXTS, start=NUMBERS, end=NUMBERS, mark=st.sampled_from("a\n "))
@settings(max_examples=150, deadline=None)
def test_it_behaves_as_the_str(pieces, start, end, mark):
    text, long = "".join(pieces), read(pieces)
    assert (len(long), str(long)) == (len(text), text)
    part = long[start:end]
    assert (len(part), str(part)) == (len(text[start:end]), text[start:end])
    assert long.find(mark, abs(start), abs(end)) == text.find(mark, abs(start), abs(end))
    assert str(LongText.joined([part, long])) == text[start:end] + text


@given(pieces=TEXTS, most=st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_chunks_are_the_text_and_end_at_lines_where_one_ends(pieces, most):
    text = "".join(pieces)
    chunks = list(read(pieces).chunks(most))
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= most for chunk in chunks)
    for chunk in chunks[:-1]:
        assert chunk.endswith("\n") or "\n" not in chunk


@pytest.mark.parametrize("level", ["word", "char", "bpe"])
@pytest.mark.parametrize("most", [40, 200])
def test_tokens_and_vocabulary_do_not_depend_on_the_chunks(level, most):
    text = "".join(f"the {n % 13} quick foxes λ" + "\n" * (n % 3 > 0) for n in range(300))
    size = 300 if level == "bpe" else None
    whole = train_tokenizer(level, text, size)
    long = LongText.of(text)
    chunked = train_tokenizer(level, long.chunks(most), size)
    assert chunked.to_dict() == whole.to_dict()
    assert torch.equal(torch.cat([whole.encode_chunk(c) for c in long.chunks(most)]), whole.encode(text))


@pytest.mark.parametrize("fold", range(4))
def test_folds_are_those_of_the_str(fold):
    text = "".join(f"line {n}\n" for n in range(99))
    pieces, valid, note = fold_of_text(text, 4, fold)
    found = fold_of_text(LongText(lambda: iter(text.splitlines(keepends=True))), 4, fold)
    assert ([str(piece) for piece in found[0]], str(found[1]), found[2]) == (pieces, valid, note)


@pytest.mark.parametrize("level", ["word", "char", "byte"])
def test_a_corpus_in_many_chunks_is_the_one_in_one(tmp_path, monkeypatch, level):
    (tmp_path / "t.txt").write_text("".join(f"the {n % 17} foxes λ\n" for n in range(400)))
    found = []
    for chunk in (64, 1 << 22):
        monkeypatch.setattr(LongText.chunks, "__defaults__", (chunk,))
        monkeypatch.setenv("GATELAB_DERIVED", "off")
        data = TextDataModule("text", level, path=str(tmp_path / "t.txt"), folds=3, fold=1)
        data.setup()
        tokens = {split: ids.tolist() for split, ids in data.tokens.items()}
        found.append((tokens, data.spec, data.boundaries, data.notes))
    assert found[0] == found[1]
    assert long_text.CHUNK == 1 << 22
