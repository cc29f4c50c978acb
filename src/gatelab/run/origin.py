"""Which part of a configuration an error came from: code of the user's own that a `_target_` names."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gatelab.run.config.signatures import locate

NOT_OWN = ("gatelab", "torch", "pytorch_lightning", "lightning_fabric", "hydra", "builtins")


def origin(error: BaseException, config: Mapping[str, Any]) -> str | None:
    """`callbacks.mine (mine.Notify.on_train_end, line 6 of mine.py)`; None where no code of the user's own raised it.

    Of the frames of the traceback the innermost counts that runs a method of such a class, or such a function.
    """
    frames = list(_frames(error.__traceback__))
    for key, kind in _own(config):
        for frame, line in frames:
            if _runs(frame, kind):
                code = frame.f_code
                place = f"line {line} of {Path(code.co_filename).name}"
                return f"{key} ({frame.f_globals.get('__name__')}.{code.co_qualname}, {place})"
    return None


def _frames(traceback: types.TracebackType | None) -> Iterator[tuple[types.FrameType, int]]:
    """The frames, the innermost first, with the line that each was on."""
    if traceback is not None:
        yield from _frames(traceback.tb_next)
        yield traceback.tb_frame, traceback.tb_lineno


def _own(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Key and object of every `_target_` that is the user's own, the inner ones first."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, inner in pairs:
        yield from _own(inner, f"{key}.{name}" if key else str(name))
    if isinstance(node, Mapping) and "_target_" in node:
        kind = locate(str(node["_target_"]))
        if str(getattr(kind, "__module__", "builtins")).partition(".")[0] not in NOT_OWN:
            yield key, kind


def _runs(frame: types.FrameType, kind: Any) -> bool:
    """Whether a frame runs a method of this class, inherited ones too, or this function."""
    if isinstance(kind, type):
        own = frame.f_code.co_qualname.startswith(f"{kind.__qualname__}.")
        inside = own and frame.f_globals.get("__name__") == kind.__module__
        return inside or type(frame.f_locals.get("self")) is kind
    return getattr(kind, "__code__", None) is frame.f_code
