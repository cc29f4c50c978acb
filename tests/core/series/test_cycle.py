"""A cycle: taken from the past, added to the forecast, learnt, and refused where it cannot be."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from gatelab.core.gru import GRU
from gatelab.core.series.covariates import Covariates
from gatelab.core.series.cycle import Cycle
from gatelab.core.series.forecaster import Forecaster

STEPS, PAST, HORIZON = 7, 8, 5


def _make(cycle: int | None = STEPS, **choice: Any) -> Forecaster:
    torch.manual_seed(0)
    model = Forecaster(3, HORIZON, partial(GRU, hidden_size=6), cycle=cycle, **choice).double()
    if model.cycle is not None:
        torch.nn.init.normal_(model.cycle.levels)
    return model


def _levels(model: Forecaster, start: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the past [B, T, C] and of the forecast [B, P, C], looked up one by one."""
    assert model.cycle is not None
    rows = [
        torch.stack([model.cycle.levels[(int(s) + t) % STEPS] for t in range(PAST + HORIZON)]) for s in start
    ]
    return torch.stack(rows).split((PAST, HORIZON), dim=1)  # type: ignore[return-value]


def test_levels_go_round() -> None:
    cycle = Cycle(3, 2)
    with torch.no_grad():
        cycle.levels.copy_(torch.tensor([[0.0, 5.0], [1.0, 6.0], [2.0, 7.0]]))
    assert cycle(torch.tensor([2, 300]), 4)[..., 0].tolist() == [[2, 0, 1, 2], [0, 1, 2, 0]]
    assert cycle(torch.tensor([-1]), 2)[..., 1].tolist() == [[7, 5]]  # before 1970


@pytest.mark.parametrize("output", ["point", "quantiles", "gaussian", "student_t"])
@pytest.mark.parametrize("normalization", ["revin", "last", "none"])
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"targets": [2, 0], "decoder": "mlp"},
        {"channel_independent": True, "targets": [1, 2], "decoder": "segments", "patch": 2},
    ],
)
def test_what_remains_is_forecast_and_the_cycle_added(
    choice: dict[str, Any], normalization: Any, output: Any
) -> None:
    choice = {**choice, "normalization": normalization, "output": output}
    with_cycle, plain = _make(**choice), _make(None, **choice)
    plain.load_state_dict(with_cycle.state_dict(), strict=False)
    start = torch.tensor([0, 3, 400_001, -2])
    residual = torch.randn(4, PAST, 3, dtype=torch.float64)
    before, ahead = _levels(with_cycle, start)
    found = with_cycle(residual + before, Covariates(start=start))
    expected = plain(residual)
    move = ahead[..., choice.get("targets", [0, 1, 2])]
    point = with_cycle.output.point
    torch.testing.assert_close(point(found), point(expected) + move, rtol=1e-9, atol=1e-9)
    if output != "point":  # moved, and neither wider nor narrower
        widths = [
            with_cycle.output.quantiles(p, (0.1, 0.9)).diff(dim=-1).squeeze(-1) for p in (found, expected)
        ]
        torch.testing.assert_close(*widths, rtol=1e-9, atol=1e-9)


def test_a_cycle_longer_than_the_look_back_is_learnt() -> None:
    """Each value of 7 is drawn once: from the last two, without a place, the next ones are not known."""
    torch.manual_seed(1)
    pattern = torch.randn(STEPS)
    errors = {}
    for cycle in (STEPS, None):
        torch.manual_seed(0)
        model = Forecaster(1, HORIZON, partial(GRU, hidden_size=4), normalization="last", cycle=cycle)
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for step in range(150):
            start = torch.randint(1000, (64,), generator=torch.Generator().manual_seed(step))
            places = (start[:, None] + torch.arange(2 + HORIZON)) % STEPS
            level = torch.randn(64, 1, generator=torch.Generator().manual_seed(step))
            series = (pattern[places] + level)[..., None]
            noise = 0.3 * torch.randn(64, 2, 1, generator=torch.Generator().manual_seed(step))
            said = model(series[:, :2] + noise, Covariates(start=start))
            loss = (said - series[:, 2:]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[cycle] = float(loss.detach())
    assert errors[STEPS] < 0.5 * errors[None], errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _make(1), "cycle must be at least 2 steps, got 1"),
        (lambda: _make(decoder="recursive"), "cycle: decoder=recursive feeds back"),
        (lambda: _make(output="negative_binomial", normalization="none"), "cycle: output=negative_binomial"),
        (
            lambda: _make()(torch.zeros(1, PAST, 3).double()),
            r"must be told where windows start \(covariates.start",
        ),
    ],
)
def test_what_has_no_cycle_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
