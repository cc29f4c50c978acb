"""Gate statistics: what is logged, when, and that nothing else changes."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import Logger

from gatelab.core import GRU, LSTM, RNN, MinGRU, TorchGRU
from gatelab.core.gates import Gates
from gatelab.tasks import GateStatistics
from gatelab.tasks.callbacks.gate_statistics import statistics

Make = Callable[..., Any]


class Rows(Logger):
    """Keeps what is logged under `gates/`, and the rest."""

    name, version = "rows", ""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[int, dict[str, float]] = {}
        self.rest: list[dict[str, float]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        found = {name: value for name, value in metrics.items() if name.startswith("gates/")}
        if found and step is not None:
            self.gates[step + 1] = found
        if rest := {name: value for name, value in metrics.items() if name not in found}:
            self.rest.append(rest)


@pytest.mark.parametrize("kind", ["text", "series"])
def test_training_with_gate_statistics_is_bitwise_training_without(
    kind: str, text_data: Make, series_data: Make, make_task: Make, make_trainer: Make
) -> None:
    ends = []
    for callbacks in ([], [GateStatistics(every_n_steps=1)]):
        data, rows = (text_data if kind == "text" else series_data)(), Rows()
        task = make_task(data)
        make_trainer(callbacks=callbacks, logger=rows, log_every_n_steps=1, max_epochs=1).fit(
            task, datamodule=data
        )
        ends.append((task.state_dict(), rows))
    (without, plain), (with_, watched) = ends
    assert not plain.gates
    assert len(watched.gates) == (16 if kind == "text" else 13)
    assert plain.rest == watched.rest
    assert all(torch.equal(without[name], with_[name]) for name in without)


def test_statistics_are_logged_under_stable_names_at_the_first_logged_step_of_each_interval(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data, rows = text_data(), Rows()
    trainer = make_trainer(callbacks=[GateStatistics(every_n_steps=7)], logger=rows, max_epochs=1)
    trainer.fit(make_task(data), datamodule=data)
    assert list(rows.gates) == [8, 16]  # steps 4, 8, 12 and 16 are logged; 7 and 14 call for 8 and 16
    kinds = ("reset_mean", "reset_saturation", "update_mean", "update_saturation")
    times = ("time_constant_p10", "time_constant_median", "time_constant_p90")
    assert set(rows.gates[8]) == {f"gates/layer{n}/{name}" for n in (0, 1) for name in (*kinds, *times)}
    assert 0.3 < rows.gates[8]["gates/layer0/update_mean"] < 0.7
    values = [rows.gates[8][f"gates/layer0/{name}"] for name in times]
    assert values == sorted(values)


@pytest.mark.parametrize("core", [TorchGRU, LSTM, MinGRU, RNN, functools.partial(GRU, reset_after=False)])
def test_every_core_is_served_and_one_without_gates_is_left_alone(
    core: Any, text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data, rows = text_data(), Rows()
    task = make_task(data)
    task.net.core = core(task.net.core.input_size, 12)
    trainer = make_trainer(callbacks=[GateStatistics(every_n_steps=1)], logger=rows, max_steps=4)
    trainer.fit(task, datamodule=data)
    assert bool(rows.gates) == (core is not RNN)
    assert not task.net.core._forward_pre_hooks


def test_the_time_constant_is_the_number_of_steps_in_which_a_constant_gate_forgets() -> None:
    # keeping 0.9 of the state a step leaves 1/e of it after 9.49 steps
    keep = torch.tensor([0.5, 0.9, 0.99]).expand(6, 2, 3)
    found = statistics(Gates("layer0", {"update": 1 - keep}, keep.log()))
    assert float(found["time_constant_median"]) == pytest.approx(-1 / math.log(0.9), rel=1e-4)
    assert float(found["update_mean"]) == pytest.approx((0.5 + 0.1 + 0.01) / 3, rel=1e-4)
    assert float(found["update_saturation"]) == pytest.approx(1 / 3)
    never = statistics(Gates("layer0", {}, torch.zeros(6, 2, 3)))
    assert math.isfinite(float(never["time_constant_p90"]))
