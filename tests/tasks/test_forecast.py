from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from gatelab.data import SeriesBatch

Make = Callable[..., Any]


def test_every_window_is_scored_once_whatever_the_batch_size(
    series_data: Make, make_task: Make, make_trainer: Make
) -> None:
    results = []
    for size in (7, 64, 5000):
        data = series_data(eval_batch_size=size)
        task = make_task(data)
        make_trainer().test(task, datamodule=data, verbose=False)
        results.append(task.results["test"])
        assert results[-1]["windows"] == data.spec.windows["test"]
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-6)


def test_metrics_are_those_of_the_forecasts(series_data: Make, make_task: Make, make_trainer: Make) -> None:
    data = series_data(target=["price", "demand"])
    task = make_task(data)
    trainer = make_trainer()
    trainer.validate(task, datamodule=data, verbose=False)
    forecasts = torch.cat(trainer.predict(task, data.dataloader("valid"))).double()
    future = torch.cat([batch.future for batch in data.dataloader("valid")]).double()
    std = torch.tensor([data.spec.std[i] for i in data.spec.target_index], dtype=torch.float64)
    figures = task.results["val"]
    assert forecasts.shape[1:] == (4, 2)
    assert figures["mse"] == pytest.approx(float((forecasts - future).square().mean()), rel=1e-12)
    assert figures["mae_original"] == pytest.approx(
        float(((forecasts - future) * std).abs().mean()), rel=1e-12
    )


@pytest.mark.parametrize(
    ("loss", "function"), [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", F.smooth_l1_loss)]
)
def test_the_objective_is_the_one_asked_for(
    loss: str, function: Callable[..., torch.Tensor], series_data: Make, make_task: Make
) -> None:
    task = make_task(series_data(), dropout=0.0, loss=loss)
    batch = SeriesBatch(torch.randn(5, 8, 4), torch.randn(5, 4, 4))
    objective, total, count = task.train_loss(batch)
    torch.testing.assert_close(objective, function(task.net(batch.past), batch.future))
    assert count == 80
    assert float(total.detach()) == pytest.approx(float(objective.detach()) * 80)


def test_an_unknown_loss_is_named(series_data: Make, make_task: Make) -> None:
    with pytest.raises(ValueError, match="loss must be one of"):
        make_task(series_data(), loss="rmse")
