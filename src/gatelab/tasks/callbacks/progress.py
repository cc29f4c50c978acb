"""Progress of a run for its user: a bar on a terminal, plain lines elsewhere; both on stderr.

It draws a few times a second at most, so that a step of a millisecond is not spent on drawing. The numbers of
record are the loggers' affair. Where a line is too narrow, whole fields go, the least important first; a number is
never cut.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from gatelab.tasks import resume
from gatelab.tasks.contract import Metric, best_of

BAR_LEAST, BAR_MOST = 4, 30
"""Characters of the bar; where fewer are left there is none."""
SHOWN = 3
"""How many of the task's metrics stand in the line of an epoch."""


class Field(NamedTuple):
    """A part of the line; `rank` 0 always stays, and the highest rank goes first."""

    text: str
    rank: int = 0


class Progress(ProgressBar):
    """Show epoch, tokens or windows per second, loss, the monitored metric with its best, and the time left.

    After the first validation the best of the trivial baselines stands beside the metric, where the DataModule
    knows any (`baselines`) and the whole split is validated. The time left is that of the run, validations
    included, at the pace so far.

    Args:
        refresh_seconds: time between two drawings of the bar.
        line_seconds: time between two lines where stderr is not a terminal.
    """

    def __init__(self, refresh_seconds: float = 0.2, line_seconds: float = 30.0) -> None:
        super().__init__()
        self.refresh_seconds, self.line_seconds = refresh_seconds, line_seconds
        self._enabled = True
        self._drawn = 0  # characters of the bar that stand on the terminal
        self._next = self._epoch_began = self._run_began = self._paused = self._pause_began = 0.0
        self._counted = self._first_step = 0  # what the task had counted when the epoch began
        self._baseline: tuple[str, float] | None = None
        self._asked = False

    def enable(self) -> None:
        """Show (Lightning's switch)."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing (Lightning's switch, and that of all processes but the first)."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line without tearing the bar."""
        if self._enabled:
            self._erase()
            print(*args, file=sys.stderr, flush=True)

    # training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the run, and of the epoch in whose middle a resumed run begins."""
        self._run_began = self._epoch_began = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._epoch_began = now = time.monotonic()
        self._counted, self._paused = getattr(pl_module, "items", 0), 0.0
        self._next = now + self._interval() if self._enabled else math.inf
        if self._enabled and sys.stderr.isatty():
            self._draw(bar_line(_title(trainer), 0.0, [], _width() - 1, *_signs()))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if it is time."""
        if time.monotonic() >= self._next:
            self._show(trainer, pl_module, outputs, batch_idx)

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch_idx: int) -> None:
        self._next = time.monotonic() + self._interval()
        done, total = batch_idx + 1, _batches(trainer, batch_idx + 1)
        fields = self._fields(trainer, pl_module, float(outputs["loss"]))
        if sys.stderr.isatty():
            share = done / total if total else 0.0
            self._draw(bar_line(_title(trainer), share, fields, _width() - 1, *_signs()))
        else:
            of = f"/{total}" if total else ""
            self.print(f"{_title(trainer)}: {done}{of} batches, {', '.join(f.text for f in fields)}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave one line about the epoch."""
        if not self._enabled:
            return
        self._erase()
        metrics = trainer.callback_metrics
        monitored = _monitored(trainer, pl_module)
        shown = [metric for metric in getattr(pl_module, "figures", ()) if metric.better][:SHOWN]
        names = ["train/loss", *(f"val/{metric.name}" for metric in shown)]
        fields = [
            Field(f"{_title(trainer)}:"),
            Field(f"{time.monotonic() - self._epoch_began:.1f} s"),
            *self._metric(trainer, pl_module, now_best="best"),
            *(
                Field(f"{name} {figure(float(metrics[name]))}", 6 + place)
                for place, name in enumerate(names)
                if name in metrics and name != monitored
            ),
        ]
        wide = sys.maxsize if not sys.stderr.isatty() else _width() - 1
        self.print(fit(fields, wide))

    # validation

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of the rate."""
        self._pause_began = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw if it is time."""
        now = time.monotonic()
        if now >= self._next and self._drawn:
            self._next = now + self._interval()
            total = float(self.total_val_batches)
            share = (batch_idx + 1) / total if math.isfinite(total) else 0.0
            self._draw(bar_line(f"{_title(trainer)} validating", share, [], _width() - 1, *_signs()))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the baseline, once; let the clock of the rate go on."""
        if self._enabled and not self._asked and resume.is_fitting(trainer) and not trainer.sanity_checking:
            self._asked = True
            self._baseline = _best_baseline(trainer, pl_module)
        self._paused += time.monotonic() - self._pause_began

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal in order."""
        self._erase()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the terminal in order."""
        self._erase()

    # what is shown

    def _fields(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: float) -> list[Field]:
        seconds = time.monotonic() - self._epoch_began - self._paused
        items = (getattr(pl_module, "items", 0) - self._counted) * trainer.world_size
        fields = [
            Field(f"loss {figure(loss)}", 1),
            *self._metric(trainer, pl_module),
            Field(rate(items / max(seconds, 1e-9), getattr(pl_module, "unit", "items")), 3),
        ]
        left = self._left(trainer)
        return fields if left is None else [*fields, Field(f"{tqdm.format_interval(left)} left", 1)]

    def _metric(self, trainer: pl.Trainer, pl_module: pl.LightningModule, now_best: str = "") -> list[Field]:
        """The monitored metric, its best and the baseline; nothing before the first validation."""
        name = _monitored(trainer, pl_module)
        if name not in trainer.callback_metrics:
            return []
        value = float(trainer.callback_metrics[name])
        best = getattr(trainer.checkpoint_callback, "best_score", None)
        fields = [Field(f"{name} {figure(value)}", 2)]
        if best is not None and best != value:
            fields.append(Field(f"best {figure(best)}", 4))
        elif best is not None and now_best:
            fields.append(Field(now_best, 4))
        if self._baseline is not None:
            fields.append(Field(f"{self._baseline[0]} {figure(self._baseline[1])}", 5))
        return fields

    def _left(self, trainer: pl.Trainer) -> float | None:
        """Seconds until the run ends at the pace so far; None where its length is not known."""
        total, done = trainer.estimated_stepping_batches, trainer.global_step - self._first_step
        if not math.isfinite(total) or total <= 0 or done <= 0:
            return None
        pace = (time.monotonic() - self._run_began) / done
        return pace * max(total - trainer.global_step, 0)

    def _interval(self) -> float:
        return self.refresh_seconds if sys.stderr.isatty() else self.line_seconds

    def _draw(self, line: str) -> None:
        sys.stderr.write(f"\r{line}{' ' * (self._drawn - len(line))}")
        sys.stderr.flush()
        self._drawn = len(line)

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\r{' ' * self._drawn}\r")
            sys.stderr.flush()
            self._drawn = 0


def _title(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last and last > 0 else "")


def _batches(trainer: pl.Trainer, done: int) -> int:
    """Batches of this epoch, of which `done` are done; fewer where `max_steps` ends it; 0 if nobody knows."""
    total = trainer.num_training_batches
    if trainer.max_steps > 0:
        total = min(total, done + (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    return int(total) if math.isfinite(total) else 0


def _monitored(trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
    return getattr(trainer.checkpoint_callback, "monitor", None) or str(getattr(pl_module, "monitor", ""))


def _best_baseline(trainer: pl.Trainer, pl_module: pl.LightningModule) -> tuple[str, float] | None:
    """The trivial baseline that is hardest to beat, over the split that was validated: its name and value."""
    baselines = getattr(getattr(trainer, "datamodule", None), "baselines", None)
    limit = trainer.limit_val_batches  # 1 is one batch, 1.0 is all of them
    if baselines is None or not (isinstance(limit, float) and limit == 1.0):
        return None
    key = _monitored(trainer, pl_module).removeprefix("val/")
    found = {name.replace("_", " "): row[key] for name, row in baselines("valid").items() if key in row}
    metric = Metric(key, better="max" if getattr(pl_module, "mode", "min") == "max" else "min")
    return best_of(metric, found.items()) if found else None


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _signs() -> tuple[str, str]:
    """The characters of the bar that stderr can show."""
    try:
        "━─".encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        return "#", "-"
    return "━", "─"


def fit(fields: Sequence[Field], width: int) -> str:
    """Join the fields with two spaces, leaving out the highest ranks until the line has `width` characters."""
    kept = list(fields)
    while len(line := "  ".join(field.text for field in kept)) > width:
        droppable = [field for field in kept if field.rank]
        if not droppable:
            return line[:width]
        kept.remove(max(droppable, key=lambda field: field.rank))
    return line


def bar_line(title: str, share: float, fields: Sequence[Field], width: int, filled: str, empty: str) -> str:
    """`title ━━━━──── 45%  fields`: the bar takes the room that the fields of rank up to 3 leave.

    Args:
        share: of the work that is done, 0 to 1.
        filled, empty: one character each.
    """
    percent = f"{min(int(100 * share), 100):3d}%"
    room = width - len(fit([Field(f"{title} {percent}"), *(f for f in fields if f.rank <= 3)], width)) - 1
    bar = ""
    if room >= BAR_LEAST:
        length = min(room, BAR_MOST)
        done = min(int(length * share), length)
        bar = f" {filled * done}{empty * (length - done)}"
    return fit([Field(f"{title}{bar} {percent}"), *fields], width)


def figure(value: float) -> str:
    """Four significant digits, of the same length for values of one size: 0.3810, 144.1, 1.200e-05."""
    return f"{value:#.4g}".removesuffix(".") if math.isfinite(value) else str(value)


def rate(value: float, unit: str) -> str:
    """`12.3k windows/s`."""
    return f"{tqdm.format_sizeof(value)} {unit}/s"
