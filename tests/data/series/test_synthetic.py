"""The made-up series: the same bits everywhere, and structure that a model can find."""

import numpy as np
import pytest

from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.synthetic import embedded_series, lorenz_series


def test_embedded_series_has_the_same_bits_on_every_machine():
    assert embedded_series(0).fingerprint == {
        "embedded_series": "af96aee3df14317a767cbdbeafa76cc50d47beddcaf5449d064fb30e63418561"
    }


def test_lorenz_has_the_same_bits_on_every_machine():
    assert lorenz_series(0, 500).fingerprint == {
        "lorenz": "d8f0f3e029a72c3492691be75af48f50092fd013afd35fdb0e5f9f53f6f2a1e3"
    }


@pytest.mark.parametrize("make", [embedded_series, lorenz_series])
def test_another_seed_is_another_series(make):
    assert make(0).fingerprint != make(1).fingerprint
    assert np.isfinite(make(1).values).all()


def test_embedded_series_has_a_day_and_leading_channels():
    values = embedded_series(0).values
    demand, price = values[:, 2], values[:, 3]

    def correlation(a, b):
        return np.corrcoef(a, b)[0, 1]

    assert correlation(demand[24:], demand[:-24]) > correlation(demand[11:], demand[:-11]) + 0.3
    lags = [correlation(price[24:], demand[24 - lag : len(demand) - lag]) for lag in range(24)]
    assert int(np.argmax(lags)) == 2


def test_naive_forecasts_of_the_embedded_series_leave_room():
    data = SeriesDataModule("embedded_series", lookback=48, horizon=24)
    data.setup()
    found = data.baselines("test")
    assert found["linear"]["mse"] < 0.7 * found["seasonal_naive"]["mse"]


def test_lorenz_stays_on_its_attractor():
    values = lorenz_series(3).values
    assert values.shape == (10_000, 3)
    assert np.abs(values[:, 0]).max() < 25
    assert 0 < values[:, 2].min() < values[:, 2].max() < 55
    assert (np.diff(np.sign(values[:, 0])) != 0).sum() > 50, "it changes wings"
