"""What is taken from Lightning's steps is only what does nothing."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.profilers import SimpleProfiler

from gatelab.tasks.intervals import on_logged_steps
from gatelab.tasks.lean import STEP_HOOKS, NoProfiler

Make = Callable[..., Any]


class Early(pl.Callback):
    """Notes, in a list that all share, the hooks that its own class has."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.seen.append((trainer.global_step, "early", len(args) - 1))


class Late(Early):
    """Has one more, and one that is called on logged steps only."""

    def on_after_backward(self, *args: Any) -> None:
        self.seen.append("backward")

    @on_logged_steps
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append((trainer.global_step, "logged", batch_idx, float(outputs["loss"])))


def test_hooks_that_do_something_are_called_in_the_same_order_and_the_run_is_the_same(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    ends = []
    for profiler in (None, SimpleProfiler(), NoProfiler()):
        seen: list[Any] = []
        lambdas = LambdaCallback(on_before_zero_grad=lambda *_, seen=seen: seen.append("lambda"))
        callbacks = [Early(seen), Late(seen), pl.Callback(), lambdas]
        task = make_task(data := text_data())
        task.on_after_backward = functools.partial(seen.append, "own")
        trainer = make_trainer(callbacks=callbacks, max_steps=4, log_every_n_steps=2, profiler=profiler)
        trainer.fit(task, datamodule=data)
        ends.append((seen, task.state_dict()))
    (seen, weights), *others = ends
    assert seen[:5] == [(0, "early", 2), (0, "early", 2), "lambda", "backward", "own"]
    assert [entry[:3] for entry in seen if "logged" in entry] == [(2, "logged", 1), (4, "logged", 3)]
    for same, end in others:
        assert same == seen
        assert all(torch.equal(weights[name], end[name]) for name in weights)
    assert all(getattr(callback, hook) is None for callback in callbacks[:3] for hook in STEP_HOOKS)
    assert pl.Callback.on_after_backward is not None


def test_a_copy_of_the_module_does_not_copy_the_run(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    trainer = make_trainer(callbacks=[Late([])], max_steps=1, profiler=NoProfiler())
    trainer.fit(task := make_task(data := text_data(), schedule=None), datamodule=data)
    assert copy.deepcopy(task).on_train_batch_start.trainer is trainer
