"""The map of n-grams is a sum over a sequence's own n-grams, adds nothing at first, and learns what words decide."""

from collections import Counter
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from gatelab.core import GRU, SequenceClassifier
from gatelab.core.labels.n_grams import NGramMap

LENGTHS = torch.tensor([5, 1, 9, 4])


def batch_of(fill=0):
    tokens = torch.randint(0, 11, (4, int(LENGTHS.max())), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(LENGTHS):
        tokens[row, length:] = fill
    return tokens


def map_of(order, **options):
    torch.manual_seed(0)
    made = NGramMap(3, order, **options).double()
    torch.nn.init.normal_(made.weights.weight)
    return made.eval()


def bucket_of(made, gram):
    """The bucket of an n-gram, by the map's own hash of a sequence that is this n-gram alone."""
    buckets, real = made.hashed(torch.tensor([gram]))
    return int(buckets[0][real[0]][-1])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_map_is_a_sum_over_each_sequences_own_n_grams(order):
    made, tokens = map_of(order), batch_of(fill=7)
    logits = made(tokens, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        own = tokens[row, :length].tolist()
        grams = [own[i : i + n] for n in range(1, order + 1) for i in range(length - n + 1)]
        expected = sum(made.weights.weight[bucket_of(made, gram)] for gram in grams)
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-12)
    assert torch.equal(logits, made(batch_of(fill=3), LENGTHS))


def test_different_n_grams_have_different_buckets_as_often_as_chance_allows():
    made = map_of(3)
    tokens = torch.randint(0, 8000, (1, 3000), generator=torch.Generator().manual_seed(2))
    buckets, real = made.hashed(tokens)
    own = tokens[0].tolist()
    grams = {tuple(own[i : i + n]) for n in (1, 2, 3) for i in range(len(own) - n + 1)}
    size = made.weights.num_embeddings
    expected = size * (1 - (1 - 1 / size) ** len(grams))  # distinct buckets of so many balls thrown at random
    assert len(buckets[real].unique()) == pytest.approx(expected, rel=0.02)
    assert max(Counter(buckets[real].tolist()).values()) < 12
    assert int(buckets.min()) >= 0
    assert int(buckets.max()) < size


def test_dropped_n_grams_keep_the_mean_and_only_in_training():
    made, tokens = map_of(2, dropout=0.4), batch_of()
    whole = made(tokens, LENGTHS)
    torch.testing.assert_close(whole, map_of(2)(tokens, LENGTHS))
    made.train()
    torch.manual_seed(3)
    draws = torch.stack([made(tokens, LENGTHS) for _ in range(4000)])
    assert draws.std(0).min() > 0.01
    error = (draws.mean(0) - whole).abs() / (draws.std(0) / 4000**0.5)
    assert error.max() < 4.5


def test_a_network_with_a_map_begins_as_it_would_without():
    nets = []
    for options in ({}, {"n_grams": 2}):
        torch.manual_seed(0)
        nets.append(SequenceClassifier(11, 3, partial(GRU, hidden_size=6), **options).eval())
    plain, wide = (net(batch_of(), LENGTHS) for net in nets)
    assert torch.equal(plain, wide)


def test_the_map_learns_what_two_words_in_a_row_decide():
    made = NGramMap(2, 2, buckets=512)
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randint(0, 6, (256, 8), generator=generator)
    labels = ((tokens[:, :-1] == 1) & (tokens[:, 1:] == 2)).any(1).long()
    search = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(150):
        search.zero_grad()
        F.cross_entropy(made(tokens), labels).backward()
        search.step()
    assert (made(tokens).argmax(-1) == labels).double().mean() > 0.99


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_grams": -1}, "n_grams=-1: give at least 1"),
        ({"n_grams": 10**7}, "n_grams=10000000: give at most 10"),
        ({"n_grams": 2, "n_gram_dropout": 1.0}, "n_gram_dropout must be a probability"),
        ({"n_gram_dropout": 0.3}, "n_gram_dropout=0.3 is of n_grams: give n_grams=2"),
        (
            {"vocab_size": 0, "channels": 2, "n_grams": 2},
            "n_grams=2 are of tokens, and the inputs are channels",
        ),
    ],
)
def test_what_does_not_fit_is_named(options, said):
    options = {"vocab_size": 11, **options}
    with pytest.raises(ValueError, match=said):
        SequenceClassifier(classes=3, core=partial(GRU, hidden_size=6), **options)
