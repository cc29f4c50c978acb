"""Language modelling: windows of contiguous streams, the recurrent state carried from window to window.

Truncated back-propagation through time: the state enters a window detached. Training and evaluation carry
separate states; a stream whose `reset` is set starts from zero. Every scored token counts once, in float64;
the reported loss, perplexity and bits never contain label smoothing or a regulariser.

Letters: T time, B streams, V vocabulary. The loss of a window is the mean over its scored tokens, those of
all processes.
"""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.data.specs import IGNORE, TextSpec, TokenBatch
from gatelab.tasks.base import OptimizerFactory, ScheduleFactory, Task
from gatelab.tasks.burn_in_check import Stitches
from gatelab.tasks.metrics import TokenLoss
from gatelab.tasks.resume import State, detach, reset_state

HEAD_ELEMENTS = 1 << 22
"""Logits held at once in evaluation (16 MiB in float32), so that a window may be a whole corpus."""


class LanguageModelTask(Task):
    """Train and evaluate a `gatelab.core.LanguageModel` (or anything with its `features` and `head`).

    Args:
        label_smoothing: share of the target's probability spread evenly over the vocabulary, in the objective
            only.
        activation_regularization: AR, times the mean square of what the head reads (Merity et al. 2017).
        temporal_regularization: TAR, times the mean square of the core's change from step to step (ibid.).
        stitch_tolerance: largest difference of states at a stitch of evaluation streams that passes without a
            warning.

    The other arguments are those of `Task`. Metrics: `loss` (nats per token), `ppl`, `bpc` (bits per
    character; bits per token where tokens stand for no text), `tokens`, and `stitch` with several evaluation
    streams.
    """

    kind: ClassVar[str] = TextSpec.kind
    unit: ClassVar[str] = "tokens"
    figures = ("loss", "ppl", "bpc", "tokens")
    metric: TokenLoss

    def __init__(
        self,
        net: nn.Module,
        *,
        spec: TextSpec,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        hparams: dict[str, Any] | None = None,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        seed: int = 0,
        label_smoothing: float = 0.0,
        activation_regularization: float = 0.0,
        temporal_regularization: float = 0.0,
        stitch_tolerance: float = 1e-3,
    ) -> None:
        super().__init__(
            net,
            spec=spec,
            optimizer=optimizer,
            schedule=schedule,
            hparams=hparams,
            monitor=monitor,
            mode=mode,
            seed=seed,
        )
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        for name, value in (
            ("activation_regularization", activation_regularization),
            ("temporal_regularization", temporal_regularization),
        ):
            if value < 0.0:
                raise ValueError(f"{name} must not be negative, not {value}")
        self.label_smoothing = label_smoothing
        self.activation_regularization = activation_regularization
        self.temporal_regularization = temporal_regularization
        self.stitch_tolerance = stitch_tolerance
        self.metric = TokenLoss()
        self.stitches = Stitches()
        self._train_state: State = None
        self._eval_state: State = None
        self._core_output: Tensor | None = None
        if temporal_regularization:
            self.net.core.register_forward_hook(self._keep_core_output)

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: TextSpec
    ) -> nn.Module:
        """Call the network's factory with what the spec says: `net(vocab_size=V, core=core)`."""
        return net(vocab_size=spec.vocabulary, core=core)

    def count(self, batch: TokenBatch) -> int:
        """Return the batch's tokens, padding included."""
        return batch.inputs.numel()

    # training

    def train_loss(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective, the summed NLL (nats) and the number of scored tokens of one window."""
        state = reset_state(self._train_state, batch.reset)
        features, state = self.net.features(batch.inputs, state)
        self._train_state = detach(state)
        logits, targets = self.net.head(features).flatten(0, 1), batch.targets.flatten()
        count = (targets != IGNORE).sum()
        nll = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
        total = nll
        if self.label_smoothing:
            total = F.cross_entropy(
                logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=self.label_smoothing
            )
        # a window may hold padding only: its loss is zero, not 0/0
        objective = total / self.mean_count(count)
        if self.activation_regularization:
            objective = objective + self.activation_regularization * features.square().mean()
        if self.temporal_regularization and len(batch.inputs) > 1:
            assert self._core_output is not None
            change = self._core_output[1:] - self._core_output[:-1]
            objective = objective + self.temporal_regularization * change.square().mean()
        self._core_output = None
        return objective, nll, count

    def _keep_core_output(self, core: nn.Module, args: Any, output: tuple[Tensor, State]) -> None:
        if core.training:
            self._core_output = output[0]

    # evaluation

    def begin_eval(self, split: str) -> None:
        """Start from a zero state."""
        super().begin_eval(split)
        self._eval_state = None
        self.stitches = Stitches()

    def eval_step(self, batch: TokenBatch) -> None:
        """Score one window; the head runs over a part of it at a time."""
        state = reset_state(self._eval_state, batch.reset)
        self.stitches.see(batch, state)
        features, self._eval_state = self.net.features(batch.inputs, state)
        rows, targets = features.flatten(0, 1), batch.targets.flatten()
        size = max(1, HEAD_ELEMENTS // self.spec.vocabulary)
        for part, target in zip(rows.split(size), targets.split(size), strict=True):
            logits = self.net.head(part).float()
            nll = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
            self.metric.update(nll.sum(dtype=torch.float64), (target != IGNORE).sum())

    def end_eval(self, split: str) -> dict[str, Tensor]:
        """Return the figures; warn where the streams' seams could have moved them."""
        name = "valid" if split == "val" else split
        if self.spec.characters.get(name):
            self.metric.characters_per_token = self.spec.characters_per_token(name)
        figures = super().end_eval(split)
        stitch = self.stitches.largest(self._eval_state) if self._saw_everything(split) else None
        if stitch is not None:
            figures["stitch"] = stitch
            if stitch > self.stitch_tolerance:
                warnings.warn(
                    f"{split}: the states of neighbouring evaluation streams differ by {float(stitch):.2g} "
                    "where they meet: perplexity may depend on the number of streams. Raise data.burn_in, or "
                    "set data.eval_batch_size=1",
                    stacklevel=2,
                )
        self._eval_state = None
        return figures

    def _saw_everything(self, split: str) -> bool:
        """Whether the evaluation went to the end of the streams (a limit on its batches cuts them short)."""
        trainer = self.trainer
        limit = trainer.limit_val_batches if split == "val" else trainer.limit_test_batches
        return not trainer.sanity_checking and isinstance(limit, float) and limit == 1.0

    # checkpoints

    def carried(self) -> dict[str, Any]:
        """Add the recurrent state of this process' streams."""
        state = detach(self._train_state, torch.device("cpu"))
        return {**super().carried(), "state": state}

    def carry_on(self, carried: dict[str, Any]) -> None:
        """Take up the recurrent state too."""
        super().carry_on(carried)
        self._train_state = carried["state"]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Bring a state that was read from a checkpoint to the device, once."""
        state = self._train_state
        first = state if isinstance(state, Tensor) or state is None else state[0]
        if first is not None and first.device != self.device:
            self._train_state = detach(state, self.device)
