"""What counts as plain data in a checkpoint: the types that `torch.load(weights_only=True)` gives back.

Checked when something is handed in or saved, because the refusal would otherwise come on the day the
checkpoint is needed. Nothing is converted here.
"""

from collections import OrderedDict
from typing import Any

import torch

_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def check_plain(value: Any, name: str) -> None:
    """Raise TypeError, naming the place, if `value` holds anything but plain data and tensors.

    Plain are None, bool, int, float, str, bytes, and dict, list, tuple and set of plain data (no subclasses
    but OrderedDict and torch.Size).
    """
    kind = type(value)
    if kind in _ATOMS or isinstance(value, torch.Tensor):
        return
    if kind in (dict, OrderedDict):
        for key, item in value.items():
            check_plain(key, f"a key of {name}")
            check_plain(item, f"{name}[{key!r}]")
    elif kind in (list, tuple, set, torch.Size):
        for index, item in enumerate(value):
            check_plain(item, f"{name}[{index}]")
    else:
        raise TypeError(
            f"{name} is a {kind.__module__}.{kind.__qualname__}, which is no plain data for a checkpoint; "
            "convert it to str, int, float, list or dict first"
        )
