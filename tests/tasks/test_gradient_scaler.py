"""`trainer.precision=16-mixed`: the gradient scaler, the guard, schedules, averages and resume agree on skipped steps.

Lightning gives a CPU no half precision, so the precision plugin with a scaler of the CPU is handed over by hand.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision

from gatelab.tasks import AtomicCheckpointIO, Checkpoints, NonFiniteGuard, NonFiniteLossError, load_checkpoint
from gatelab.tasks.callbacks import ExponentialAveraging, GradientNorm, LossScaleError
from gatelab.tasks.optimizers import adam

from .kill_tools import FailBefore

Make = Callable[..., Any]
SCALE = 1024.0


class Overflow(pl.Callback):
    """Put an infinity into the gradient of some steps (counted from 1), and keep what every step made of it."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.weights: list[torch.Tensor] = []
        self.skipped: list[bool] = []

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.global_step + 1 in self.steps:
            pl_module.net.head.bias.grad[0] = torch.inf

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        self.weights.append(torch.cat([p.detach().flatten() for p in pl_module.net.parameters()]))
        self.skipped.append(pl_module.step_skipped)


@pytest.fixture
def mixed(make_trainer: Make) -> Make:
    """Make a Trainer in half precision on the CPU."""

    def make(scale: float = SCALE, **options: Any) -> pl.Trainer:
        precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))
        return make_trainer(plugins=[AtomicCheckpointIO(), precision], limit_train_batches=8, **options)

    return make


def scale_of(trainer: pl.Trainer) -> float:
    return trainer.precision_plugin.scaler.get_scale()


def test_a_skipped_step_changes_neither_weights_nor_schedule_nor_average_and_is_no_fault(
    text_data: Make, make_task: Make, mixed: Make
) -> None:
    data, watch, averaging = text_data(), Overflow(3, 4), ExponentialAveraging(0.9)
    guard = NonFiniteGuard(max_gradient_norm=1e6)
    trainer = mixed(callbacks=[guard, averaging, watch, GradientNorm()], max_epochs=1)
    trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 8
    assert scale_of(trainer) == SCALE / 4
    assert watch.skipped == [False, False, True, True, False, False, False, False]
    same = [torch.equal(one, next_) for one, next_ in zip(watch.weights, watch.weights[1:], strict=False)]
    assert same == [False, True, True, False, False, False, False]
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 6
    assert int(averaging._average_model.n_averaged) == 6


def test_micro_batches_after_a_skipped_step_are_not_averaged(
    text_data: Make, make_task: Make, mixed: Make
) -> None:
    data, averaging = text_data(), ExponentialAveraging(0.9)
    trainer = mixed(callbacks=[averaging, Overflow(2)], max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 4
    assert int(averaging._average_model.n_averaged) == 3


def changed(task: Any, change: Callable[[int, torch.Tensor], torch.Tensor]) -> Any:
    """The task with `change(step from 0, objective)` as its objective."""
    given = task.train_loss

    def train_loss(batch: Any) -> Any:
        objective, *rest = given(batch)
        return change(task.steps, objective), *rest

    task.train_loss = train_loss
    return task


def test_a_loss_that_is_not_finite_in_a_skipped_step_is_no_fault(
    text_data: Make, make_task: Make, mixed: Make
) -> None:
    data, watch = text_data(), Overflow()
    task = changed(make_task(data), lambda step, loss: loss * (torch.nan if step == 2 else 1.0))
    mixed(callbacks=[NonFiniteGuard(), watch], max_epochs=1).fit(task, datamodule=data)
    assert watch.skipped == [False, False, True, False, False, False, False, False]


@pytest.mark.parametrize("every", [None, 3])
def test_an_infinite_loss_in_a_step_that_is_taken_stops_the_run(
    every: int | None, text_data: Make, make_task: Make, mixed: Make
) -> None:
    data = text_data()
    task = changed(make_task(data), lambda step, loss: loss + (torch.inf if step == 1 else 0.0))
    trainer = mixed(callbacks=[NonFiniteGuard(every), Overflow(1)], max_epochs=1)
    with pytest.raises(NonFiniteLossError, match="at step 2 ") as error:
        trainer.fit(task, datamodule=data)
    assert error.value.step == 2
    assert trainer.global_step == (every or 2)


def test_a_scale_that_is_used_up_stops_the_run(text_data: Make, make_task: Make, mixed: Make) -> None:
    data = text_data()
    trainer = mixed(3e-4, callbacks=[NonFiniteGuard(), Overflow(*range(1, 9))], max_epochs=1)
    with pytest.raises(LossScaleError, match=r"16-mixed had fallen to 8e-05 at step 2 .*bf16-mixed"):
        trainer.fit(make_task(data), datamodule=data)


def test_a_resumed_run_has_the_scale_and_the_bits_of_one_that_went_through(
    text_data: Make, make_task: Make, mixed: Make, tmp_path: Path
) -> None:
    def run(folder: Path, *more: pl.Callback, checkpoint: Path | None = None) -> dict[str, Any]:
        data, saver = text_data(), Checkpoints(str(folder), every_n_steps=3)
        callbacks = [NonFiniteGuard(), ExponentialAveraging(0.9), Overflow(2, 3, 5), saver, *more]
        trainer, task = mixed(callbacks=callbacks, max_epochs=1), make_task(data)
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
        return load_checkpoint(folder / "last.ckpt")

    whole, parts = run(tmp_path / "whole"), tmp_path / "parts"
    with pytest.raises(RuntimeError, match="killed"):
        run(parts, FailBefore(4))
    assert load_checkpoint(parts / "last.ckpt")["gatelab"]["ranks"][0]["step_skipped"] is True
    resumed = run(parts, checkpoint=parts / "last.ckpt")
    assert resumed["MixedPrecision"]["scale"] == whole["MixedPrecision"]["scale"] == SCALE / 8
    for part in ("state_dict", "current_model_state"):
        assert whole[part].keys() == resumed[part].keys()
        assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part])


def test_a_step_is_not_fused_under_a_scaler(text_data: Make, make_task: Make, mixed: Make) -> None:
    data = text_data()
    for options in ({"gradient_clip_val": None}, {}):
        trainer = mixed(max_epochs=1, max_steps=1, **options)
        trainer.fit(make_task(data, schedule=None), datamodule=data)
        assert trainer.optimizers[0].defaults["fused"] is False
    task = make_task(data, optimizer=functools.partial(adam, fused=True))
    with pytest.raises(ValueError, match=r"fused=true does not go with trainer\.precision=16-mixed"):
        mixed(max_steps=1, gradient_clip_val=None).fit(task, datamodule=data)


def test_the_average_is_brought_to_the_device_of_the_weights(text_data: Make, make_task: Make) -> None:
    averaging, task = ExponentialAveraging(), make_task(text_data())
    averaging.setup(None, task, "fit")
    task.to("meta")  # stands for a GPU, to which Lightning moves the weights after the callbacks' setup
    averaging.on_fit_start(None, task)
    assert {p.device.type for p in averaging._average_model.module.parameters()} == {"meta"}
    assert averaging._average_model.n_averaged.device.type == "cpu"


def test_a_clipped_step_in_bf16_is_not_fused_either(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    task = make_task(data := text_data(), optimizer=functools.partial(adam, fused=True))
    with pytest.raises(ValueError, match=r"precision=bf16-mixed with trainer\.gradient_clip_val"):
        make_trainer(max_steps=1, precision="bf16-mixed").fit(task, datamodule=data)
