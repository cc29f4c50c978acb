"""Takes away what Lightning spends on every step without doing anything.

It calls each hook of each callback, also the ones that are empty, and wraps every call in a context manager for a
profiler that is not there. Nothing that is computed changes; `scripts/bench_callbacks.py` measures what remains.
"""

import contextlib
from collections.abc import Iterable

import pytorch_lightning as pl
from pytorch_lightning.profilers import PassThroughProfiler

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


def skip_empty_hooks(callbacks: Iterable[pl.Callback]) -> None:
    """Set the empty ones among the hooks of a training step to None: Lightning calls what is callable."""
    for callback in callbacks:
        for hook in STEP_HOOKS:
            if getattr(type(callback), hook) is getattr(pl.Callback, hook):
                setattr(callback, hook, None)
