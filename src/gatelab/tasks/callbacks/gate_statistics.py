"""Statistics of the gates of the recurrent core: how open, how saturated, and for how many steps a unit remembers.

Every so many steps it looks at a few sequences of the batch that is trained on, with the weights of that step, and
logs under `gates/`. It changes nothing: no random number is drawn and no state is touched, so that a run with it is
bit for bit the run without.

Of each layer, GRU and LSTM alike, a unit i keeps the share k_t of its state at step t (z or 1 - z, by the variant;
the LSTM's forget gate f; see `core/gates.py`). What it held before is multiplied by exp(-1 / tau_i) a step on
average, with the time constant

    tau_i = -1 / mean over t and sequences of ln k_t,i      (in steps of the core; -1 / ln k for a constant gate)
"""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from gatelab.core.gates import CLOSED, OPEN, Gates, gates, has_gates, time_constants
from gatelab.tasks.base import log_once, logs_rarely
from gatelab.tasks.lightning_internals import between_micro_batches, current_step
from gatelab.tasks.resume import each

QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}


class GateStatistics(pl.Callback):
    """Log the gates of `pl_module.net.core`; a core without gates, or of another kind, is left alone.

    `gates/layer0/update_mean` (share of the state that a step replaces), `.../update_saturation` (share of its
    values below 0.05 or above 0.95), the same of `reset` (LSTM: `input`, `forget`, `output`; minGRU: `update`
    alone), and `.../time_constant_p10`, `_median`, `_p90` over the units, in steps.

    Args:
        every_n_steps: optimiser steps between two looks, rounded up to the next step that the Trainer logs.
        sequences: of the batch of the first process, evenly spread, that are looked at, over all their steps.

    Calls with `lengths` or `reset_mask` and packed sequences are not looked at: their padding has no gates.
    """

    def __init__(self, every_n_steps: int = 200, sequences: int = 8) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("sequences", sequences)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.every_n_steps, self.sequences = every_n_steps, sequences
        self._figures: dict[str, Tensor] = {}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Wait for the core's next call, if it is this step's turn."""
        if logs_rarely(trainer, current_step(trainer), self.every_n_steps) and trainer.is_global_zero:
            core = getattr(getattr(pl_module, "net", None), "core", None)
            if has_gates(core):
                self._listen(core)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what was seen; of a step of several batches, in the last of them."""
        if self._figures and not between_micro_batches(trainer):
            values = torch.stack(list(self._figures.values())).tolist()  # an accelerator is waited for once
            log_once(trainer, dict(zip(self._figures, values, strict=True)))
            self._figures = {}

    def _listen(self, core: Any) -> None:
        @torch.compiler.disable  # of a compiled core the call is compiled with its hooks, and this one comes and goes
        def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            handle.remove()  # once: the steps in between call the core as if nobody looked
            x, state = (*args, None)[:2]
            if isinstance(x, Tensor) and all(value is None for value in kwargs.values()):
                with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
                    self._figures = dict(self._statistics(module, x, state))

        handle = core.register_forward_pre_hook(look, with_kwargs=True)

    def _statistics(self, core: Any, x: Tensor, state: Any) -> Iterator[tuple[str, Tensor]]:
        x = (x.transpose(0, 1) if core.batch_first else x).to(next(core.parameters()).dtype)
        chosen = slice(0, None, max(1, -(-x.shape[1] // self.sequences)))
        for layer in gates(core, x[:, chosen], each(state, lambda part: part[:, chosen])):
            for name, value in statistics(layer).items():
                yield f"gates/{layer.layer}/{name}", value


def statistics(layer: Gates) -> dict[str, Tensor]:
    """Means, saturated shares and time constants of one layer, as scalars."""
    every = torch.stack(list(layer.values.values())) if layer.values else torch.zeros(0, 1, 1, 1)
    means = every.mean(dim=(1, 2, 3))
    saturated = ((every < CLOSED) | (every > OPEN)).mean(dim=(1, 2, 3), dtype=torch.float32)
    found = {}
    for name, mean, saturation in zip(layer.values, means, saturated, strict=True):
        found[f"{name}_mean"], found[f"{name}_saturation"] = mean, saturation
    constants = time_constants(layer.log_keep)
    levels = constants.new_tensor(list(QUANTILES.values()))
    for name, value in zip(QUANTILES, constants.quantile(levels), strict=True):
        found[f"time_constant_{name}"] = value
    return found
