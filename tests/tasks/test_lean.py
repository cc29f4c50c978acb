"""What is taken from Lightning's steps is only what does nothing."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.tasks.lean import STEP_HOOKS, NoProfiler, skip_empty_hooks

Make = Callable[..., Any]


class Early(pl.Callback):
    """Counts the hook that its own class has."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.seen.append("start")


class Late(Early):
    """Counts one more."""

    def on_after_backward(self, *args: Any) -> None:
        self.seen.append("backward")


def test_hooks_that_do_something_are_called_and_the_run_is_the_same(
    text_data: Make, make_task: Make, make_trainer: Make
) -> None:
    ends = []
    for lean in (False, True):
        data, task, callbacks = text_data(), None, [Early(), Late(), pl.Callback()]
        trainer = make_trainer(
            callbacks=callbacks, max_steps=4, **({"profiler": NoProfiler()} if lean else {})
        )
        if lean:
            skip_empty_hooks(trainer.callbacks)
        task = make_task(data)
        trainer.fit(task, datamodule=data)
        assert callbacks[0].seen == ["start"] * 4
        assert callbacks[1].seen == ["start", "backward"] * 4
        ends.append(task.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert all(getattr(callbacks[2], hook) is None for hook in STEP_HOOKS)
    assert pl.Callback.on_after_backward is not None
