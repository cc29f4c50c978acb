from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from gatelab.tasks import Checkpoints, NonFiniteGuard, NonFiniteLossError, load_checkpoint
from gatelab.tasks.callbacks import ExplodedGradientError

Make = Callable[..., Any]


class Poison(pl.Callback):
    """Put a NaN into one weight before step `step` (counted from 1)."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step + 1 == self.step:
            with torch.no_grad():
                pl_module.net.head.bias[3] = torch.nan


def test_a_nan_loss_stops_the_run_and_is_described(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data = text_data()
    trainer = make_trainer(callbacks=[Poison(6), NonFiniteGuard()])
    with pytest.raises(
        NonFiniteLossError, match=r"nan at step 6 \(epoch 0\): learning rate .*gradient norm nan"
    ) as e:
        trainer.fit(make_task(data, schedule=None), datamodule=data)
    assert (e.value.step, e.value.epoch, e.value.learning_rate) == (6, 0, pytest.approx(0.01))
    assert "embedding.weight" in str(e.value)
    assert trainer.global_step == 5


def test_a_deferred_look_names_the_first_bad_step_and_keeps_it_out_of_checkpoints(
    text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> None:
    data = text_data()
    for options, stopped_at in (({"every_n_steps": 5}, 9), ({"every_n_steps": 100}, 12)):
        saver = Checkpoints(str(tmp_path), every_n_steps=6)
        trainer = make_trainer(callbacks=[Poison(7), NonFiniteGuard(**options), saver])
        with pytest.raises(NonFiniteLossError, match="at step 7 ") as error:
            trainer.fit(make_task(data), datamodule=data)
        assert error.value.step == 7
        assert trainer.global_step == stopped_at
        checkpoint = load_checkpoint(tmp_path / "last.ckpt")
        assert checkpoint["global_step"] == 6
        assert all(bool(t.isfinite().all()) for t in checkpoint["state_dict"].values())


def test_an_impossible_interval_is_named() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be at least 1"):
        NonFiniteGuard(every_n_steps=0)


def test_a_gradient_beyond_the_limit_stops_the_run_before_its_step(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data = text_data()
    make_trainer(callbacks=[NonFiniteGuard(max_gradient_norm=1e6)], max_epochs=1).fit(
        make_task(data), datamodule=data
    )
    trainer = make_trainer(callbacks=[NonFiniteGuard(max_gradient_norm=1e-6)], gradient_clip_val=1e-9)
    with pytest.raises(
        ExplodedGradientError, match=r"is .* at step 1 \(epoch 0\), beyond max_gradient_norm=1e-06"
    ):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 0
    with pytest.raises(ValueError, match="max_gradient_norm"):
        NonFiniteGuard(max_gradient_norm=0)
