"""Throughput, gradient norm, memory and progress: what they report."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from gatelab.tasks import Checkpoints, GradientNorm, Memory, Progress, Throughput
from gatelab.tasks.callbacks.measurements import memory
from gatelab.tasks.callbacks.progress import Field, bar_line, figure, rate

Make = Callable[..., Any]


def test_throughput_counts_tokens_and_leaves_validation_out(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data, throughput, rows = text_data(), Throughput(), Rows()
    trainer = make_trainer(callbacks=[throughput], logger=rows, max_epochs=2)
    trainer.fit(make_task(data), datamodule=data)
    assert throughput.items == 2 * 10 * 481  # padding included: ten streams of 481 steps
    rates = {
        step: metrics[key] for step, metrics in rows.seen if (key := "time/tokens_per_second") in metrics
    }
    assert list(rates) == [3, 7, 11, 15, 19, 23, 27, 31]
    assert min(rates.values()) > 0
    assert 0 < trainer.callback_metrics["time/epoch_seconds"] < throughput.seconds
    running = throughput.seconds
    trainer.validate(make_task(data), datamodule=data, verbose=False)
    assert throughput.seconds == running


class Rows(Logger):
    """Keeps what is logged."""

    name, version = "rows", ""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int | None, dict[str, float]]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.seen.append((step, dict(metrics)))


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
    data, norms, rows = series_data(), Norms(), Rows()
    options = {"max_epochs": 1, "gradient_clip_val": 1e-3, "limit_val_batches": 0}
    make_trainer(callbacks=[GradientNorm(), norms], logger=rows, **options).fit(
        make_task(data), datamodule=data
    )
    logged = {step: metrics[key] for step, metrics in rows.seen if (key := "train/grad_norm") in metrics}
    assert logged == {step: pytest.approx(norms.seen[step], rel=1e-5) for step in (3, 7, 11)}
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
    assert re.search(r"tokens/s, \d\d:\d\d left$", lines[2])
    assert "val/ppl" in lines[-1]


def test_progress_shows_the_best_value_and_the_best_baseline(
    series_data: Make, make_task: Make, make_trainer: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, saver = series_data(), Checkpoints(str(tmp_path))
    trainer = make_trainer(
        callbacks=[saver, Progress(line_seconds=1e-9)], enable_progress_bar=True, max_epochs=2
    )
    trainer.fit(
        make_task(data, lr=0.0), datamodule=data
    )  # nothing is learned: the second is as good as the first
    lines = capsys.readouterr().err.splitlines()
    name, value = min(
        ((name, row["mse"]) for name, row in data.baselines("valid").items()), key=lambda pair: pair[1]
    )
    shown = f"val/mse {saver.best_score:#.4g}  best  {name.replace('_', ' ')} {value:#.4g}"
    assert shown in lines[-1]
    assert not any("best" in line or name in line for line in lines[:12])


def test_progress_says_nothing_of_a_baseline_over_another_number_of_windows(
    series_data: Make, make_task: Make, make_trainer: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = series_data()
    trainer = make_trainer(
        callbacks=[Progress()], enable_progress_bar=True, max_epochs=1, limit_val_batches=1
    )
    trainer.fit(make_task(data), datamodule=data)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "val/mse" in last
    assert "linear" not in last


def test_progress_draws_a_bar_on_a_terminal(
    text_data: Make,
    make_task: Make,
    make_trainer: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = text_data()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    trainer = make_trainer(callbacks=[Progress(refresh_seconds=1e-9)], enable_progress_bar=True, max_epochs=2)
    trainer.fit(make_task(data), datamodule=data)
    drawn = re.split(r"[\r\n]+", capsys.readouterr().err)
    assert any(re.search(r"epoch 1/2 [━#]+ 100%  loss \d.*tokens/s  \d\d:\d\d left", line) for line in drawn)
    assert any(line.startswith("epoch 1/2 validating") for line in drawn)
    assert any(re.search(r"epoch 2/2 .* val/loss \d", line) for line in drawn)
    assert max(map(len, drawn)) < 80


def test_the_bar_of_a_run_that_ends_inside_an_epoch_ends_full(
    text_data: Make,
    make_task: Make,
    make_trainer: Make,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = text_data()
    trainer = make_trainer(callbacks=[Progress(line_seconds=1e-9)], enable_progress_bar=True, max_steps=5)
    trainer.fit(make_task(data), datamodule=data)
    lines = [line for line in capsys.readouterr().err.splitlines() if "batches" in line]
    assert [line.split(" batches")[0].split()[-1] for line in lines] == [f"{n}/5" for n in range(1, 6)]
    assert lines[-1].endswith(" 00:00 left")


def test_a_line_fits_any_width_without_cutting_a_number() -> None:
    fields = [
        Field("loss 2.345", 1),
        Field("val/loss 2.400", 2),
        Field("best 2.399", 4),
        Field("bigram 3.1", 5),
    ]
    for width in range(18, 140):
        line = bar_line("epoch 12/100", 0.5, fields, width, "#", "-")
        assert len(line) <= width
        assert " 50%" in line
        assert set(re.findall(r"\d[\d.]*", line)) <= {"12", "100", "50", "2.345", "2.400", "2.399", "3.1"}
    assert "loss 2.345" in bar_line("epoch 12/100", 0.5, fields, 40, "#", "-")


def test_figures_and_rates_are_short() -> None:
    assert [figure(x) for x in (0.381, 144.12, 1234.5, 1.2e-5, math.nan)] == [
        "0.3810", "144.1", "1234", "1.200e-05", "nan"
    ]  # fmt: skip
    assert [rate(x, "tokens") for x in (7.5, 999.4, 12_345, 3.2e6)] == [
        "7.50 tokens/s", "999 tokens/s", "12.3k tokens/s", "3.20M tokens/s"
    ]  # fmt: skip


def test_memory_is_logged_at_its_interval_and_at_the_end_of_an_epoch(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    data, rows = text_data(), Rows()
    trainer = make_trainer(callbacks=[Memory(every_n_steps=5)], logger=rows, max_epochs=1)
    trainer.fit(make_task(data), datamodule=data)
    steps = [step for step, metrics in rows.seen if "memory/cpu_peak_mib" in metrics]
    assert steps == [7, 11, 15]  # from 0; steps 4, 8, 12, 16 are logged, and 5, 10, 15 call for 8, 12, 16

    rows.seen.clear()
    trainer = make_trainer(callbacks=[Memory()], logger=rows, max_epochs=2)
    trainer.fit(make_task(data), datamodule=data)
    assert [step for step, metrics in rows.seen if "memory/cpu_peak_mib" in metrics] == [15, 31]


def test_the_peak_of_a_gpu_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"now": 3, "peak": 9}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(peak=held["now"]))
    for name, peak in (("cpu", 9), ("cuda:0", 3)):  # on the CPU no GPU is touched
        module: Any = SimpleNamespace(device=torch.device(name))
        Memory().on_fit_start(None, module)  # type: ignore[arg-type]
        assert held["peak"] == peak
    found = memory(torch.device("cuda:0"))
    assert (found["gpu"], found["gpu_peak"]) == (3, 3)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says what a process holds now")
def test_memory_grows_with_what_is_held() -> None:
    before = memory(torch.device("cpu"))
    held = torch.zeros(64 << 20, dtype=torch.uint8).fill_(1)
    after = memory(torch.device("cpu"))
    assert after["cpu"] - before["cpu"] > 0.9 * held.nbytes
    assert after["cpu_peak"] >= after["cpu"]


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
    rows = Rows()
    trainer = make_trainer(callbacks=callbacks, logger=rows, enable_progress_bar=True, max_epochs=1)
    trainer.fit(Plain(), torch.utils.data.DataLoader(torch.randn(32, 2), batch_size=4))
    assert any("train/grad_norm" in metrics for _, metrics in rows.seen)


def test_an_epoch_in_whose_middle_a_resumed_run_begins_is_timed_from_there() -> None:
    progress = Progress()
    progress.on_train_start(pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), None)
    assert progress._epoch_began == progress._run_began > 0  # no start of an epoch comes before its end
