import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from gatelab.tasks import Checkpoints, RunInterrupted, load_checkpoint

Make = Callable[..., Any]


class Watch(pl.Callback):
    """Notes the step of every `last.ckpt` as it appears, and the validation scores."""

    def __init__(self, folder: Path) -> None:
        self.path, self.saved, self.scores = folder / "last.ckpt", [0], []

    def on_train_batch_start(self, *args: Any) -> None:
        step = load_checkpoint(self.path)["global_step"] if self.path.exists() else 0
        if step != self.saved[-1]:
            self.saved.append(step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.scores.append(float(trainer.callback_metrics["val/loss"]))


def test_best_is_the_epoch_with_the_best_score_and_last_the_last(
    text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> None:
    data, watch = text_data(), Watch(tmp_path)
    saver = Checkpoints(str(tmp_path), mode="max")  # of a loss that falls: the first epoch stays the best
    make_trainer(callbacks=[saver, watch], max_epochs=3).fit(make_task(data), datamodule=data)
    assert saver.best_score == max(watch.scores)
    best = load_checkpoint(tmp_path / "best.ckpt")["gatelab"]["position"]
    assert best["epoch"] - 1 == saver.best_epoch == watch.scores.index(max(watch.scores))
    assert load_checkpoint(tmp_path / "last.ckpt")["gatelab"]["position"] == {"epoch": 3, "batch": 0}
    assert sorted(os.listdir(tmp_path)) == ["best.ckpt", "last.ckpt", "previous.ckpt"]


def test_last_is_saved_inside_an_epoch_by_steps_or_by_time(
    text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> None:
    data = text_data()
    for name, options, expected in (
        ("steps", {"every_n_steps": 6}, [0, 6, 12]),
        ("time", {"every_seconds": 1e-9}, list(range(16))),
        ("epochs", {"every_seconds": None}, [0]),
    ):
        folder = tmp_path / name
        watch = Watch(folder)
        callbacks = [Checkpoints(str(folder), **options), watch]
        make_trainer(callbacks=callbacks, max_epochs=1).fit(make_task(data), datamodule=data)
        assert watch.saved == expected
        assert load_checkpoint(folder / "last.ckpt")["global_step"] == 16


def test_a_run_without_validation_has_a_best_checkpoint_too(
    text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> None:
    data = text_data()
    trainer = make_trainer(callbacks=[Checkpoints(str(tmp_path))], limit_val_batches=0, max_epochs=1)
    trainer.fit(make_task(data), datamodule=data)
    assert load_checkpoint(tmp_path / "best.ckpt")["global_step"] == 16


def test_a_misspelt_monitor_is_named(
    text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> None:
    data = text_data()
    with pytest.raises(
        ValueError, match=r"monitor='val/pppl' is not among the metrics.*Did you mean 'val/ppl'"
    ):
        make_trainer(callbacks=[Checkpoints(str(tmp_path), monitor="val/pppl")]).fit(
            make_task(data), datamodule=data
        )


class Signal(pl.Callback):
    """Send this process a signal in the middle of step `step` (counted from 1)."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize(
    ("step", "position"), [(5, {"epoch": 0, "batch": 5}), (16, {"epoch": 1, "batch": 0})]
)
def test_a_signal_stops_the_run_after_the_step_with_a_checkpoint(
    name: str, step: int, position: Any, text_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path
) -> None:
    data, number = text_data(), getattr(signal, name)
    before = signal.getsignal(number)
    trainer = make_trainer(callbacks=[Checkpoints(str(tmp_path)), Signal(step, number)])
    with pytest.raises(RunInterrupted, match=f"stopped by {name} after step {step}"):
        trainer.fit(make_task(data), datamodule=data)
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint["global_step"] == step
    assert checkpoint["gatelab"]["position"] == position
    assert signal.getsignal(number) == before


def test_impossible_intervals_are_named() -> None:
    for name in ("every_n_steps", "every_seconds"):
        with pytest.raises(ValueError, match=name):
            Checkpoints("folder", **{name: 0})
