"""Throughput, gradient norm and progress: what they report."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from gatelab.tasks import GradientNorm, Progress, Throughput

Make = Callable[..., Any]


def test_throughput_counts_tokens_and_leaves_validation_out(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data, throughput = text_data(), Throughput()
    trainer = make_trainer(callbacks=[throughput], max_epochs=2)
    trainer.fit(make_task(data), datamodule=data)
    assert throughput.items == 2 * 10 * 481  # padding included: ten streams of 481 steps
    assert trainer.callback_metrics["time/tokens_per_second"] > 0
    assert 0 < trainer.callback_metrics["time/epoch_seconds"] < throughput.seconds
    running = throughput.seconds
    trainer.validate(make_task(data), datamodule=data, verbose=False)
    assert throughput.seconds == running


class Norms(pl.Callback):
    """Computes the gradient's norm by its definition."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        squares = [
            float(p.grad.double().square().sum()) for p in pl_module.parameters() if p.grad is not None
        ]
        self.seen.append(sum(squares) ** 0.5)


def test_the_logged_gradient_norm_is_the_one_before_clipping(
    series_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data, norms = series_data(), Norms()
    trainer = make_trainer(
        callbacks=[GradientNorm(), norms], max_epochs=1, gradient_clip_val=1e-3, limit_val_batches=0
    )
    trainer.fit(make_task(data), datamodule=data)
    assert float(trainer.callback_metrics["train/grad_norm"]) == pytest.approx(norms.seen[11], rel=1e-5)
    assert norms.seen[11] > 1e-3


def test_progress_prints_lines_where_stderr_is_no_terminal(
    text_data: Make, make_task: Make, make_trainer: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = text_data()
    trainer = make_trainer(callbacks=[Progress(line_seconds=1e-9)], enable_progress_bar=True, max_epochs=1)
    trainer.fit(make_task(data), datamodule=data)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("epoch 1/1")]
    assert "3/16 batches, loss 2." in lines[2]
    assert lines[2].endswith("tokens/s")
    assert "val/ppl" in lines[-1]


def test_progress_draws_a_bar_on_a_terminal(
    text_data: Make,
    make_task: Make,
    make_trainer: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = text_data()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    trainer = make_trainer(callbacks=[Progress(refresh_seconds=1e-9)], enable_progress_bar=True, max_epochs=1)
    trainer.fit(make_task(data), datamodule=data)
    err = capsys.readouterr().err
    assert "epoch 1/1: 100%" in err or "16/16" in err
    assert "loss" in err


def test_reports_work_with_any_module(make_trainer: Make) -> None:
    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = self.layer(batch).square().mean()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callbacks = [Throughput(), GradientNorm(), Progress(line_seconds=1e-9)]
    trainer = make_trainer(callbacks=callbacks, enable_progress_bar=True, max_epochs=1)
    trainer.fit(Plain(), torch.utils.data.DataLoader(torch.randn(32, 2), batch_size=4))
    assert "train/grad_norm" in trainer.callback_metrics
