import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gatelab.tasks import schedules

STEPS = 100


def rates(schedule: Callable[..., Any], **options: Any) -> list[float]:
    """Return the rate of every step of a run of 100, at a peak of 1."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, STEPS, **options)
    seen = []
    for _ in range(STEPS):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_constant_holds_the_rate_after_a_rise_that_never_is_zero() -> None:
    assert rates(schedules.constant) == [1.0] * STEPS
    assert rates(schedules.constant, warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(schedules.constant, warmup=0.04) == rates(schedules.constant, warmup=4)


@pytest.mark.parametrize("schedule", [schedules.cosine, schedules.linear])
def test_falling_schedules_end_at_the_floor_in_the_last_step(schedule: Callable[..., Any]) -> None:
    seen = rates(schedule, warmup=10, floor=0.1)
    assert max(seen) == seen[10] == 1.0
    assert seen[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(seen[10:]))


def test_cosine_and_linear_are_their_formulas() -> None:
    assert rates(schedules.cosine)[33] == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))
    assert rates(schedules.linear)[33] == pytest.approx(2 / 3)


def test_step_falls_by_gamma_after_every_so_many_steps() -> None:
    seen = rates(schedules.step, every=0.25, gamma=0.5)
    assert [seen[i] for i in (0, 24, 25, 50, 75, 99)] == [1, 1, 0.5, 0.25, 0.125, 0.125]
    assert rates(schedules.step, every=25, gamma=0.5) == seen


def test_onecycle_rises_to_the_peak_and_falls_below_the_start() -> None:
    seen = rates(schedules.onecycle, rise=0.3, start=0.04, floor=0.001)
    assert seen[0] == pytest.approx(0.04)
    assert seen[30] == max(seen) == 1.0
    assert seen[-1] == pytest.approx(0.001)


def test_the_slanted_triangle_is_its_formula() -> None:
    seen = rates(schedules.slanted, cut=0.1, ratio=32)
    assert seen[0] == pytest.approx(1 / 32)
    assert seen[5] == pytest.approx((1 + 0.5 * 31) / 32)
    assert seen[10] == max(seen) == 1.0
    assert seen[-1] == pytest.approx(1 / 32)
    assert all(a > b for a, b in pairwise(seen[10:]))


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        (schedules.cosine, {"warmup": 100}, "warmup=100 steps do not fit"),
        (schedules.cosine, {"warmup": 1.5}, "warmup must be a share"),
        (schedules.linear, {"warmup": -1}, "warmup must be a share"),
        (schedules.linear, {"floor": 2.0}, "floor is a factor"),
        (schedules.step, {"every": 0.0}, "every must be positive"),
        (schedules.onecycle, {"start": -0.1}, "start is a factor"),
        (schedules.slanted, {"ratio": 0.5}, "at least 1, not 0.5"),
    ],
)
def test_impossible_lengths_and_factors_are_named(schedule: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(schedule, **options)


def test_plateau_follows_the_monitored_metric(text_data: Any, make_task: Any, make_trainer: Any) -> None:
    data = text_data()
    # nothing improves by 100 nats: the rate falls after the second and the third validation
    task = make_task(
        data, lr=0.01, schedule=lambda o, n: schedules.plateau(o, n, factor=0.5, threshold=100.0)
    )
    trainer = make_trainer(max_epochs=3)
    trainer.fit(task, datamodule=data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0025)
    with pytest.raises(ValueError, match=r"monitor='val/los' is not among.*Did you mean 'val/loss'"):
        make_task(data, monitor="val/los")


def test_a_schedule_needs_the_length_of_the_run(text_data: Any, make_task: Any, make_trainer: Any) -> None:
    data = text_data()
    with pytest.raises(ValueError, match=r"trainer\.max_epochs or trainer\.max_steps"):
        make_trainer(max_epochs=-1).fit(make_task(data), datamodule=data)
