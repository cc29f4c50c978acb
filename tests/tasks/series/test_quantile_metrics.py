"""Scores of distributions against their definitions written out, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from gatelab.core.series.outputs import make_output
from gatelab.data.series.scores import SCORED_LEVELS
from gatelab.tasks import ForecastError
from gatelab.tasks.metrics import overall_weighted_average
from gatelab.tasks.series.quantile_metrics import QuantileError

B, P, K = 13, 3, 2
MEAN, STD, SCALE = [1.0, -20.0], [0.5, 7.0], [0.4, 3.0]


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Quantiles of a normal distribution, truths, which of them are scored, and scales of each window."""
    generator = torch.Generator().manual_seed(0)
    middle = torch.randn(B, P, K, 1, generator=generator)
    z = torch.tensor(stats.norm.ppf(SCORED_LEVELS), dtype=torch.float32)
    scored = torch.rand(B, P, K, generator=generator) < 0.8
    return {
        "quantiles": middle + 0.4 * z,
        "future": middle[..., 0] + 0.5 * torch.randn(B, P, K, generator=generator),
        "scored": scored,
        "level": torch.randn(B, K, generator=generator),
        "spread": torch.rand(B, K, generator=generator) + 0.5,
        "mase_scale": torch.where(torch.arange(B)[:, None] % 5 == 0, 0.0, torch.rand(B, K) + 0.5),
    }


def by_hand(batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Every figure in plain loops, one value at a time."""
    losses, sizes, scaled, widths = [], [], [], []
    inside: dict[int, list[bool]] = {50: [], 80: [], 95: []}
    parts = {name: value.double().numpy() for name, value in batch.items()}
    for b in range(B):
        for p in range(P):
            for k in range(K):
                if not parts["scored"][b, p, k]:
                    continue
                level, spread, scale = (parts[n][b, k] for n in ("level", "spread", "mase_scale"))
                y = parts["future"][b, p, k] * spread + level
                q = dict(zip(SCORED_LEVELS, parts["quantiles"][b, p, k] * spread + level, strict=True))
                of_levels = [
                    2 * (a * (y - q[a]) if y >= q[a] else (1 - a) * (q[a] - y)) for a in np.arange(1, 10) / 10
                ]
                losses.append(np.mean(of_levels))
                sizes.append(abs(y))
                for percent, (low, high) in {50: (0.25, 0.75), 80: (0.1, 0.9), 95: (0.025, 0.975)}.items():
                    inside[percent].append(q[low] <= y <= q[high])
                if scale > 0:
                    scaled.append(np.mean(of_levels) / scale)
                    lower, upper = q[0.025], q[0.975]
                    width = upper - lower + 40 * max(lower - y, y - upper, 0)
                    widths.append(width / scale)
    return {
        "sql": np.mean(scaled),
        "wql": np.sum(losses) / np.sum(sizes),
        "crps": np.mean(losses),
        "msis": np.mean(widths),
        **{f"coverage_{percent}": np.mean(values) for percent, values in inside.items()},
    }


def metric(**options: object) -> QuantileError:
    return QuantileError(
        **{"levels": SCORED_LEVELS, "mean": MEAN, "std": STD, "mase_scale": SCALE, "horizon": P} | options
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 4, B])
def test_every_figure_is_its_definition_whatever_the_batch_size(
    size: int, batch: dict[str, torch.Tensor]
) -> None:
    error = metric()
    for start in range(0, B, size):
        error.update(**{name: value[start : start + size] for name, value in batch.items()})
    expected = by_hand(batch)
    figures = error.compute()
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert float(figures[name]) == pytest.approx(value, rel=1e-9), name
    steps, counts = error.per_step()["crps"], batch["scored"].sum((0, 2))
    assert float((torch.tensor(steps) * counts).sum() / counts.sum()) == pytest.approx(expected["crps"])


def test_what_two_processes_add_up_is_what_one_has(batch: dict[str, torch.Tensor]) -> None:
    whole, first, second = metric(), metric(), metric()
    whole.update(**batch)
    first.update(**{name: value[:5] for name, value in batch.items()})
    second.update(**{name: value[5:] for name, value in batch.items()})
    for name, reduction in first._reductions.items():  # what torchmetrics does with the states it gathered
        setattr(first, name, reduction(torch.stack([getattr(first, name), getattr(second, name)])))
    first._computed = None
    for name, value in whole.compute().items():
        assert float(first.compute()[name]) == pytest.approx(float(value), rel=1e-12), name


def test_own_scales_that_are_those_of_the_whole_data_change_nothing(batch: dict[str, torch.Tensor]) -> None:
    own = {
        "level": torch.tensor(MEAN).expand(B, K),
        "spread": torch.tensor(STD).expand(B, K),
        "mase_scale": torch.tensor(SCALE).expand(B, K),
    }
    shared, rows = metric(), metric()
    kept = {name: batch[name] for name in ("quantiles", "future", "scored")}
    shared.update(**kept)
    rows.update(**kept, **own)
    assert rows.compute() == {n: pytest.approx(float(v), rel=1e-6) for n, v in shared.compute().items()}
    points, of_rows = (ForecastError(MEAN, STD, SCALE, horizon=P) for _ in range(2))
    forecast = batch["quantiles"][..., 6]
    points.update(forecast, kept["future"], kept["scored"])
    of_rows.update(forecast, kept["future"], kept["scored"], **own)
    assert of_rows.compute() == {n: pytest.approx(float(v), rel=1e-6) for n, v in points.compute().items()}


def test_mase_divides_by_the_scale_of_each_series_and_leaves_out_those_without() -> None:
    error = ForecastError([0.0], [1.0], [1.0], horizon=2, series=3)
    forecast, truth = torch.tensor([[1.0, 3.0], [2.0, 2.0], [9.0, 9.0]])[..., None], torch.zeros(3, 2, 1)
    error.update(
        forecast,
        truth + 1,
        level=torch.zeros(3, 1),
        spread=torch.tensor([[2.0], [1.0], [1.0]]),
        mase_scale=torch.tensor([[4.0], [0.5], [0.0]]),
        series=torch.tensor([2, 0, 1]),
    )
    figures = error.compute()
    assert float(figures["mase"]) == pytest.approx((0 + 4 / 4 + 1 / 0.5 + 1 / 0.5) / 4)
    assert error.per_series()[0] == 2.0
    assert error.per_series()[2] == 0.5
    assert math.isnan(error.per_series()[1])
    assert float(figures["nd"]) == pytest.approx((0 + 4 + 1 + 1 + 8 + 8) / (2 + 2 + 1 + 1 + 1 + 1))


def test_intervals_of_the_true_distribution_cover_what_they_say() -> None:
    generator = torch.Generator().manual_seed(1)
    error = metric(mean=[0.0], std=[1.0], mase_scale=[1.0], horizon=1)
    z = torch.tensor(stats.norm.ppf(SCORED_LEVELS), dtype=torch.float32)
    error.update(z.expand(100_000, 1, 1, -1), torch.randn(100_000, 1, 1, generator=generator))
    figures = error.compute()
    for percent in (50, 80, 95):
        assert float(figures[f"coverage_{percent}"]) == pytest.approx(percent / 100, abs=0.005)


def test_the_crps_of_a_normal_distribution_is_its_integral() -> None:
    for mean, std, truth in [(0.0, 1.0, 0.3), (2.0, 0.5, 4.0), (-1.0, 3.0, -1.0)]:
        normal = stats.norm(mean, std)
        below = integrate.quad(lambda x, n=normal: n.cdf(x) ** 2, -40, truth)[0]
        above = integrate.quad(lambda x, n=normal: n.sf(x) ** 2, truth, 40)[0]
        parameters, value = (torch.tensor(x, dtype=torch.float64) for x in ([mean, std], truth))
        assert float(make_output("gaussian", None).crps(parameters, value)) == pytest.approx(
            below + above, rel=1e-6
        )


def test_a_closed_form_takes_the_place_of_the_levels(batch: dict[str, torch.Tensor]) -> None:
    error = metric()
    kept = {name: batch[name] for name in ("quantiles", "future", "scored", "spread", "level", "mase_scale")}
    error.update(**kept, crps=torch.ones(B, P, K))
    spread = batch["spread"][:, None].double().expand(B, P, K)[batch["scored"]]
    assert float(error.compute()["crps"]) == pytest.approx(float(spread.mean()))


def test_what_the_levels_do_not_reach_is_absent() -> None:
    levels = (0.1, 0.25, 0.5, 0.75, 0.9)
    figures = metric(levels=levels)
    figures.update(torch.zeros(2, P, K, len(levels)), torch.ones(2, P, K))
    assert {"coverage_50", "coverage_80"} <= figures.compute().keys()
    assert not {"coverage_95", "msis"} & figures.compute().keys()


@pytest.mark.parametrize(
    ("levels", "said"), [([], "between 0 and 1"), ([0.0, 0.5], "between"), ([0.5, 0.1], "must rise")]
)
def test_levels_are_checked(levels: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        metric(levels=levels)
    with pytest.raises(ValueError, match=r"quantiles .* must be"):
        metric().update(torch.zeros(2, P, K, 1), torch.zeros(2, P, K))


def test_the_owa_of_seasonal_naive_on_m4_hourly_is_the_published_one() -> None:
    naive2 = {"smape": 18.383, "mase": 2.395}  # Makridakis et al. 2020, table of the benchmarks
    assert overall_weighted_average(13.912, 1.193, naive2) == pytest.approx(0.627, abs=5e-4)
