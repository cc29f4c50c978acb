"""The base of every task: optimiser and schedule, step randomness, the training loss' sums, results, exact resume.

A task is a network with an objective and metrics; it reads everything about the data from a spec. It does not
load data (`gatelab.data`), choose devices (the Trainer) or read configs (`gatelab.run`). A subclass says what one batch
means (`train_loss`, `eval_step`, `count`), which torchmetrics object collects the evaluation (`metric`), and what the
views show (`figures`, `sample`, `predict`, `graph`; see `views.py`).
"""

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

import pytorch_lightning as pl
import torch
import torchmetrics
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gatelab.tasks import resume
from gatelab.tasks.checkpoint_io import check_serializable
from gatelab.tasks.distillation import Teacher, refuse_teacher
from gatelab.tasks.fine_tuning import FineTuning
from gatelab.tasks.lightning_internals import attached_trainer, begin_epoch_afresh, current_step
from gatelab.tasks.metrics import not_among
from gatelab.tasks.schedules import scheduler_for
from gatelab.tasks.trace import Trace
from gatelab.tasks.views import Views

OptimizerFactory = Callable[..., Optimizer]
ScheduleFactory = Callable[..., LRScheduler | None]
CHECKPOINT_KEY = "gatelab"


class TaskOptions(TypedDict):
    """The arguments of every task, see `Task`; a subclass adds its own and hands these on."""

    spec: Any
    optimizer: OptimizerFactory
    schedule: NotRequired[ScheduleFactory | None]
    hparams: NotRequired[dict[str, Any] | None]
    monitor: NotRequired[str | None]
    mode: NotRequired[Literal["min", "max"]]
    seed: NotRequired[int]
    teacher: NotRequired["Task | str | None"]
    distill_weight: NotRequired[float | None]
    temperature: NotRequired[float | None]


class Task(Views, pl.LightningModule):
    """A network that trains and reports.

    Args:
        net: the network.
        spec: what the DataModule says about its data (`to_dict()` is kept in the checkpoint).
        optimizer: called with the parameters.
        schedule: called with the optimiser and, if it asks for it, the run's number of steps (see
            `schedules.scheduler_for`); None for a constant rate.
        hparams: plain data to keep in the checkpoint, usually the resolved config.
        monitor: the metric that says which epoch was best, None: the first of `figures`; a plateau
            schedule follows it.
        mode: "min" if less is better.
        seed: of the randomness inside training steps.
        teacher: a trained task of the same kind on the same data, to learn from as well: distillation (Hinton et al.
            2015, arXiv:1503.02531). In a configuration it is the directory of a run.
        distill_weight: the share of its answers in the objective, above 0 and at most 1 (None: 0.5).
        temperature: softens the probabilities of both, at least 1 (None: 2).

    Attributes:
        spec_type: the class of spec that the task reads; unit: what its batches are counted in; `figures` and the
            rest that views ask for: see `Views`.
        taught_by: facts of the spec that a teacher's has to share; empty: the task learns from no teacher.
        results: after an evaluation, `results["val"]` or `results["test"]`: the metrics as Python floats.
        steps: training batches seen by this process, over all epochs and restarts; items: how many `unit`s they
            held, since the process began.
        trace: where the first process notes every step's loss and every epoch's weights; None: nowhere.
        fine_tuning: which parts of the network are trained, and at which rates; None: all, at one.
        step_skipped: whether the gradient scaler of `trainer.precision=16-mixed` left the last optimiser step out,
            because its gradient was not finite. Such a step counts in `trainer.global_step`, and changes neither
            weights nor schedule nor averages.
    """

    spec_type: ClassVar[Any]
    unit: ClassVar[str]
    taught_by: ClassVar[tuple[str, ...]] = ()
    metric: torchmetrics.Metric

    def __init__(
        self,
        net: nn.Module,
        *,
        spec: Any,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        hparams: dict[str, Any] | None = None,
        monitor: str | None = None,
        mode: str = "min",
        seed: int = 0,
        teacher: "Task | str | None" = None,
        distill_weight: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
        monitor = monitor or f"val/{self.figures[0].name}"
        if monitor not in (known := [f"val/{figure.name}" for figure in self.figures if figure.better]):
            raise ValueError(not_among(monitor, known))
        if why := self.why_without(monitor, spec):
            raise ValueError(f"monitor={monitor}: {why}")
        check_serializable(hparams or {}, "hparams")
        self.save_hyperparameters(hparams or {}, logger=False)
        self.net: Any = net
        self.spec = spec
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.monitor, self.mode, self.seed = monitor, mode, seed
        self.results: dict[str, dict[str, float]] = {}
        self.steps = self.items = 0
        self.trace: Trace | None = None
        self.fine_tuning: FineTuning | None = None
        self.step_skipped = False
        self.teacher: Teacher | None = None
        if teacher is not None:
            refuse_teacher(self, teacher)
            self.teacher = Teacher(teacher, distill_weight, temperature)
        elif distill_weight is not None or temperature is not None:
            given = "distill_weight" if distill_weight is not None else "temperature"
            raise ValueError(
                f"{given}: says how to learn from a teacher; give teacher=RUN_DIR, or leave it out"
            )
        self._rate_scale = 1.0
        self._sums: Any = [0.0, 0.0]  # loss and count since the last logged step
        self._resumed: resume.Position | None = None

    # what a subclass says

    @abstractmethod
    def train_loss(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the objective (scalar, differentiable), and the reported loss as a sum and a count.

        Of a number that Python knows, `torch.full((), number, device=...)` makes the count: a copy from the CPU
        would wait for the GPU in every step.
        """

    @abstractmethod
    def eval_step(self, batch: Any) -> None:
        """Feed one evaluation batch to the metric."""

    @classmethod
    @abstractmethod
    def build_net(cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: Any) -> nn.Module:
        """Call the network's factory with what the spec says about the data."""

    @abstractmethod
    def count(self, batch: Any) -> int:
        """Return how many `unit`s (tokens, windows) a training batch holds."""

    @classmethod
    def why_without(cls, metric: str, spec: Any) -> str | None:
        """Return why data of this spec have no `metric` (e.g. `val/mase`), and which to take; None: they have it."""
        return None

    def begin_eval(self, split: str) -> None:
        """Forget the last evaluation; `split` is "val" or "test"."""
        self.metric.reset()

    def end_eval(self, split: str) -> dict[str, Tensor]:
        """Return the evaluation's figures; a collective call under DDP."""
        figures: dict[str, Tensor] = self.metric.compute()
        return figures

    def carried(self) -> dict[str, Any]:
        """Return what this process carries from step to step, as plain data on the CPU."""
        sums = torch.as_tensor(self._sums, dtype=torch.float64).cpu()
        return {"steps": self.steps, "sums": sums, "step_skipped": self.step_skipped}

    def carry_on(self, carried: dict[str, Any]) -> None:
        """Take up what `carried` returned, inside the same epoch."""
        self._take_sums(carried["sums"])
        self.step_skipped = carried.get("step_skipped", False)

    # training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network."""
        return self.net(*args, **kwargs)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, unless the rate is constant, its schedule over all steps of the run."""
        optimizer = self._optimizer()
        if self.make_schedule is None:
            return optimizer
        total = self.trainer.estimated_stepping_batches
        if not math.isfinite(total):
            raise ValueError("a schedule needs the run's length: set trainer.max_epochs or trainer.max_steps")
        scheduler = scheduler_for(self.make_schedule, optimizer, int(total))
        if scheduler is None:
            return optimizer
        # a plateau schedule is stepped in `_finish_eval`: Lightning would do so after the epoch's checkpoint
        config = {"scheduler": scheduler, "interval": "step", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _optimizer(self) -> Optimizer:
        """The optimiser; not fused where that hides the gradient: under a scaler, or when mixed precision is clipped.

        A fused step takes gradients that are still scaled, so that their norm could be neither clipped nor told, and
        decides on the GPU whether it is skipped. Lightning refuses to clip before any fused step of mixed precision.

        Raises:
            ValueError: a fused one was asked for in these cases.
        """
        options: dict[str, bool] = {}
        precision, scaler = str(self.trainer.precision), gradient_scaler(self.trainer)
        clips_mixed = precision.endswith("-mixed") and self.trainer.gradient_clip_val
        fused = inspect.signature(self.make_optimizer).parameters.get("fused")
        if fused and (scaler is not None or clips_mixed):
            if fused.default is True:
                clip = "" if scaler is not None else " with trainer.gradient_clip_val"
                raise ValueError(
                    f"optim.fused=true does not go with trainer.precision={precision}{clip}: leave one out"
                )
            options = {"fused": False}
        optimizer = self.make_optimizer((p for p in self.parameters() if p.requires_grad), **options)
        if self.fine_tuning is not None:
            self.fine_tuning.share_out(optimizer)
        if scaler is not None:
            optimizer.register_step_post_hook(self._note_step)
        return optimizer

    def _note_step(self, *_: Any) -> None:
        """Note that the optimiser has taken its step; the scaler does not call it for one that it skips."""
        self.step_skipped = False

    def mean_count(self, count: Tensor) -> Tensor:
        """Return the mean of `count` over all processes, at least one item for all of them together.

        A sum over this process' batch divided by it is an objective whose average over the processes, which is what
        DDP trains on, is the mean over all items: padded windows and uneven last batches weigh what they hold.
        """
        trainer = attached_trainer(self)
        world_size = trainer.world_size if trainer is not None else 1
        if world_size == 1:
            return count.clamp(min=1)
        total = count.to(torch.float32)
        torch.distributed.all_reduce(total)
        return total.clamp(min=1.0) / world_size

    def rate_scale(self, batch: Any) -> float:
        """What the rate of this batch's step is multiplied by."""
        return 1.0

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Take a step, at a rate scaled by `rate_scale` of the batch; see `step_skipped`."""
        self.step_skipped = gradient_scaler(self.trainer) is not None  # until the optimiser takes it
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups if self._rate_scale != 1.0 else ():
            group["lr"] *= self._rate_scale
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Advance a schedule by one step, unless that was skipped; a plateau schedule waits for the next validation."""
        if not isinstance(scheduler, ReduceLROnPlateau) and not self.step_skipped:
            scheduler.step()

    def on_fit_start(self) -> None:
        """Bring the sums and a teacher to the device; refuse a callback whose monitor is not logged.

        Raises:
            ValueError: a callback watches something that the task does not log.
        """
        known = [*(f"val/{figure.name}" for figure in self.figures), "train/loss", "train/lr"]
        for name, monitor in self._monitors():
            if monitor.startswith(("val/", "train/")) and monitor not in known:
                raise ValueError(f"callbacks: {name}: {not_among(monitor, known)}")
            if why := self.why_without(monitor, self.spec):
                raise ValueError(f"callbacks: {name}: monitor={monitor}: {why}")
        self._take_sums(torch.as_tensor(self._sums, dtype=torch.float64))
        if self.teacher is not None:
            self.teacher.to(self.device)

    def _monitors(self) -> list[tuple[str, str]]:
        """The class of each callback that watches a metric, and the metric."""
        watching = ((type(c).__name__, getattr(c, "monitor", None)) for c in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [(name, monitor) for name, monitor in watching if isinstance(monitor, str)]

    def on_train_start(self) -> None:
        """Finish a resume, now that the loops stand; refuse a callback whose monitor comes too late for it.

        Raises:
            ValueError: a callback stops by the training loss, which no step of an epoch logs.
        """
        steps, every = self.trainer.num_training_batches, self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        for name, monitor in self._monitors():
            if name == "EarlyStopping" and monitor.startswith("train/") and not 0 < every <= steps:
                raise ValueError(
                    f"callbacks: {name}: {monitor} is logged every {every} steps, and an epoch has {steps:.0f}; "
                    "give trainer.log_every_n_steps=1"
                )
        if self._resumed is not None:
            if not self._resumed.batch:
                begin_epoch_afresh(self.trainer)
            self._resumed = None
        if self.trace is not None and not self.trainer.is_global_zero:
            self.trace = None
        if self.trace is not None:
            self.trace.begin(self.steps, self.current_epoch, self.net)

    def on_train_epoch_start(self) -> None:
        """Tell the trace which epoch it is."""
        if self.trace is not None:
            self.trace.flush()
            self.trace.epoch = self.current_epoch

    def on_train_epoch_end(self) -> None:
        """Note the weights; the epoch's checkpoint is written after this."""
        if self.trace is not None:
            self.trace.add_weights(self.net)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Look at what the batch asks of its step's rate."""
        self._rate_scale = self.rate_scale(batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the objective of one batch; random draws depend on (seed, rank, step) only."""
        resume.seed_step(self.seed, self.global_rank, self.steps, self.device)
        objective, loss, count = self.train_loss(batch)
        self.steps += 1
        self.items += self.count(batch)
        if self.trace is not None:
            self.trace.add_loss(objective)
        on_device = isinstance(self._sums, Tensor)
        self._sums[0] += loss.detach() if on_device else loss.item()
        self._sums[1] += count if on_device else count.item()
        return objective

    def on_after_backward(self) -> None:
        """Leave out the gradients of what is not trained yet."""
        if self.fine_tuning is not None:
            self.fine_tuning.hold(self.current_epoch)

    def _take_sums(self, sums: Tensor) -> None:
        """Go on from these sums, as numbers on the CPU: adding to an element of a tensor takes ten times as long."""
        self._sums = sums.tolist() if self.device.type == "cpu" else sums.to(self.device)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the loss since the last time and the rate, every `log_every_n_steps` optimiser steps and in the last one.

        The last step by `max_steps` stops the Trainer, which then validates inside the epoch too.
        """
        step, last = self.trainer.global_step + 1, self.trainer.max_steps
        if step == last:
            self.trainer.should_stop = True
            if self.trainer.check_val_every_n_epoch is not None:
                self.trainer.check_val_every_n_epoch = 1
        if logs_step(self.trainer, step) or step == last:
            own = torch.as_tensor(self._sums, dtype=torch.float64)
            sums = self.trainer.strategy.reduce(own, reduce_op="sum")
            self.log("train/loss", sums[0] / sums[1])
            self.log("train/lr", torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float64))
            if (scaler := gradient_scaler(self.trainer)) is not None:
                self.log("train/loss_scale", scaler.get_scale())
            self._take_sums(torch.zeros(2, dtype=torch.float64))

    # evaluation

    def on_validation_epoch_start(self) -> None:
        """Begin a validation."""
        self.begin_eval("val")

    def on_test_epoch_start(self) -> None:
        """Begin a test."""
        self.begin_eval("test")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate one batch."""
        self.eval_step(batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate one batch."""
        self.eval_step(batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/...` and let a plateau schedule see them."""
        self._finish_eval("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/...`."""
        self._finish_eval("test")

    def _finish_eval(self, split: str) -> None:
        figures = self.end_eval(split)
        if self.trainer.sanity_checking:
            return
        self.results[split] = {name: float(value) for name, value in figures.items()}
        # equal on every process already; "max" keeps the bits and Lightning's conscience clear
        several = self.trainer.world_size > 1
        for name, value in figures.items():
            progress = f"{split}/{name}" == self.monitor
            self.log(f"{split}/{name}", value, prog_bar=progress, sync_dist=several, reduce_fx="max")
        if split == "val" and resume.is_fitting(self.trainer):
            self._step_plateau({f"val/{name}": value for name, value in self.results[split].items()})

    def _step_plateau(self, figures: dict[str, float]) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                # torch's own may be given another mode
                sign = 1.0 if self.mode == config.scheduler.mode else -1.0
                config.scheduler.step(sign * figures[self.monitor])

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the spec, the position in the data and what every process carries; a collective call."""
        if self.trace is not None:  # a run that goes on from here finds every row until here
            self.trace.flush()
        saved: dict[str, Any] = {"task": type(self).__name__, "spec": self.spec.to_dict()}
        if resume.is_fitting(attached_trainer(self)):
            saved["position"] = resume.Position.of(self.trainer)._asdict()
            saved["ranks"] = resume.gather_ranks(self.carried())
        checkpoint[CHECKPOINT_KEY] = saved

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint stands, if it is loaded to train.

        Raises:
            ValueError: the checkpoint stands inside an epoch of another number of processes.
        """
        saved = checkpoint.get(CHECKPOINT_KEY, {})
        if not resume.is_fitting(attached_trainer(self)) or "position" not in saved:
            return
        self._resumed = position = resume.Position(**saved["position"])
        resume.restore(self.trainer, position)
        ranks = saved["ranks"]
        self.steps = ranks[0]["steps"]
        if len(ranks) == self.trainer.world_size:
            self.carry_on(ranks[self.trainer.global_rank])
        elif position.batch:
            raise ValueError(
                f"the checkpoint stands inside an epoch of {len(ranks)} processes and cannot go on with "
                f"{self.trainer.world_size}: use {len(ranks)} devices until the end of the epoch"
            )


def gradient_scaler(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    """The scaler of `trainer.precision=16-mixed`; None in every other precision.

    Half precision holds nothing between 0 and 6e-8, so the loss is multiplied before it is differentiated, and the
    gradient divided again (Micikevicius et al. 2018, arXiv:1710.03740). A step whose gradient is not finite then is
    skipped, and the scale halved; that is no fault.
    """
    return getattr(trainer.precision_plugin, "scaler", None)


def logs_step(trainer: pl.Trainer, step: int) -> bool:
    """Whether optimiser step `step`, counted from 1, is logged (`log_every_n_steps`); with an interval of 0 none is."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def logs_rarely(trainer: pl.Trainer, step: int, rarely: int) -> bool:
    """Whether optimiser step `step` is the first logged one at or after a multiple of `rarely` steps.

    For figures that are expensive to measure. It depends on the step alone, so a resumed run keeps to it.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return logs_step(trainer, step) and step // rarely > (step - every) // rarely


def log_once(trainer: pl.Trainer, figures: Mapping[str, float]) -> None:
    """Give figures to the loggers as those of the current step alone, before Lightning logs its row.

    `LightningModule.log` would repeat them in the row of every logged step until the epoch ends.
    """
    for logger in trainer.loggers if figures else ():
        logger.log_metrics(dict(figures), step=current_step(trainer) - 1)
