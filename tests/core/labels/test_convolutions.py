"""Convolutions over time are those of torch, and what lies behind a sequence's end reaches nothing."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gatelab.core import GRU, SequenceClassifier
from gatelab.core.labels.convolutions import FrameConvolutions, MaskedBatchNorm

LENGTHS = torch.tensor([6, 2, 9])


def frames(fill=0.0):
    x = torch.randn(9, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        x[length:, row] = fill
    return x


def made(filters=(5, 2)):
    torch.manual_seed(1)
    return FrameConvolutions(filters, 3).double()


def test_they_are_convolution_relu_and_batch_norm_of_torch():
    net, x = made(), frames()
    layers = []
    for layer in net.layers:
        norm = nn.BatchNorm2d(layer.out_channels).double()
        layers += [layer, nn.ReLU(), norm]
    plain = nn.Sequential(*layers)
    for training in (True, False):
        net.train(training)
        plain.train(training)
        expected = plain(x.transpose(0, 1).unsqueeze(1))  # [B, R, T, C]
        got = net(x)
        assert got.shape == (9, 3, 2 * 4)
        for band in range(4):
            torch.testing.assert_close(
                got[..., band::4], expected[..., band].permute(2, 0, 1), rtol=0, atol=1e-12
            )


def test_statistics_are_those_of_the_real_frames_alone():
    net, x = made((3,)), frames(fill=50.0)
    net(x, LENGTHS)
    layer, norm = net.layers[0], net.norms[0]
    own = []
    for row, length in enumerate(LENGTHS.tolist()):
        alone = x[:length, row].unsqueeze(0).unsqueeze(0)
        own.append(F.relu(layer(alone)).transpose(0, 1).flatten(1))
    values = torch.cat(own, dim=1)
    torch.testing.assert_close(norm.running_mean, 0.1 * values.mean(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * values.var(1), rtol=0, atol=1e-12)
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.parametrize("training", [True, False])
def test_padding_reaches_nothing(training):
    net = made().train(training)
    one, other = net(frames(0.0), LENGTHS), net(frames(9.0), LENGTHS)
    assert torch.equal(one, other)
    for row, length in enumerate(LENGTHS.tolist()):
        assert not one[length:, row].any()
    if not training:
        single = net(frames()[:2, 1:2])
        torch.testing.assert_close(one[:2, 1:2], single, rtol=0, atol=1e-12)


def test_its_gradients_are_right():
    net, x = made((2, 1)), frames().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net(x, LENGTHS), (x,))
    # without padding the masked statistics are torch's own
    norm, plain = MaskedBatchNorm(3).double(), nn.BatchNorm2d(3).double()
    y = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(2, 1, 5, 1, dtype=torch.float64)
    weights = torch.randn_like(y)
    a, b = (torch.autograd.grad((n * weights).sum(), y)[0] for n in (norm(y, ones), plain(y)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var, plain.running_var, rtol=0, atol=1e-12)


def test_a_classifier_reads_convolved_channels():
    torch.manual_seed(0)
    core = partial(GRU, hidden_size=6)
    net = SequenceClassifier(0, 3, core, channels=4, convolutions=[10, 2], pooling="query", heads=4).double()
    assert net.core.input_size == 8
    inputs = frames().transpose(0, 1)
    net(inputs, LENGTHS).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    alone = torch.cat([net(inputs[i : i + 1, :n]) for i, n in enumerate(LENGTHS)])
    torch.testing.assert_close(net(inputs, LENGTHS), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"convolutions": [0]}, r"convolutions=\[0\]: give the filters of each layer"),
        ({"convolutions": [2], "convolution_width": 4}, "convolution_width=4: give an odd number"),
    ],
)
def test_what_does_not_fit_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        SequenceClassifier(0, 3, partial(GRU, hidden_size=6), channels=4, **options)
    with pytest.raises(ValueError, match="the inputs are tokens"):
        SequenceClassifier(9, 3, partial(GRU, hidden_size=6), convolutions=[2])
