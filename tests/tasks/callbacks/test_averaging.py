"""The averaged weights are what is validated, kept and loaded; training goes on with the others."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from gatelab.tasks import Checkpoints, LanguageModelTask, load_checkpoint
from gatelab.tasks.callbacks import ExponentialAveraging, NonMonotonicAveraging


class Watch(pl.Callback):
    """Keeps the weights after every step, and those of every validation."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    @staticmethod
    def weights(module: Any) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in module.net.parameters()])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.steps.append(self.weights(pl_module))

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if args[1] == 0:
            self.validated.append(self.weights(pl_module))


def fit(
    averaging: pl.Callback,
    make_task: Callable[..., Any],
    make_trainer: Callable[..., pl.Trainer],
    data: Any,
    folder: Path,
    **options: Any,
) -> tuple[Watch, dict[str, Any], Any]:
    watch, task = Watch(), make_task(data, schedule=None)
    callbacks = [averaging, watch, Checkpoints(str(folder))]
    trainer = make_trainer(callbacks=callbacks, **{"max_epochs": 2, "limit_train_batches": 6, **options})
    trainer.fit(task, datamodule=data)
    return watch, load_checkpoint(folder / "last.ckpt"), task


def saved(state: dict[str, torch.Tensor], task: Any) -> torch.Tensor:
    """The weights of a checkpoint in the order of the network's parameters."""
    return torch.cat([state[f"net.{name}"].flatten() for name, _ in task.net.named_parameters()])


def test_exponential_average_is_validated_and_saved(
    make_task: Any, make_trainer: Any, text_data: Any, tmp_path: Path
) -> None:
    watch, checkpoint, task = fit(
        ExponentialAveraging(0.5, start_step=2), make_task, make_trainer, text_data(), tmp_path
    )
    average, after = watch.steps[2].clone(), {}
    for n, weights in enumerate(watch.steps[3:], 1):
        keep = min(0.5, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * weights
        after[n + 3] = average
    torch.testing.assert_close(watch.validated[0], after[6])
    torch.testing.assert_close(watch.validated[1], after[12])
    assert torch.equal(saved(checkpoint["state_dict"], task), watch.validated[1])
    assert torch.equal(saved(checkpoint["current_model_state"], task), watch.steps[-1])
    assert torch.equal(Watch.weights(task), watch.steps[-1])
    assert not torch.equal(watch.validated[1], watch.steps[-1])


def test_non_monotonic_average_is_the_mean_of_the_steps_since_the_trigger(
    make_task: Any, make_trainer: Any, text_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([5.0, 4.0, 4.5, 4.5, 4.0, 3.0])
    monkeypatch.setattr(
        LanguageModelTask, "end_eval", lambda self, split: {"loss": torch.tensor(next(scores))}
    )
    averaging = NonMonotonicAveraging(patience=1)
    watch, checkpoint, task = fit(averaging, make_task, make_trainer, text_data(), tmp_path, max_epochs=6)
    # 4.5 is compared with 5, then with 4: the fourth validation begins it, and 24 steps were done by then
    for epoch in range(4):
        assert torch.equal(watch.validated[epoch], watch.steps[6 * epoch + 5])
    torch.testing.assert_close(watch.validated[4], torch.stack(watch.steps[24:30]).mean(0))
    torch.testing.assert_close(watch.validated[5], torch.stack(watch.steps[24:36]).mean(0))
    assert torch.equal(saved(checkpoint["state_dict"], task), watch.validated[5])


def test_nan_begins_no_later_than_a_bad_score() -> None:
    averaging = NonMonotonicAveraging(patience=1)
    trainer: Any = type("T", (), {"sanity_checking": False, "callback_metrics": {}})()
    module: Any = type("M", (), {"monitor": "val/loss", "mode": "min"})()
    for score in (2.0, 1.0, math.nan):
        assert not averaging.triggered
        trainer.callback_metrics = {"val/loss": score}
        averaging.on_validation_end(trainer, module)
    assert averaging.triggered


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ExponentialAveraging(1.0), "below 1"),
        (lambda: ExponentialAveraging(start_step=-1), "start_step"),
        (lambda: NonMonotonicAveraging(0), "at least 1"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_what_could_never_begin_is_refused_before_the_first_step(
    make_task: Any, make_trainer: Any, text_data: Any
) -> None:
    data, trainer = text_data(), make_trainer(callbacks=[NonMonotonicAveraging(5)], max_epochs=6)
    with pytest.raises(ValueError, match=r"needs at least 7 validations .* the run has 6"):
        trainer.fit(make_task(data, schedule=None), datamodule=data)
    assert trainer.global_step == 0


def test_a_rate_that_falls_by_itself_is_refused_before_the_first_step(
    make_task: Any, make_trainer: Any, text_data: Any
) -> None:
    from gatelab.tasks.schedules import cosine

    data, trainer = text_data(), make_trainer(callbacks=[NonMonotonicAveraging(1)], max_epochs=4)
    with pytest.raises(ValueError, match="schedule=constant"):
        trainer.fit(make_task(data, schedule=cosine), datamodule=data)
    assert trainer.global_step == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["schedule=cosine", "trainer.max_epochs=50"], "schedule=constant"),
        (["trainer.max_epochs=6"], "at least 7 validations"),
        (["trainer.max_epochs=20", "trainer.check_val_every_n_epoch=5"], "at least 7 validations"),
        (["callbacks.averaging.patience=0"], "at least 1"),
    ],
)
def test_check_refuses_what_the_run_would(overrides: list[str], said: str) -> None:
    from gatelab.run.config import check, compose
    from gatelab.run.config.dry_build import refusal

    config = check(compose(["averaging=non_monotonic", *overrides]))
    assert said in str(refusal(config))
    assert refusal(check(compose(["averaging=non_monotonic", "trainer.max_epochs=7"]))) is None
