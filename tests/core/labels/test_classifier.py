"""A padded batch is its single sequences, pooling is a loop over steps, and what does not fit is named."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from gatelab.core import GRU, LSTM, RNN, MinGRU, SequenceClassifier, TorchGRU
from gatelab.core.labels.classifier import Pooling

POOLINGS = Pooling.__args__
CORES = {"gru": GRU, "lstm": LSTM, "rnn": RNN, "mingru": MinGRU, "nn_gru": TorchGRU}
LENGTHS = torch.tensor([5, 1, 9, 4])


def net_of(pooling="concat", core="gru", vocab_size=11, **options):
    torch.manual_seed(0)
    cell = partial(CORES[core], hidden_size=6)
    return SequenceClassifier(vocab_size, 3, cell, pooling=pooling, **options).double()


def batch_of(channels=0, fill=0):
    """Four sequences, padded with `fill`, and their labels."""
    generator = torch.Generator().manual_seed(1)
    steps = int(LENGTHS.max())
    if channels:
        inputs = torch.randn(4, steps, channels, generator=generator, dtype=torch.float64)
    else:
        inputs = torch.randint(1, 11, (4, steps), generator=generator)
    for row, length in enumerate(LENGTHS):
        inputs[row, length:] = fill
    return inputs, torch.tensor([0, 2, 1, 1])


def gradients(net):
    return torch.cat([p.grad.flatten() for p in net.parameters()])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("channels", [0, 2])
def test_a_padded_batch_is_its_single_sequences(pooling, bidirectional, channels):
    net = net_of(pooling, vocab_size=0 if channels else 11, channels=channels, bidirectional=bidirectional)
    inputs, labels = batch_of(channels, fill=7)
    together = F.cross_entropy(net(inputs, LENGTHS), labels, reduction="sum")
    together.backward()
    of_batch = gradients(net)
    net.zero_grad()
    alone = [
        F.cross_entropy(net(inputs[i : i + 1, :length]), labels[i : i + 1])
        for i, length in enumerate(LENGTHS)
    ]
    sum(alone).backward()
    torch.testing.assert_close(together, sum(alone), rtol=0, atol=1e-12)
    torch.testing.assert_close(of_batch, gradients(net), rtol=0, atol=1e-12)


@pytest.mark.parametrize("core", CORES)
def test_padding_reaches_nothing_with_any_core(core):
    net = net_of("concat", core, bidirectional=True)
    a, _ = batch_of(fill=0)
    b, _ = batch_of(fill=5)
    assert torch.equal(net(a, LENGTHS), net(b, LENGTHS))
    single = torch.cat([net(a[i : i + 1, :n]) for i, n in enumerate(LENGTHS)])
    torch.testing.assert_close(net(a, LENGTHS), single, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_a_loop_over_the_steps_of_each_sequence(pooling):
    net = net_of(pooling, bidirectional=True, heads=2 if pooling == "attention" else 1)
    inputs, _ = batch_of()
    y = net.features(inputs, LENGTHS)
    rows = []
    for row, length in enumerate(LENGTHS.tolist()):
        own = [y[t, row] for t in range(length)]
        last = torch.cat((own[-1][:6], own[0][6:]))
        mean, most = sum(own) / length, torch.stack(own).max(0).values
        if pooling == "attention":
            scores = torch.stack([net.attention(step) for step in own])
            weights = scores.exp() / scores.exp().sum(0)
            rows.append(
                torch.cat([sum(w * step for w, step in zip(weights[:, a], own, strict=True)) for a in (0, 1)])
            )
        else:
            parts = {"last": [last], "mean": [mean], "max": [most], "concat": [last, mean, most]}
            rows.append(torch.cat(parts[pooling]))
    torch.testing.assert_close(net.pooled(y, LENGTHS), torch.stack(rows), rtol=0, atol=1e-12)


def test_attention_has_no_weight_behind_a_sequences_end():
    net = net_of("attention", heads=3)
    weights = net.weights(net.features(batch_of()[0], LENGTHS), LENGTHS)
    behind = torch.arange(9).unsqueeze(1) >= LENGTHS
    assert (weights[behind] == 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(4, 3, dtype=torch.float64))


def test_dropout_acts_in_training_only_and_a_locked_one_is_the_same_at_all_steps():
    net = net_of("last", dropout=0.5, embedding_dropout=0.2, weight_drop=0.3)
    inputs, _ = batch_of()
    assert not torch.equal(net(inputs, LENGTHS), net(inputs, LENGTHS))
    net.eval()
    assert torch.equal(net(inputs, LENGTHS), net(inputs, LENGTHS))
    seen = []
    locked = net_of("last", vocab_size=0, channels=40, input_dropout=0.5, locked_dropout=True)
    locked.core.register_forward_pre_hook(lambda core, args: seen.append(args[0]))
    locked(torch.ones(2, 5, 40, dtype=torch.float64))
    assert (seen[0] == seen[0][:1]).all()
    assert (seen[0] == 0).any()
    assert (seen[0] != 0).any()


def test_embeddings_start_as_large_as_asked_for():
    torch.manual_seed(0)
    plain = SequenceClassifier(50, 2, partial(GRU, hidden_size=4), embedding_size=20)
    torch.manual_seed(0)
    small = SequenceClassifier(50, 2, partial(GRU, hidden_size=4), embedding_size=20, embedding_std=0.1)
    torch.testing.assert_close(small.embedding.weight, 0.1 * plain.embedding.weight, rtol=0, atol=0)
    assert float(small.embedding.weight.detach().std()) == pytest.approx(0.1, rel=0.1)
    for name, value in plain.state_dict().items():  # nothing else starts elsewhere
        if name != "embedding.weight":
            assert torch.equal(value, small.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(({"embedding_std": std}, f"embedding_std={std}: give a finite") for std in (0.0, -1.0, math.inf)),
        ({"vocab_size": 0, "channels": 3, "embedding_std": 0.1}, "embedding_std=0.1 is of words"),
        ({"pooling": "sum"}, "pooling must be one of last, mean, max, concat, attention, got 'sum'"),
        ({"channels": 3}, "give vocab_size or channels"),
        ({"heads": 2}, "heads=2 are of pooling=attention"),
        ({"head_size": 0}, "head_size=0: give at least 1"),
        ({"dropout": 1.0}, "dropout must be a probability"),
        ({"vocab_size": 0, "channels": 3, "embedding_dropout": 0.1}, "take input_dropout"),
    ],
)
def test_what_does_not_fit_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        net_of(**options)


def test_a_core_without_lengths_is_refused():
    with pytest.raises(TypeError, match="lengths"):
        SequenceClassifier(5, 2, Plain)


class Plain(torch.nn.Module):
    """A core that knows no lengths."""

    output_size = hidden_size = 4

    def __init__(self, input_size):
        super().__init__()

    def forward(self, x, state=None, *, reset_mask=None):
        return x[..., :4], None
