"""A run that was killed and started again is, bit for bit, the run that was not."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from gatelab.tasks import Checkpoints, GateStatistics, GradientNorm, Throughput, load_checkpoint
from gatelab.tasks.callbacks import ExponentialAveraging, NonMonotonicAveraging
from gatelab.tasks.fine_tuning import FineTuning
from gatelab.tasks.schedules import plateau, slanted

from .kill_tools import KillAfter, Killed

STEPS = 16  # batches in an epoch of the text


class Rows(Logger):
    """Keeps every logged row in memory, without the clock's."""

    name = version = None

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[int, str], float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        assert not {(step, k) for k in metrics if k != "epoch"} & self.rows.keys()  # nothing is logged twice
        self.rows |= {(step, k): v for k, v in metrics.items() if not k.startswith("time/")}

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


class EpochRow(pl.Callback):
    """Logs something at the end of each epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("train/epochs_done", float(trainer.current_epoch + 1))


@pytest.fixture
def run(make_task: Callable[..., Any], make_trainer: Callable[..., pl.Trainer], tmp_path: Path) -> Any:
    """Train once; return the task, the trainer and the logged rows."""

    def train(
        data: Any,
        *,
        folder: str,
        kill_after: int | None = None,
        resume: str | None = None,
        every_n_steps: int | None = 1,
        averaging: Callable[[], pl.Callback] | None = None,
        task_options: dict[str, Any] | None = None,
        fine_tuning: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[Any, pl.Trainer, dict[tuple[int, str], float]]:
        task, rows = make_task(data, **(task_options or {})), Rows()
        if fine_tuning is not None:
            task.fine_tuning = FineTuning(task.net, **fine_tuning)
        callbacks: list[Any] = [
            Checkpoints(str(tmp_path / folder), every_n_steps=every_n_steps),
            GradientNorm(),
            GateStatistics(every_n_steps=5),
            Throughput(),
            EpochRow(),
            *([] if averaging is None else [averaging()]),
        ]
        if kill_after is not None:
            callbacks.append(KillAfter(kill_after))
        trainer = make_trainer(callbacks=callbacks, logger=rows, **options)
        path = None if resume is None else str(tmp_path / resume / "last.ckpt")
        torch.rand(3)  # whatever the process drew before must not matter
        if kill_after is None:
            trainer.fit(task, datamodule=data, ckpt_path=path)
        else:
            with pytest.raises(Killed):
                trainer.fit(task, datamodule=data, ckpt_path=path)
        return task, trainer, rows.rows

    return train


def assert_same_run(
    run: Any, make_data: Callable[[], Any], kills: Sequence[int], tmp_path: Path, **options: Any
) -> None:
    """Compare a run with others that are killed after so many batches and continued from their last checkpoint."""
    whole, trainer, rows = run(make_data(), folder="whole", **options)
    first, best_first = (load_checkpoint(tmp_path / "whole" / f"{name}.ckpt") for name in ("last", "best"))
    assert ("averaging" in options) == ("averaging_state" in first)
    for kill_after in kills:
        folder = f"killed after {kill_after}"
        _, _, before = run(make_data(), folder=folder, kill_after=kill_after, **options)
        step = load_checkpoint(tmp_path / folder / "last.ckpt")["global_step"]
        again, resumed, after = run(make_data(), folder=folder, resume=folder, **options)
        kept = {key: value for key, value in before.items() if key[0] < step}
        assert kept | after == rows, folder
        assert not {key for key in kept if key in after}, folder
        assert (resumed.global_step, resumed.current_epoch) == (trainer.global_step, trainer.current_epoch), (
            folder
        )
        assert whole.results == again.results, folder
        for (name, ours), theirs in zip(again.state_dict().items(), whole.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs), (folder, name)
        second, best_second = (
            load_checkpoint(tmp_path / folder / f"{name}.ckpt") for name in ("last", "best")
        )
        for part in (
            "optimizer_states",
            "lr_schedulers",
            "gatelab",
            "current_model_state",
            "averaging_state",
        ):
            assert_equal(first.get(part), second.get(part))
        assert_equal(
            first["loops"]["fit_loop"]["epoch_progress"], second["loops"]["fit_loop"]["epoch_progress"]
        )
        assert first["callbacks"]["Checkpoints"] == second["callbacks"]["Checkpoints"], folder
        assert_equal(best_first["state_dict"], best_second["state_dict"])


def assert_equal(a: Any, b: Any) -> None:
    """Compare nested plain data and tensors exactly."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_resume_of_a_language_model_is_bitwise_equal(run: Any, text_data: Any, tmp_path: Path) -> None:
    assert_same_run(run, text_data, [1, STEPS - 1, STEPS, STEPS + 1, STEPS + 9], tmp_path)


def test_resume_of_a_forecaster_is_bitwise_equal(run: Any, series_data: Any, tmp_path: Path) -> None:
    assert_same_run(run, series_data, [5, 12, 13, 20], tmp_path)


@pytest.mark.ci
def test_resume_with_loader_workers_is_bitwise_equal(
    run: Any, text_data: Any, series_data: Any, tmp_path: Path
) -> None:
    assert_same_run(run, lambda: text_data(num_workers=2), [5], tmp_path)
    assert_same_run(run, lambda: series_data(num_workers=2), [18], tmp_path)


@pytest.mark.ci
def test_resume_of_a_run_limited_in_steps_is_bitwise_equal(run: Any, text_data: Any, tmp_path: Path) -> None:
    assert_same_run(run, text_data, [5, STEPS, STEPS + 4], tmp_path, max_epochs=-1, max_steps=2 * STEPS)


@pytest.mark.ci
def test_resume_around_a_validation_inside_an_epoch_is_bitwise_equal(
    run: Any, text_data: Any, tmp_path: Path
) -> None:
    assert_same_run(run, text_data, [4, 5, 6, STEPS + 5], tmp_path, val_check_interval=5)


def test_resume_with_accumulated_gradients_is_bitwise_equal(run: Any, text_data: Any, tmp_path: Path) -> None:
    # a save between two micro-batches would lose the gradients gathered so far: it waits for the step
    assert_same_run(run, text_data, [6, 7, STEPS + 3], tmp_path, accumulate_grad_batches=3)


@pytest.mark.ci
def test_resume_with_a_plateau_schedule_is_bitwise_equal(run: Any, text_data: Any, tmp_path: Path) -> None:
    # a threshold that nothing reaches: the rate falls after every validation but the first
    options = {"schedule": lambda optimizer, steps: plateau(optimizer, steps, threshold=100.0)}
    assert_same_run(run, text_data, [STEPS, 2 * STEPS + 3], tmp_path, task_options=options, max_epochs=3)


@pytest.mark.ci
def test_resume_at_each_border_of_gradual_unfreezing_is_bitwise_equal(
    run: Any, text_data: Any, tmp_path: Path
) -> None:
    # 4 steps an epoch: the head; with the second layer; with the first
    whole = {"fine_tuning": {"unfreeze": 1, "decay": 2.6}, "max_epochs": 3, "limit_train_batches": 4}
    options = {"schedule": slanted, "net": {"tied": False}}
    assert_same_run(run, text_data, [3, 4, 5, 8, 9], tmp_path, task_options=options, **whole)


EVERYTHING = {
    "task_options": {
        "net": {
            "last_as_embedding": True,
            "embedding_size": 8,
            "locked_dropout": True,
            "embedding_dropout": 0.1,
            "weight_drop": 0.3,
        },
        "activation_regularization": 2.0,
        "temporal_regularization": 1.0,
        "label_smoothing": 0.1,
        "schedule": None,
    },
    "averaging": ExponentialAveraging,
}
LAST = 2 * (STEPS - 1)  # random windows make a batch fewer an epoch


@pytest.mark.parametrize(
    "kills",
    [[3, STEPS, STEPS + 5], pytest.param(range(1, LAST), marks=pytest.mark.slow)],
    ids=["some", "every"],
)
def test_resume_with_every_regulariser_and_averaging_is_bitwise_equal(
    kills: Sequence[int], run: Any, text_data: Any, tmp_path: Path
) -> None:
    assert_same_run(run, lambda: text_data(random_window=True), kills, tmp_path, **EVERYTHING)


@pytest.mark.ci
def test_resume_around_a_trigger_is_bitwise_equal(run: Any, text_data: Any, tmp_path: Path) -> None:
    # a rate at which nothing is learnt: the second validation that counts is no better than the first
    averaging = functools.partial(NonMonotonicAveraging, patience=1)
    options = {"schedule": None, "lr": 1.0}
    whole = {"averaging": averaging, "task_options": options, "max_epochs": 4}
    kills = [2 * STEPS, 3 * STEPS + 2]
    assert_same_run(run, lambda: text_data(eval_batch_size=1), kills, tmp_path, **whole)


@pytest.mark.parametrize(
    "step", [4, STEPS]
)  # a step that is logged; the end of an epoch, which has a row too
def test_a_run_killed_right_after_a_checkpoint_has_logged_its_step(
    step: int, run: Any, text_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, rows = run(text_data(), folder="whole")
    save = Checkpoints.save_last

    def save_and_die(self: Checkpoints, trainer: pl.Trainer) -> None:
        save(self, trainer)
        if trainer.global_step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_last", save_and_die)
        _, _, before = run(text_data(), folder="killed", kill_after=100 * STEPS)
    assert load_checkpoint(tmp_path / "killed" / "last.ckpt")["global_step"] == step
    _, _, after = run(text_data(), folder="killed", resume="killed")
    assert before | after == rows
    assert max(at for at, _ in before) == step - 1
