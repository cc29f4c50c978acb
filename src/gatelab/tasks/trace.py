"""The trace of a run: the loss of every training step and a hash of the weights after every epoch, to the last bit.

It is what `gatelab reproduce` compares. Losses wait in memory and are written together, so that a step costs a
microsecond and an accelerator is not waited for. A resumed run continues the file: rows from after the checkpoint
move to `trace.superseded.csv` first. Metrics for people are in `metrics.csv`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gatelab.data.files import atomic_write_text

MOST_ROWS = 512
MOST_SECONDS = 1.0


class Row(NamedTuple):
    """One line of the file.

    Attributes:
        step: training batches of rank 0 that were finished when it was noted; epoch: 0-based.
        what: `loss` (the objective, as `float.hex` gives it) or `weights` (sha256 of all weights and buffers).
    """

    step: int
    epoch: int
    what: str
    value: str


class Trace:
    """Write `path`; one process of a run does.

    Attributes:
        epoch: the 0-based epoch that rows are noted for.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.epoch = Path(path), 0
        self._losses: list[float] | list[Tensor] = []
        self._step = 0  # the last one that is written
        self._due = time.monotonic() + MOST_SECONDS

    def begin(self, step: int, epoch: int, net: nn.Module) -> None:
        """Begin the file with the initial weights, or continue it after training batch `step`."""
        self._losses, self._step, self.epoch = [], step, epoch
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if step > 0 and self.path.is_file():
            self._supersede(step)
            return
        _replace(self.path, [])
        if step == 0:
            self.add_weights(net)

    def add_loss(self, loss: Tensor) -> None:
        """Note the loss (scalar) of the next step; that of an accelerator is not waited for."""
        self._losses.append(loss.item() if loss.is_cpu else loss.detach())  # type: ignore[arg-type]
        if len(self._losses) >= MOST_ROWS or time.monotonic() >= self._due:
            self.flush()

    def add_weights(self, net: nn.Module) -> None:
        """Write what is waiting, and the hash of the weights as they are now."""
        self.flush()
        self._append(map(_line, [Row(self._step, self.epoch, "weights", hash_weights(net))]))

    def flush(self) -> None:
        """Write the losses that are waiting."""
        self._due = time.monotonic() + MOST_SECONDS
        if not self._losses:
            return
        on_device = isinstance(self._losses[0], Tensor)
        values: list[float] = torch.stack(self._losses).tolist() if on_device else self._losses  # type: ignore
        first, rest = self._step + 1, f",{self.epoch},loss,"
        self._append(f"{first + index}{rest}{value.hex()}\n" for index, value in enumerate(values))
        self._step += len(values)
        self._losses = []

    def _append(self, lines: Iterable[str]) -> None:
        with self.path.open("a", newline="\n") as file:
            file.writelines(lines)

    def _supersede(self, step: int) -> None:
        rows = read_trace(self.path)
        later = [row for row in rows if row.step > step]
        if later:
            beside = self.path.with_suffix(".superseded.csv")
            _replace(beside, [*(read_trace(beside) if beside.is_file() else []), *later])
        _replace(self.path, [row for row in rows if row.step <= step])


def hash_weights(net: nn.Module) -> str:
    """sha256 over names, types, shapes and bytes of everything in the `state_dict`, in order."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if isinstance(value, Tensor):
            value = value.detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_trace(path: str | Path) -> list[Row]:
    """The rows of a trace; a last line that was cut off by a kill is left out.

    Raises:
        ValueError: a line is damaged; the message names file and line.
    """
    try:
        return parse_trace(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged, {error}") from None


def parse_trace(text: str) -> list[Row]:
    """The rows of the whole lines of `text`, which may begin anywhere in a trace; `ValueError` names a wrong line."""
    rows = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        if line == ",".join(Row._fields):
            continue
        try:
            step, epoch, what, value = line.split(",")
            rows.append(Row(int(step), int(epoch), what, value))
        except ValueError:
            raise ValueError(f"line {number} is not a row of a trace: {line[:40]!r}") from None
    return rows


def _line(row: Iterable[object]) -> str:
    return f"{','.join(map(str, row))}\n"


def _replace(path: Path, rows: list[Row]) -> None:
    atomic_write_text(path, "".join(map(_line, [Row._fields, *rows])))
