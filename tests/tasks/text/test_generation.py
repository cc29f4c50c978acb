"""Text shown while it is drawn is the text of all its tokens, up to the first stop; options are checked alone."""

import pytest
import torch

from gatelab.data.text.tokenizer import BPETokenizer, CharTokenizer, WordTokenizer
from gatelab.tasks.text.generation import Continuation, Generation, continuations

WORDS = WordTokenizer.train("a bc a d\nbc d\n")
PIECES = BPETokenizer.train("caf\u00e9 na\u00efve \u4e00\u4e8c\n" * 20, 262)


def written(tokenizer, ids, stop=()):
    """The parts that are shown one after another, and the text."""
    text, parts = Continuation(tokenizer, stop), []
    for token in ids:
        text.add(token)
        parts.append(text.new())
    text.finish()
    parts.append(text.new(last=True))
    return parts, text


@pytest.mark.parametrize("tokenizer", [WORDS, PIECES, CharTokenizer.train("abc\u00e9\n")])
def test_token_after_token_is_the_text_of_all(tokenizer):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # pieces of random bytes are seldom valid UTF-8
        ids = torch.randint(tokenizer.size, (40,), generator=generator).tolist()
        parts, text = written(tokenizer, ids)
        assert text.text == "".join(parts) == tokenizer.decode(ids)
        assert not text.ended


def test_a_character_of_several_bytes_is_shown_when_it_is_whole():
    ids = PIECES.encode("\U0001f600!").tolist()
    parts, _ = written(PIECES, ids)
    assert len(ids) == 5
    assert [part for part in parts if part] == ["\U0001f600", "!"]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (["d"], "a bc a "),
        (["\nbc"], "a bc a d"),
        (["bc d", "c a"], "a b"),
        (["a d", "d"], "a bc "),
        (["x"], "a bc a d\nbc d"),
        (["d\nbcd"], "a bc a d\nbc d"),
        (["bc d\n"], "a bc a d\nbc d"),
    ],
)
def test_the_first_stop_ends_the_text_and_nothing_of_it_is_ever_shown(stop, expected):
    parts, text = written(WORDS, WORDS.encode("a bc a d\nbc d"), stop)
    assert "".join(parts) == text.text == expected
    assert text.ended == (len(expected) < len("a bc a d\nbc d"))


LETTERS = CharTokenizer(["a", "b", "c", "d", "e", "\n"])


class Alphabet(torch.nn.Module):
    """After a letter comes the next one."""

    def forward(self, tokens, state=None):
        return 50.0 * torch.nn.functional.one_hot((tokens + 1) % LETTERS.size, LETTERS.size), state


def test_every_sample_stops_by_itself_and_the_first_is_shown():
    start, shown = LETTERS.encode("a"), []
    texts = continuations(
        Alphabet(), LETTERS, start, Generation(tokens=9, n=2, stop=["e", "d\n"]), shown.append
    )
    assert texts == ["bcd", "bcd"]
    assert "".join(shown) == "bcd"
    for options, expected in (
        ({"beam": 3, "stop": ["d"]}, ["bc"]),
        ({"beam": 3, "tokens": 2}, ["bc"]),
        ({"tokens": 0, "n": 2}, ["", ""]),
        ({"tokens": 0, "beam": 2}, [""]),
    ):
        assert continuations(Alphabet(), LETTERS, start, Generation(**options)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": -1}, "tokens must be at least 0"),
        ({"n": 0}, "n must be at least 1"),
        ({"stop": ["a", ""]}, "none of them empty"),
        ({"stop": "a"}, "list of texts"),
        ({"temperature": -1.0}, "temperature"),
        ({"min_p": 2.0}, "min_p"),
        ({"beam": 0}, "beam must be at least 1"),
        ({"beam": 3, "temperature": 0.7, "top_p": 0.9}, "leave temperature, top_p out"),
        ({"beam": 3, "min_p": 0.1, "n": 2, "repetition_penalty": 1.2}, "min_p, repetition_penalty, n out"),
        ({"n": 2, "temperature": 0.0}, "n=2 texts would be equal"),
        ({"seed": 2**64}, "seed"),
        ({"topk": 3}, "Did you mean 'top_k'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        Generation.of(options)
