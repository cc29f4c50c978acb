"""Takes away what Lightning spends on every step without doing anything.

It calls each hook of each callback by itself, also the ones that are empty, makes a name for every call, and wraps it
in a context manager for a profiler that is not there. Nothing that is computed changes, nor the order;
`scripts/bench/callbacks.py` measures what remains.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import pytorch_lightning as pl
from pytorch_lightning.profilers import PassThroughProfiler

Hook = Callable[..., Any]
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
)


class NoProfiler(PassThroughProfiler):
    """Measures nothing, with one context manager for all calls instead of a generator for each."""

    _nothing = contextlib.nullcontext("")

    def profile(self, action_name: str) -> contextlib.nullcontext[str]:  # type: ignore[override]
        """Return the context manager that does nothing."""
        return self._nothing


class Joined:
    """A hook of a training step, of all callbacks and then of the module itself, as Lightning's order is.

    Those that are marked by `on_logged_steps` are called on such steps only.
    """

    def __init__(
        self, trainer: pl.Trainer, module: pl.LightningModule, name: str, hooks: Sequence[Hook]
    ) -> None:
        self.trainer, self.module, self.loop = trainer, module, trainer.fit_loop.epoch_loop
        self.hooks = tuple(hooks)
        self.ordinary = tuple(hook for hook in hooks if not hasattr(hook, "on_logged_steps"))
        self.every: int = trainer.log_every_n_steps if self.ordinary != self.hooks else 0  # type: ignore[attr-defined]
        own: Hook = getattr(module, name)
        empty = getattr(own, "__func__", None) is getattr(pl.LightningModule, name)
        self.own = None if empty else own

    def __call__(self, *args: Any) -> Any:
        """Call them; return what the module's own hook says."""
        every = self.every
        logged = not every or (self.loop._batches_that_stepped + 1) % every == 0
        for hook in self.hooks if logged else self.ordinary:
            hook(self.trainer, self.module, *args)
        return None if self.own is None else self.own(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copied module (averaged weights, say) has no run of its own."""
        return self


def join_hooks(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Hang the callbacks' hooks of a training step on the module's, which Lightning calls right after them anyway.

    Those of the callbacks are set to None: Lightning calls what is callable. Trainer, module and callbacks belong
    together from then on. A profiler tells the callbacks apart, so where there is one everything stays as it is.
    """
    if not isinstance(trainer.profiler, NoProfiler):  # type: ignore[attr-defined]
        return
    for name in STEP_HOOKS:
        hooks = []
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callable(vars(callback).get(name)):
                continue  # its own and not its class', as in a LambdaCallback: Lightning finds it
            if (hook := getattr(type(callback), name)) is not getattr(pl.Callback, name):
                hooks.append(hook.__get__(callback))
            setattr(callback, name, None)
        if isinstance(vars(pl_module).get(name), Joined):  # of an earlier run
            delattr(pl_module, name)
        if hooks:
            setattr(pl_module, name, Joined(trainer, pl_module, name, hooks))
