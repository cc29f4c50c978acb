import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gatelab.data import SeriesBatch
from gatelab.tasks.series.cycles import cycle_samples

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


DISTRIBUTIONS = ("quantiles", "gaussian", "student_t")


@pytest.mark.parametrize("output", [*DISTRIBUTIONS, "negative_binomial"])
def test_what_was_not_measured_leaves_no_gradient(output: str, series_data: Make, make_task: Make) -> None:
    data = series_data()
    data.spec = dataclasses.replace(data.spec, mean=(0.0,) * 4, std=(1.0,) * 4)
    task = make_task(data, dropout=0.0, net={"output": output, "normalization": "scale"})
    past, future = torch.randn(5, 8, 4), torch.randn(5, 4, 4).abs().round()
    scored = torch.rand(5, 4, 4) < 0.6
    results = []
    for filled in (0.0, -1e30, float("nan")):
        batch = SeriesBatch(past, torch.where(scored, future, filled), scored)
        objective, total, count = task.train_loss(batch)
        task.zero_grad()
        objective.backward()
        results.append([objective.detach(), *(p.grad.clone() for p in task.net.parameters())])
        assert count == scored.sum()
        torch.testing.assert_close(total / count, objective)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    losses = task.output.loss(task.net(past), future)
    torch.testing.assert_close(results[0][0], losses[scored].mean().detach())


@pytest.mark.parametrize("output", DISTRIBUTIONS)
def test_points_of_a_distribution_are_its_medians(
    output: str, series_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data = series_data(target=["price", "demand"])
    task = make_task(data, net={"output": output})
    trainer = make_trainer()
    trainer.validate(task, datamodule=data, verbose=False)
    medians = task.output.point(torch.cat(trainer.predict(task, data.dataloader("valid")))).double()
    future = torch.cat([batch.future for batch in data.dataloader("valid")]).double()
    assert task.results["val"]["mse"] == pytest.approx(float((medians - future).square().mean()), rel=1e-12)


@pytest.mark.parametrize("output", DISTRIBUTIONS)
@pytest.mark.parametrize("decoder", ["direct", "segments", "recursive", "mlp"])
def test_every_decoder_learns_every_distribution(
    decoder: str, output: str, series_data: Make, make_task: Make
) -> None:
    data = series_data()
    task = make_task(data, dropout=0.0, net={"output": output, "decoder": decoder, "patch": 2})
    batch = next(iter(data.dataloader("train")))
    batch = SeriesBatch(batch.past[:64], batch.future[:64])
    optimizer, losses = torch.optim.Adam(task.net.parameters(), lr=0.02), []
    for _ in range(12):
        optimizer.zero_grad()
        objective, *_ = task.train_loss(batch)
        objective.backward()
        optimizer.step()
        losses.append(float(objective.detach()))
    assert losses[-1] < losses[0]
    quantiles = task.quantiles(batch, (0.1, 0.5, 0.9)).detach()
    assert quantiles.shape == (64, 4, 4, 3)
    assert (quantiles.diff(dim=-1) >= 0).all()
    assert torch.equal(quantiles, task.quantiles(batch, (0.1, 0.5, 0.9)))


def test_quantiles_of_a_recursive_decoder_are_those_of_its_trajectories(
    series_data: Make, make_task: Make
) -> None:
    data = series_data()
    task = make_task(data, net={"output": "gaussian", "decoder": "recursive"}).eval()
    batch = SeriesBatch(torch.randn(2, 8, 4), torch.empty(0))
    with torch.no_grad():
        first = task.quantiles(batch, (0.1, 0.5, 0.9))[:, 0]
        exact = task.output.quantiles(task.net(batch.past), (0.1, 0.5, 0.9))[:, 0]
    torch.testing.assert_close(first, exact, atol=0.25, rtol=0)


def test_covariates_of_a_batch_reach_the_network(series_data: Make, make_task: Make) -> None:
    data = series_data()
    data.spec = dataclasses.replace(data.spec, known=("promotion",), static_codes={"shop": 3})
    task = make_task(data, dropout=0.0).eval()
    batch = SeriesBatch(torch.randn(2, 8, 4), torch.randn(2, 4, 4))
    with pytest.raises(ValueError, match="made for 1 covariates 'known'"):
        task.train_loss(batch)
    shops = torch.tensor([[1], [2]])
    told = batch._replace(known=torch.zeros(2, 12, 1), static_codes=shops)
    other = told._replace(known=torch.ones(2, 12, 1))
    assert not torch.allclose(task.parameters_of(told), task.parameters_of(other))
    assert not torch.allclose(
        task.parameters_of(told), task.parameters_of(told._replace(static_codes=shops.flip(0)))
    )
    graph = task.graph()
    past, *further = task.example_input(2, 8)
    names = {"past": past, **dict(zip(list(graph.inputs)[1:], further, strict=True))}
    assert list(names) == ["past", "known", "static_codes"]
    assert [graph.inputs[name][1:] for name in names] == [tuple(part.shape[1:]) for part in names.values()]
    expected = task.parameters_of(batch._replace(**names))
    assert torch.equal(task.net(past, graph.pack(further)), expected)


def test_a_cycle_is_told_by_the_data_and_learnt(
    series_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data = series_data()
    assert data.data.times[0] == np.datetime64(data.times("train", 0)[0])
    (first, *_) = data.dataloader("valid")
    hours = [int(time[11:13]) for time in (data.times("valid", 0)[0], data.times("valid", 1)[0])]
    assert (first.start[:2] % 24).tolist() == hours
    figures = {}
    for cycle in (None, 24):
        task = make_task(data, net={"cycle": cycle})
        make_trainer(max_epochs=1).fit(task, datamodule=data)
        figures[cycle] = task.results["val"]["mse"]
    assert task.net.cycle.levels.abs().min() > 0, "every place is reached"
    assert figures[24] < figures[None]
    (drawn,) = cycle_samples(task.net, data.spec)
    assert list(drawn.curves) == list(data.spec.targets)
    for values in drawn.curves.values():
        assert len(values) == 24
        assert sum(values) == pytest.approx(0, abs=1e-6)


def test_a_cycle_that_the_data_cannot_have_is_refused(series_data: Make, make_task: Make) -> None:
    data = series_data()
    for change, cycle, message in (
        (
            {"series": 2},
            24,
            "cycle=24 is of the channels of one table: give task.net.cycle=null; .* data.calendar",
        ),
        (
            {"frequency": ""},
            24,
            "cycle=24 needs rows with times at equal steps: .*data.time=COLUMN.*cycle=null",
        ),
        ({}, 9000, r"task.net.cycle=9000 is longer than the 6,115 rows that train"),
    ):
        spec = data.spec
        data.spec = dataclasses.replace(spec, **change)
        with pytest.raises(ValueError, match=message):
            make_task(data, net={"cycle": cycle})
        data.spec = spec


def test_distributions_that_do_not_fit_are_refused(series_data: Make, make_task: Make) -> None:
    with pytest.raises(ValueError, match="loss=mae is for point forecasts"):
        make_task(series_data(), loss="mae", net={"output": "gaussian"})
    counts = {"output": "negative_binomial", "normalization": "none"}
    with pytest.raises(ValueError, match="needs counts as they are, but these data are scaled"):
        make_task(series_data(), net=counts)
    data = series_data()
    data.spec = dataclasses.replace(data.spec, series=2)  # a panel, left as it is
    make_task(data, net=counts)
    data.spec = dataclasses.replace(data.spec, scaled=True)
    with pytest.raises(ValueError, match="needs counts as they are"):
        make_task(data, net=counts)
