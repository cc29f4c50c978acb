"""The last step is validated, mixed precision clips, a wrong monitor is refused; scoring changes no data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping

from gatelab.run.scoring.evaluate import device_of, score
from gatelab.tasks import Checkpoints, load_checkpoint


def test_the_last_step_by_max_steps_is_validated(text_data: Any, make_task: Any, make_trainer: Any) -> None:
    task = make_task(data := text_data(), schedule=None)
    trainer = make_trainer(max_steps=20, max_epochs=-1)  # 16 batches an epoch
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 20
    trained = dict(task.results["val"])
    trainer.validate(task, datamodule=data, verbose=False)
    assert task.results["val"] == trained


def test_mixed_precision_clips_on_the_cpu(text_data: Any, make_task: Any, make_trainer: Any) -> None:
    task = make_task(data := text_data(), schedule=None)
    trainer = make_trainer(max_steps=2, precision="bf16-mixed", gradient_clip_val=1.0)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 2


def test_a_callback_that_watches_nothing_is_refused_before_the_first_step(
    text_data: Any, make_task: Any, make_trainer: Any
) -> None:
    task = make_task(data := text_data(), schedule=None)
    trainer = make_trainer(callbacks=[EarlyStopping(monitor="val/los")])
    with pytest.raises(ValueError, match=r"EarlyStopping: .*'val/los'.*Did you mean 'val/loss'"):
        trainer.fit(task, datamodule=data)
    assert trainer.global_step == 0


def test_every_n_steps_counts_steps_of_the_run(
    text_data: Any, make_task: Any, make_trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    keep = Checkpoints(str(tmp_path), every_n_steps=20)
    monkeypatch.setattr(keep, "save_last", lambda trainer: saved.append(trainer.global_step))
    task = make_task(data := text_data(), schedule=None)
    trainer = make_trainer(callbacks=[keep], max_epochs=2)  # 16 batches an epoch
    trainer.fit(task, datamodule=data)
    assert saved[:2] == [16, 20]
    assert load_checkpoint(tmp_path / "best.ckpt")


def test_scoring_leaves_the_data_as_they_were(text_data: Any, make_task: Any) -> None:
    data = text_data(burn_in=1)
    task = make_task(data)
    figures = score(task, data, "valid")
    assert figures.get("stitch", 0.0) <= task.stitch_tolerance
    assert (data.burn_in, data.eval_batch_size, data.trainer) == (1, 4, None)


def test_a_run_is_scored_on_its_own_device() -> None:
    assert device_of({"trainer": {"accelerator": "gpu", "devices": [1, 3]}}) == ("gpu", [1])
    assert device_of({"trainer": {"accelerator": "cpu", "devices": 2}}) == ("cpu", 1)


def test_a_run_is_scored_as_deterministically_as_it_was_trained(
    text_data: Any, make_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seen = text_data(), []
    task = make_task(data)
    monkeypatch.setattr(
        task, "read_again", lambda *_: seen.append(torch.are_deterministic_algorithms_enabled())
    )
    try:
        for deterministic in (True, False, None):
            score(task, data, "valid", deterministic=deterministic)
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [True, False, False]
