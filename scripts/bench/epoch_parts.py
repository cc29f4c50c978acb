"""Where the time of an epoch goes: every moment of a training run belongs to exactly one part.

Lightning tells its profiler when each of its actions begins and ends, and the network's modules say when they do.
Actions nest; a moment belongs to the innermost one. Inside the backward pass there are no modules: a part ends when
the gradient of its input is there, which a hook on that tensor tells.
"""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler
from torch import nn

from scripts.bench.epoch_turn import Contender, Slice, fit

ENTRY = "embedding, window normalisation"
FORWARD, BACKWARD = "recurrence, forward", "recurrence, backward"
LOSS, LOSS_BACKWARD = "head and loss, forward", "head and loss, backward"
LOOP, VALIDATION, CHECKPOINTS = "Lightning's loop, logging", "validation", "checkpoints"
# the first whose text is in the name of Lightning's action
ACTIONS = {
    "train_dataloader_next": "data",
    "batch_transfer": "data",
    "batch_to_device": "data",
    ".training_step": LOSS,
    ".backward": LOSS_BACKWARD,
    "gradient_clipping": "gradient clipping",
    "optimizer_step": "optimiser, schedule",
    "zero_grad": "optimiser, schedule",
    "lr_scheduler_step": "optimiser, schedule",
    "save_checkpoint": CHECKPOINTS,
}
CALLBACKS = "callbacks, hooks of the task"
PARTS = (
    "data",
    ENTRY,
    FORWARD,
    BACKWARD,
    LOSS,
    LOSS_BACKWARD,
    "gradient clipping",
    "optimiser, schedule",
    CALLBACKS,
    LOOP,
    VALIDATION,
    CHECKPOINTS,
)


def part_of(action: str) -> str:
    """The part that one of Lightning's actions belongs to."""
    hook = action.rpartition(".")[2]
    if action.startswith(("[Callback]", "[LightningModule]")) and hook.startswith("on_"):
        return "data" if "batch_transfer" in hook else CALLBACKS
    return next((part for text, part in ACTIONS.items() if text in action), LOOP)


class Parts(Profiler):
    """Seconds of each part since the last `take`."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._open: list[str] = [LOOP]
        self._since = time.perf_counter()
        self._validating = False

    def start(self, action_name: str) -> None:
        """Enter an action."""
        self.enter(part_of(action_name))

    def stop(self, action_name: str) -> None:
        """Leave it."""
        self.leave()

    def enter(self, part: str) -> None:
        """The time from here belongs to `part`."""
        self._settle()
        self._open.append(part)

    def leave(self) -> None:
        """The time from here belongs to the part that was entered before."""
        self._settle()
        self._open.pop()

    def turn(self, part: str) -> None:
        """The rest of the innermost part's time belongs to `part`."""
        self._settle()
        self._open[-1] = part

    def _settle(self) -> None:
        now = time.perf_counter()
        saving = self._open[-1] == CHECKPOINTS
        self.seconds[VALIDATION if self._validating and not saving else self._open[-1]] += now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """The seconds since the last time, a part each."""
        self._settle()
        taken, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return taken

    def validating(self, now: bool) -> None:
        """Between a validation's start and its end all time is its own."""
        self._settle()
        self._validating = now

    def watch(self, task: pl.LightningModule) -> None:
        """Tell the modules of a language model or a forecaster apart."""
        net: Any = task.net
        entry: nn.Module = net.embedding if hasattr(net, "embedding") else net.normalization
        for module, forward, backward in ((entry, ENTRY, None), (net.core, FORWARD, BACKWARD)):
            module.register_forward_pre_hook(lambda *_, part=forward: self.enter(part))
            module.register_forward_hook(lambda *_: self.leave())
            if backward:
                module.register_forward_hook(self._watch_backward)

    def _watch_backward(self, core: nn.Module, arguments: tuple[Any, ...], output: tuple[Any, Any]) -> None:
        if torch.is_grad_enabled():
            output[0].register_hook(lambda _: self.turn(BACKWARD))
            if arguments[0].requires_grad:
                arguments[0].register_hook(lambda _: self.turn(ENTRY))


class _Marks(pl.Callback):
    """Tells the clock where a slice begins and ends and when it validates; keeps the seconds of both."""

    def __init__(self, parts: Parts, part: Slice) -> None:
        self.parts, self.part = parts, part
        self.training: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.part.warmup:
            self.parts.take()
        elif batch_idx == self.part.warmup + self.part.training:
            self.training = self.parts.take()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.parts.validating(True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.parts.validating(False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.after = self.parts.take()


def profile(contender: Contender, part: Slice) -> dict[str, float]:
    """Seconds per epoch of each part: training and validation scaled to whole ones, checkpoints as they are."""
    parts = Parts()
    marks = _Marks(parts, part)
    fit(contender, part, [marks], parts)
    scale = contender.batches / part.training
    found = {name: seconds * scale for name, seconds in marks.training.items()}
    found[VALIDATION] = marks.after[VALIDATION] * contender.validation_batches / part.validation
    found[CHECKPOINTS] += marks.after[CHECKPOINTS]
    return found
