"""Forecaster: shapes, what the normalisation promises, and a count in closed form for every choice."""

from functools import partial
from typing import Any

import pytest
import torch

from gatelab.core.baselines import LSTM
from gatelab.core.gru import GRU
from gatelab.core.series.forecaster import Forecaster

CORE = partial(GRU, hidden_size=6)
CHOICES: list[dict[str, Any]] = [
    {},
    {"targets": [2, 0]},
    {"normalization": "last"},
    {"normalization": "none", "patch": 4},
    {"channel_independent": True, "patch": 2},
    {"channel_independent": True, "targets": [1], "normalization": "last"},
    {"core": partial(LSTM, hidden_size=5, bidirectional=True), "targets": [1]},
]


def _make(**choice: Any) -> Forecaster:
    return Forecaster(3, 5, choice.pop("core", CORE), **choice).double()


@pytest.mark.parametrize("choice", CHOICES)
def test_the_forecast_has_a_column_for_each_target(choice: dict[str, Any]) -> None:
    model = _make(**choice)
    kept = len(choice.get("targets", [0, 1, 2]))
    assert model(torch.randn(2, 8, 3, dtype=torch.float64)).shape == (2, 5, kept)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_parameter_and_every_step_it_reads_gets_a_gradient(choice: dict[str, Any]) -> None:
    model = _make(**choice)
    past = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    model(past).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert past.grad is not None
    read = choice.get("targets", [0, 1, 2]) if choice.get("channel_independent") else [0, 1, 2]
    assert past.grad[..., read].all()


@pytest.mark.parametrize("targets", [None, [2, 0]])
@pytest.mark.parametrize("normalization", ["revin", "last"])
def test_a_shifted_past_gives_an_equally_shifted_forecast(normalization: Any, targets: Any) -> None:
    model = _make(normalization=normalization, targets=targets)
    past, shift = torch.randn(2, 8, 3, dtype=torch.float64), torch.tensor([10.0, -3.0, 0.5]).double()
    index = [0, 1, 2] if targets is None else targets
    torch.testing.assert_close(model(past + shift), model(past) + shift[index], rtol=1e-9, atol=1e-9)


def test_revin_scales_with_the_past_and_survives_a_constant_window() -> None:
    model = _make()
    past = 100 * torch.randn(2, 8, 3, dtype=torch.float64)
    torch.testing.assert_close(model(7 * past), 7 * model(past), rtol=1e-6, atol=1e-6)
    constant = model(torch.full((1, 8, 3), 5.0, dtype=torch.float64))
    assert (constant - 5).abs().max() < 0.1


def test_targets_are_columns_of_the_forecast_in_the_order_given() -> None:
    model = _make(targets=[2, 0], normalization="last")
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
    past = torch.randn(2, 8, 3, dtype=torch.float64)
    assert torch.equal(model(past), past[:, -1:, [2, 0]].expand(2, 5, 2))


def test_channels_are_independent_when_asked_and_rows_always() -> None:
    model = _make(channel_independent=True)
    past = torch.randn(2, 8, 3, dtype=torch.float64)
    other = past.clone()
    other[..., 1] += torch.randn(2, 8, dtype=torch.float64)
    before, after = model(past), model(other)
    torch.testing.assert_close(before[..., [0, 2]], after[..., [0, 2]], rtol=1e-13, atol=1e-14)
    assert (before[..., 1] != after[..., 1]).all()
    torch.testing.assert_close(model(past[:1]), before[:1], rtol=1e-13, atol=1e-14)


def test_patches_hold_consecutive_steps_of_one_channel() -> None:
    seen: list[torch.Tensor] = []

    class Spy(GRU):
        def forward(self, input: Any, *args: Any, **options: Any) -> Any:
            seen.append(input)
            return super().forward(input, *args, **options)

    model = Forecaster(
        2, 1, partial(Spy, hidden_size=3), normalization="none", channel_independent=True, patch=3
    )
    past = torch.arange(12.0).view(1, 6, 2)  # channel 0 is 0, 2, 4 ...; channel 1 is 1, 3, 5 ...
    model(past)
    assert seen[0].tolist() == [[[0, 2, 4], [1, 3, 5]], [[6, 8, 10], [7, 9, 11]]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _make(patch=3)(torch.zeros(1, 8, 3).double()), "patch=3 does not divide .* 8 steps"),
        (lambda: _make()(torch.zeros(1, 8, 4).double()), r"past must be \[B, T, 3\]"),
        (lambda: _make()(torch.zeros(8, 3).double()), r"past must be \[B, T, 3\]"),
        (lambda: _make(targets=[3]), r"0 ... 2, got \[3\]"),
        (lambda: _make(targets=[1, 1]), "distinct"),
        (lambda: _make(targets=[]), "targets"),
        (lambda: _make(normalization="batch"), "'revin', 'last', 'scale' or 'none', got 'batch'"),
        (lambda: _make(patch=0), "patch must be greater"),
        (lambda: _make(dropout=-0.1), "dropout"),
        (lambda: _make(core=partial(GRU, hidden_size=6, batch_first=True)), "time-major"),
    ],
)
def test_what_makes_no_forecaster_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_direct_point_forecast_has_the_weights_of_ever() -> None:
    """Checkpoints of before there were other outputs and decoders load."""
    names = list(_make(targets=[2, 0]).state_dict())
    core = [f"core.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert names == ["normalization.scale", "normalization.shift", *core, "head.weight", "head.bias"]


def test_looking_up_the_width_of_a_core_draws_nothing() -> None:
    weights = []
    for width in (None, 6):
        torch.manual_seed(0)
        weights.append(list(_make(decoder="segments", width=width).parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("output", ["quantiles", "gaussian", "student_t", "negative_binomial"])
def test_parameters_of_a_distribution_are_never_in_half_precision(output: Any) -> None:
    model = Forecaster(3, 5, CORE, output=output, normalization="none")
    with torch.autocast("cpu", torch.bfloat16):
        parameters = model(torch.randn(2, 8, 3))
    assert parameters.dtype == torch.float32
    assert model.output.quantiles(parameters, (0.1, 0.9)).isfinite().all()
