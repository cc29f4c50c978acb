"""What the user sees while a run goes on: a bar on a terminal, plain lines elsewhere; both on stderr.

It draws a few times a second at most, so that a step of a millisecond is not spent on drawing. The numbers of
record are the loggers' affair.
"""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

SHOWN = ("loss", "ppl", "bpc", "mse", "mae")


class Progress(ProgressBar):
    """Show epoch, batch, loss and tokens or windows per second.

    Args:
        refresh_seconds: time between two drawings of the bar.
        line_seconds: time between two lines where stderr is no terminal.
    """

    def __init__(self, refresh_seconds: float = 0.2, line_seconds: float = 30.0) -> None:
        super().__init__()
        self.refresh_seconds, self.line_seconds = refresh_seconds, line_seconds
        self._enabled = True
        self._bar: tqdm[Any] | None = None
        self._next = self._began = 0.0
        self._items = 0

    def enable(self) -> None:
        """Show (Lightning's switch)."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing (Lightning's switch, and that of all processes but the first)."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line without tearing the bar."""
        if self._enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a bar."""
        self._began = time.monotonic()
        self._items = 0
        self._next = self._began + self._interval()
        if self._enabled and sys.stderr.isatty():
            self._open(self._title(trainer), int(min(self.total_train_batches, sys.maxsize)))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and draw if it is time."""
        count = getattr(pl_module, "count", None)
        self._items += count(batch) * trainer.world_size if count is not None else 0
        now = time.monotonic()
        if now < self._next or not self._enabled:
            return
        self._next = now + self._interval()
        rate = self._items / max(now - self._began, 1e-9)
        text = f"loss {float(outputs['loss']):.4f}, {rate:,.0f} {getattr(pl_module, 'unit', 'items')}/s"
        if self._bar is not None:
            self._bar.n = batch_idx + 1
            self._bar.set_postfix_str(text)
        else:
            total = self.total_train_batches
            self.print(f"{self._title(trainer)}: {batch_idx + 1}/{total} batches, {text}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar and leave one line about the epoch."""
        self._close()
        if not self._enabled:
            return
        metrics = trainer.callback_metrics
        names = [f"{split}/{name}" for split in ("train", "val") for name in SHOWN]
        shown = [f"{name} {float(metrics[name]):.4f}" for name in names if name in metrics]
        self.print(f"{self._title(trainer)}: {time.monotonic() - self._began:.1f} s, {', '.join(shown)}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say so on the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str("validating")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal in order."""
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the terminal in order."""
        self._close()

    def _title(self, trainer: pl.Trainer) -> str:
        last = trainer.max_epochs
        return f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last and last > 0 else "")

    def _interval(self) -> float:
        return self.refresh_seconds if sys.stderr.isatty() else self.line_seconds

    def _open(self, title: str, total: int) -> None:
        self._close()
        self._bar = tqdm(total=total, desc=title, file=sys.stderr, leave=False, dynamic_ncols=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
