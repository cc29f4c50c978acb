"""The perplexity of a text is that of its tokens, each scored once, for every window, level and head."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from gatelab.core.gru import GRU
from gatelab.core.text.language_model import LanguageModel
from gatelab.data.specs import CODE_POINTS
from gatelab.data.text import encoded
from gatelab.data.text.tokenizer import train_tokenizer
from gatelab.tasks.text.language_model import LanguageModelTask
from gatelab.tasks.text.perplexity import score_text

TEXT = "the cat sat on the mat, and the caf\u00e9 was shut\nall day long it rained\n" * 5
WHOLE = 10**6


def model(tokenizer, cutoffs=None):
    torch.manual_seed(0)
    net = LanguageModel(tokenizer.size, partial(GRU, hidden_size=16), tied=cutoffs is None, cutoffs=cutoffs)
    with torch.no_grad():
        net.embedding.weight.mul_(20)
    return net.eval()


@pytest.mark.parametrize("cutoffs", [None, [4, 9]])
@pytest.mark.parametrize("level", ["word", "char", "bpe", "byte"])
def test_no_figure_depends_on_the_window(level, cutoffs, monkeypatch):
    tokenizer = train_tokenizer(level, TEXT, 280 if level == "bpe" else None)
    net = model(tokenizer, cutoffs)
    ids = tokenizer.encode(TEXT)
    with torch.no_grad():
        logits, _ = net(torch.cat((torch.tensor([tokenizer.seed_token]), ids[:-1]))[:, None])
    expected = -logits[:, 0].double().log_softmax(-1).gather(1, ids[:, None])[:, 0]
    for window in (1, 7, 35, WHOLE):
        monkeypatch.setattr(encoded, "PART", 100 if window == 7 else 1 << 20)  # read in parts, too
        told = []
        scores = score_text(net, tokenizer, [TEXT.encode()], window=window, each=told.append)
        assert scores["tokens"] == len(ids)
        assert scores["loss"] == pytest.approx(float(expected.mean()), rel=1e-6)
        assert scores["ppl"] == pytest.approx(math.exp(scores["loss"]), rel=1e-12)
        bits, length = ("bpb", len(TEXT.encode())) if level == "byte" else ("bpc", len(TEXT))
        assert scores[bits] == pytest.approx(float(expected.sum()) / math.log(2) / length, rel=1e-6)
        assert "unknown" not in scores
        assert [token for some in told for token in some.ids] == ids.tolist()
        assert max(len(some.ids) for some in told) <= window
        nll = torch.tensor([value for some in told for value in some.nll], dtype=torch.float64)
        torch.testing.assert_close(nll, expected, rtol=1e-4, atol=1e-5)
    names = [text for some in told for text in some.texts]
    assert "".join(names) == TEXT if level == "char" else tokenizer.decode(ids[:1]) == names[0]


def test_a_token_outside_the_vocabulary_is_counted_and_bits_tell_which_it_was():
    letters = train_tokenizer("char", "abc\n")
    scores = score_text(model(letters), letters, ["ab\u2603c\u2603".encode()])
    assert scores["unknown"] == 2 / 5
    assert scores["bpc"] == pytest.approx((scores["loss"] + 0.4 * math.log(CODE_POINTS)) / math.log(2))
    words = train_tokenizer("word", "a b c\n")
    scores = score_text(model(words), words, [b"a d c\n"])
    assert scores["unknown"] == 1 / 4
    assert "bpc" not in scores


def test_the_state_starts_anew_and_gradients_stay_on():
    letters = train_tokenizer("char", TEXT)
    net = model(letters)
    first, second = (score_text(net, letters, [b"the cat"]) for _ in range(2))
    assert first == second
    assert torch.is_grad_enabled()


def test_a_model_of_symbols_and_a_window_of_nothing_are_refused():
    with pytest.raises(ValueError, match="symbols, which stand for no text"):
        LanguageModelTask.perplexity(SimpleNamespace(), SimpleNamespace(tokenizer=None), [b"a"])
    letters = train_tokenizer("char", TEXT)
    with pytest.raises(ValueError, match="window must be at least 1"):
        score_text(model(letters), letters, [b"a"], window=0)
