"""Decoders: shapes with every core, SegRNN and recursion written out, and what each step may see."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatelab.core.baselines import LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.gru import GRU
from gatelab.core.series.covariates import Covariates
from gatelab.core.series.forecaster import Forecaster
from gatelab.core.stack import stack

CORES = [GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN]
DECODERS = ["direct", "segments", "recursive", "mlp"]
PAIRS: list[Any] = [(True, [2, 0]), (False, [2, 0, 1])]


def _make(core: Any = GRU, channels: int = 3, horizon: int = 5, **choice: Any) -> Forecaster:
    made = core if isinstance(core, partial) else partial(core, hidden_size=6)
    return Forecaster(channels, horizon, made, **choice).double().eval()


def _past(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "core", [*CORES, partial(stack, partial(GRU), sizes=[4, 6], dropout=0.0, locked=False)]
)
def test_every_core_serves_every_decoder(core: Any, decoder: Any) -> None:
    for independent, targets in PAIRS:
        choice = {"channel_independent": independent, "targets": targets, "patch": 2}
        point = _make(core, decoder=decoder, **choice)(_past(2, 8, 3))
        assert point.shape == (2, 5, len(targets))
        net = _make(core, decoder=decoder, output="student_t", **choice)
        parameters = net(_past(2, 8, 3))
        assert parameters.shape == (2, 5, len(targets), 3)
        assert net.trajectories(_past(2, 8, 3), n=4).shape == (4, 2, 5, len(targets))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_parameter_gets_a_gradient(decoder: Any) -> None:
    for independent, targets in PAIRS:
        choice = {"channel_independent": independent, "targets": targets, "patch": 2}
        net = _make(decoder=decoder, output="gaussian", known=2, static=1, mask_input=True, **choice)
        given = Covariates(known=_past(2, 13, 2), static=_past(2, 1))
        net(_past(2, 8, 3), given).square().sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_segments_are_segrnn_written_out() -> None:
    d, w, horizon = 6, 4, 10  # ten steps: the third segment is cut
    net = _make(
        TorchGRU,
        horizon=horizon,
        targets=[2, 0],
        channel_independent=True,
        normalization="last",
        decoder="segments",
        patch=w,
        dropout=0.3,
    )
    cell = nn.GRUCell(d, d).double()
    names = zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), net.core.parameters(), strict=True)
    cell.load_state_dict({name: value.detach() for name, value in names})
    past = _past(2, 12, 3)
    forecast = net(past)
    for b in range(2):
        for k, channel in enumerate((2, 0)):
            x, last = past[b, :, channel], past[b, -1, channel]
            h = torch.zeros(d, dtype=torch.float64)
            for t in range(0, 12, w):
                h = cell(net.embed[0](x[t : t + w] - last).relu(), h)
            future = []
            for m in range(3):
                asked = torch.cat((net.head.position[m], net.head.channel[k]))
                future.append(net.head.head(cell(asked, h)))
            torch.testing.assert_close(forecast[b, :, k], torch.cat(future)[:horizon] + last)


@pytest.mark.parametrize(("independent", "targets"), PAIRS)
@pytest.mark.parametrize("patch", [1, 2])
def test_recursion_fed_with_its_own_medians_is_recursion(independent: bool, targets: Any, patch: int) -> None:
    """One call over past and future together equals step after step, covariates and all."""
    net = _make(
        decoder="recursive",
        output="gaussian",
        patch=patch,
        channel_independent=independent,
        targets=targets,
        known=2,
        static=1,
        mask_input=True,
    )
    past, given = _past(2, 8, 3), Covariates(known=_past(2, 13, 2), static=_past(2, 1))
    free = net(past, given)
    torch.testing.assert_close(net(past, given, net.output.point(free)), free)
    assert not torch.allclose(net(past, given, net.output.point(free) + 1)[:, patch:], free[:, patch:])
    torch.testing.assert_close(net(past, given, net.output.point(free) + 1)[:, :patch], free[:, :patch])


@pytest.mark.parametrize(("independent", "targets"), PAIRS)
def test_trajectories_without_spread_are_the_forecast_of_their_own_window(
    independent: bool, targets: Any
) -> None:
    net = _make(
        decoder="recursive", output="gaussian", channel_independent=independent, targets=targets, patch=2
    )
    with torch.no_grad():
        net.head.bias[1::2] = -50.0
        net.head.weight[1::2] = 0.0
        past = _past(4, 8, 3)
        drawn = net.trajectories(past, n=3, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(drawn, net.output.point(net(past)).expand_as(drawn), atol=0.02, rtol=0)


def test_a_trajectory_remembers_what_it_drew() -> None:
    """A random walk with steps of one: the spread grows with the root of the steps, as no single step's does."""
    net = _make(TorchRNN, channels=1, decoder="recursive", output="gaussian", normalization="last", horizon=9)
    with torch.no_grad():
        for parameter in net.core.parameters():
            parameter.zero_()
        net.core.weight_ih_l0[0, 0] = 1e-4  # tanh is the identity there
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([0.0, 0.5413]))  # softplus: 1
        net.head.weight[0, 0] = 1e4
        drawn = net.trajectories(_past(1, 4, 1), n=4000, generator=torch.Generator().manual_seed(0))
    spread = drawn[:, 0, :, 0].std(dim=0)
    torch.testing.assert_close(spread, torch.arange(1, 10).double().sqrt(), rtol=0.06, atol=0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_future_step_reads_its_own_covariates(decoder: Any) -> None:
    net = _make(decoder=decoder, normalization="last", patch=2, known=1)
    known = torch.zeros(1, 13, 1, dtype=torch.float64, requires_grad=True)
    past = _past(1, 8, 3)
    reach = []
    for step in range(5):
        forecast = net(past, Covariates(known=known))[0, step].sum()
        (gradient,) = torch.autograd.grad(forecast, known)
        assert gradient[0, 8 + step].any(), step
        reach.append(int(gradient[0, :, 0].nonzero().max()) - 8)
    # of a patch or segment of two steps the first sees the second; nothing sees beyond
    pairs = decoder in ("segments", "recursive")
    assert reach == ([1, 1, 3, 3, 4] if pairs else [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"decoder": "seq2seq"}, "decoder must be direct, segments, recursive or mlp"),
        ({"decoder": "recursive", "targets": [0]}, "only 1 of 3 are forecast"),
        ({"decoder": "recursive", "core": partial(GRU, hidden_size=6, bidirectional=True)}, "bidirectional"),
        ({"decoder": "segments", "segment": 0}, "segment must be greater"),
        ({"width": 0}, "width must be greater"),
        ({"output": "negative_binomial"}, "normalization=revin moves"),
    ],
)
def test_what_does_not_fit_together_is_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _make(**choice)
