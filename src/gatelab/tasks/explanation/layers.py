"""The layers of a network's recurrent cores on a sample: what each read, its states and its gates.

Letters: R sequences, T steps, n = the steps of all sequences, D input, H hidden.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatelab.core.ablation import check_unit
from gatelab.core.gates import gates_of, has_gates, layer_runs
from gatelab.tasks.explanation.reading import Call, Part, Reading, listening


class Layer(NamedTuple):
    """A layer of a part on its way through the sample; states [R, T, H], valid [R, T], x [T, R, D] in its direction."""

    name: str
    part: Part
    states: Tensor
    valid: Tensor
    x: Tensor
    owner: Any
    gates: dict[str, Tensor]
    log_keep: Tensor | None

    @property
    def place(self) -> tuple[int, int]:
        """The number of the layer, and its direction."""
        number, _, reverse = self.name.removeprefix("layer").partition("_")
        return int(number), int(reverse == "reverse")

    @property
    def flat(self) -> Tensor:
        """The states of all steps that count [n, H]."""
        return self.states[self.valid]


def listen(reading: Reading) -> tuple[Tensor, list[Call]]:
    """The losses of the sample [N], and the first call of each part."""
    with contextlib.ExitStack() as stack:
        heard = [stack.enter_context(listening(part.core)) for part in reading.parts]
        losses = reading.losses()
    silent = [part.name for part, calls in zip(reading.parts, heard, strict=True) if not calls]
    if silent:
        raise ValueError(f"the network did not call its {silent[0]}, so there is nothing to see of it")
    calls = [calls[0] for calls in heard]
    for part, call in zip(reading.parts, calls, strict=True):
        call.lengths = call.lengths if part.lengths is None else part.lengths
    return losses, calls


def layers_of(part: Part, call: Call) -> Iterator[Layer]:
    """The layers of a part; sequences of different lengths are walked one by one."""
    steps, rows = call.x.shape[:2]
    lengths = [steps] * rows if call.lengths is None else [int(length) for length in call.lengths]
    valid = torch.arange(steps) < torch.tensor(lengths)[:, None]
    if call.lengths is None:
        walks = [list(layer_runs(part.core, call.x, call.state))]
    else:
        walks = [
            list(layer_runs(part.core, call.x[:n, r : r + 1], _of_row(call.state, r)))
            for r, n in enumerate(lengths)
        ]
    for runs in zip(*walks, strict=True):
        first = runs[0]

        def whole(pieces: Sequence[Tensor]) -> Tensor:
            padded = [torch.nn.functional.pad(p, (0, 0, 0, 0, 0, steps - len(p))) for p in pieces]
            return torch.cat(padded, dim=1).transpose(0, 1)

        states = whole([run.in_time(run.after) for run in runs])
        named: dict[str, Tensor] = {}
        keep = None
        if has_gates(first.core):
            found = [gates_of(run) for run in runs]
            named = {name: whole([one.values[name] for one in found])[valid] for name in found[0].values}
            keep = whole([one.log_keep for one in found])[valid]
        shortest = min(len(run.x) for run in runs)
        x = torch.cat([run.x[:shortest] for run in runs], dim=1)
        yield Layer(first.layer, part, states, valid, x, first.core, named, keep)


def _of_row(state: Any, row: int) -> Any:
    """The state of one sequence, from one of all [L, R, H] or a pair of them."""
    if isinstance(state, tuple):
        return tuple(_of_row(part, row) for part in state)
    return None if state is None else state[:, row : row + 1]


def unit_of(layers: Sequence[Layer], text: str) -> tuple[Layer, int]:
    """The layer and the number of a unit that is asked for; raises ValueError with those that there are."""
    place, _, number = text.rpartition(":")
    part, _, name = place.rpartition("/")
    fitting = [one for one in layers if one.name == name and part in ("", one.part.name)]
    known = ", ".join(layer_name(layers, one) for one in layers)
    if len(fitting) != 1 or not number.isdigit():
        raise ValueError(
            f"unit {text}: give a layer and a number, e.g. {layer_name(layers, layers[0])}:0; layers: {known}"
        )
    check_unit(fitting[0].part.core, fitting[0].place[0], int(number), fitting[0].place[1])
    return fitting[0], int(number)


def layer_name(layers: Sequence[Layer], layer: Layer) -> str:
    """The name of a layer, with its part where there are several."""
    several = len({one.part.name for one in layers}) > 1
    return f"{layer.part.name}/{layer.name}" if several else layer.name
