"""The libraries, loaded without what is not needed: a command that trains begins a third sooner.

Python looks for garbage again and again while it loads, and finds none. And torchmetrics, which Lightning loads, takes
SciPy and Matplotlib along where it finds them, for signal processing and pictures that no task here uses. While
Lightning is loaded they seem not to be installed, which torchmetrics provides for; afterwards whoever asks gets them.
Only commands do this, in their own process: in a notebook that imports Gatelab every library is as its user expects.
"""

from __future__ import annotations

import gc
import importlib.abc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError
from typing import Any

UNUSED = ("scipy", "matplotlib")


class Absent(importlib.abc.MetaPathFinder):
    """Says of some packages that they are not installed, as modules and as distributions."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Leave a module to the other finders, or say that there is none."""
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def find_distributions(self, context: Any) -> Iterator[Distribution]:
        """Leave a distribution to the other finders, or say that there is none."""
        if context.name in self.names:
            raise PackageNotFoundError(context.name)
        return iter(())


def load_lightning() -> None:
    """Load Lightning and torchmetrics without what is `UNUSED`, unless they are loaded."""
    if "torchmetrics" in sys.modules:
        return
    absent = Absent(tuple(name for name in UNUSED if name not in sys.modules))
    sys.meta_path.insert(0, absent)
    try:
        import pytorch_lightning  # noqa: F401
        from lightning_utilities.core import imports
    finally:
        sys.meta_path.remove(absent)
    for answers in (imports.package_available, imports.module_available):
        answers.cache_clear()


@contextmanager
def quickly(*, lightning: bool = False) -> Iterator[None]:
    """Import in here; with `lightning` that is loaded first.

    No garbage is looked for meanwhile, nor ever again among what was loaded.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        if lightning:
            load_lightning()
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
