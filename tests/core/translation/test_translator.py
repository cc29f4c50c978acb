"""The translator: attention ignores padding, a batch is its sentences, and a beam finds what it should."""

import functools
import itertools

import pytest
import torch

from gatelab.core import GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM
from gatelab.core.text.head import IGNORE, token_loss
from gatelab.core.translation.search import search
from gatelab.core.translation.translator import Translator

END, UNKNOWN = 0, 1
SOURCES = [[5, 3, 8, 2, END], [4, END], [7, 7, 6, END], [9, 2, 3, 4, 5, 6, END]]
TARGETS = [[3, 2, END], [6, 5, 4, 3, END], [8, END], [2, 2, 7, END]]


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small gain nothing from a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def translator(core=GRU, hidden=8, **options):
    torch.manual_seed(0)
    made = functools.partial(core, hidden_size=hidden, num_layers=2)
    return Translator(12, made, source_vocab_size=10, embedding_size=6, **options)


def padded(rows, fill):
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows]).T


def batch(places):
    """Source, lengths, inputs and targets of these pairs."""
    sources, targets = [SOURCES[i] for i in places], [TARGETS[i] for i in places]
    inputs = padded([[END, *row[:-1]] for row in targets], END)
    return padded(sources, 3), torch.tensor(list(map(len, sources))), inputs, padded(targets, IGNORE)


def summed_loss(model, places):
    source, lengths, inputs, targets = batch(places)
    features = model.features(source, lengths, inputs)
    return token_loss(model.head, features.flatten(0, 1), targets.flatten(), 0.1)[0]


VARIANTS = [
    {"attention": "general"},
    {"attention": "dot", "encoder_size": 4},
    {"attention": "additive", "input_feeding": True},
    {"attention": "general", "bidirectional": False, "tied": False},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_loss_and_gradients_of_a_batch_are_the_sum_over_its_sentences(options, dtype, tolerance):
    model = translator(**options).to(dtype)
    together = summed_loss(model, range(4))
    whole = torch.autograd.grad(together, list(model.parameters()))
    alone = [summed_loss(model, [i]) for i in range(4)]
    parts = torch.autograd.grad(sum(alone), list(model.parameters()))
    torch.testing.assert_close(together, sum(alone), rtol=tolerance, atol=0.0)
    for a, b in zip(whole, parts, strict=True):
        assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_padding_gets_no_attention_and_the_weights_add_up_to_one(options):
    model = translator(**options)
    source, lengths, inputs, _ = batch(range(4))
    memory, at = model.encode(source, lengths)
    weights = model.decode(inputs, at, memory)[2]
    assert weights.shape == (5, 4, 7)
    for b, length in enumerate(lengths.tolist()):
        assert torch.equal(weights[:, b, length:], torch.zeros(5, 7 - length))
        assert bool((weights[:, b, :length] > 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 4))


@pytest.mark.parametrize("core", [GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM])
def test_any_core_encodes_and_decodes_and_padding_says_nothing(core):
    model = translator(core)
    source, lengths, inputs, _ = batch(range(4))
    one = model(source, lengths, inputs)
    other = source.masked_fill(torch.arange(len(source))[:, None] >= lengths, 8)
    torch.testing.assert_close(one, model(other, lengths, inputs))
    assert one.shape == (5, 4, 12)


def test_additive_attention_is_the_formula():
    model = translator(attention="additive")
    attention = model.attention
    states, annotations = torch.randn(2, 1, 8), torch.randn(3, 1, 16)
    memory = attention.memory(annotations, torch.zeros(1, 3, dtype=torch.bool))
    context, weights = attention(states, memory)
    for t in range(2):
        energies = [
            attention.energy(torch.tanh(attention.query(states[t, 0]) + attention.key(annotations[j, 0])))
            for j in range(3)
        ]
        expected = torch.cat(energies).softmax(0)
        torch.testing.assert_close(weights[t, 0], expected)
        torch.testing.assert_close(context[t, 0], expected @ annotations[:, 0])


def test_step_by_step_is_the_whole_target_at_once():
    model = translator()
    source, lengths, inputs, _ = batch(range(4))
    memory, at = model.encode(source, lengths)
    whole, last, _ = model.decode(inputs, at, memory)
    steps = []
    for step in inputs:
        features, at, _ = model.decode(step[None], at, memory)
        steps.append(features)
    torch.testing.assert_close(torch.cat(steps), whole)
    torch.testing.assert_close(at.core, last.core)


def test_tied_and_joint_embeddings_are_one():
    model = Translator(12, functools.partial(GRU, hidden_size=8))
    assert model.head.weight is model.embedding.weight is model.source_embedding.weight
    assert translator().source_embedding.weight is not translator().embedding.weight
    assert translator(tied=False).head.in_features == 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attention": "dot"}, "attention='dot' multiplies"),
        ({"attention": "cosine"}, "attention must be dot or general or additive"),
        ({"encoder_size": 0}, "encoder_size must be at least 1"),
        ({"dropout": 1.5}, "dropout must be a probability"),
    ],
)
def test_what_does_not_fit_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        translator(**options)


# search


def sharp(**options):
    """A translator with opinions: at initial weights every token is about as likely as any other."""
    model = translator(**options).eval()
    with torch.no_grad():
        model.head.weight *= 30
        model.core.weight_hh_l0 *= 4
    return model


@torch.no_grad()
def log_probability(model, place, tokens):
    source, lengths, _, _ = batch([place])
    inputs = torch.tensor([END, *tokens])[:, None]
    log = model(source, lengths, inputs)[:, 0].double().log_softmax(-1)
    return float(sum(log[t, token] for t, token in enumerate([*tokens, END])))


@pytest.mark.parametrize("options", [{}, {"attention": "additive", "input_feeding": True}], ids=str)
def test_a_beam_of_one_is_greedy(options):
    model = sharp(**options)
    source, lengths, _, _ = batch(range(4))
    found = search(model, source, lengths, end=END, never=[UNKNOWN])
    for place, one in enumerate(found):
        alone, length = batch([place])[:2]
        memory, at = model.encode(alone, length)
        tokens, token = [], END
        while len(tokens) < 2 * int(length) + 10:
            features, at, _ = model.decode(torch.tensor([[token]]), at, memory)
            logits = model.head(features)[0, 0]
            logits[UNKNOWN] = -torch.inf
            token = int(logits.argmax())
            if token == END:
                break
            tokens.append(token)
        assert (one.tokens, one.ended) == (tokens, token == END)


def test_a_score_is_the_normalised_log_probability_of_the_translation():
    model = sharp()
    source, lengths, _, _ = batch(range(4))
    for penalty in (0.0, 0.6, 1.0):
        for place, one in enumerate(search(model, source, lengths, end=END, width=3, length_penalty=penalty)):
            if one.ended:
                expected = log_probability(model, place, one.tokens) / (len(one.tokens) + 1) ** penalty
                assert one.score == pytest.approx(expected, rel=1e-5)


def test_a_wide_beam_finds_the_best_of_all_short_translations():
    model = sharp()
    with torch.no_grad():
        model.head.bias[END] += 6  # short translations
    source, lengths, _, _ = batch([1])
    (found,) = search(model, source, lengths, end=END, width=200, length_penalty=0.0)
    every = [list(t) for n in range(3) for t in itertools.product(range(1, 12), repeat=n)]
    best = max(every, key=lambda tokens: log_probability(model, 1, tokens))
    assert found.tokens == best


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wider_beam_is_never_worse_than_greedy(penalty):
    better = 0
    for seed in range(12):  # five of these 240 searches lose a greedy hypothesis that is the best
        model = sharp()
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.combine.weight, std=0.5)
        source = torch.randint(2, 10, (6, 20))
        lengths = torch.randint(1, 7, (20,))
        greedy, beam = (
            search(model, source, lengths, end=END, width=width, length_penalty=penalty) for width in (1, 2)
        )
        for wide, one in zip(beam, greedy, strict=True):
            assert wide.score > one.score or wide.tokens == one.tokens
        better += sum(wide.score > one.score for wide, one in zip(beam, greedy, strict=True))
    assert better >= 10


@pytest.mark.parametrize("width", [1, 3])
def test_a_sentence_is_translated_alike_whatever_stands_beside_it(width):
    model = sharp()
    alone = [search(model, *batch([place])[:2], end=END, width=width)[0].tokens for place in range(4)]
    together = search(model, *batch(range(4))[:2], end=END, width=width)
    three = search(model, *batch([3, 0, 2])[:2], end=END, width=width)
    assert [one.tokens for one in together] == alone
    assert [one.tokens for one in three] == [alone[3], alone[0], alone[2]]


def test_a_banned_token_is_not_written_and_a_translation_without_end_is_cut():
    model = sharp()
    with torch.no_grad():
        model.head.bias[UNKNOWN] = 100
        model.head.bias[END] = -100
    source, lengths, _, _ = batch([1])
    (free,) = search(model, source, lengths, end=END)
    assert free.tokens == [UNKNOWN] * 14
    assert not free.ended
    (found,) = search(model, source, lengths, end=END, width=2, never=[UNKNOWN])
    assert UNKNOWN not in found.tokens
    assert len(found.tokens) == 14


@pytest.mark.parametrize(("options", "said"), [({"width": 0}, "beam"), ({"length_penalty": -1.0}, "penalty")])
def test_a_search_out_of_range_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        search(translator(), *batch([0])[:2], end=END, **options)
