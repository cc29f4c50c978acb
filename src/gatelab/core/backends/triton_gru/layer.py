"""One layer in one direction on a GPU: tiles, buffers and launches of the kernels, without autograd.

Products over all steps (W_ih x, the gradients of the weights and of x) are PyTorch's; what runs from step to step is
one launch of a kernel of `kernels.py`, or one a step where W_hh does not fit on the chip. `__init__.py` makes it
differentiable.

Dimensions: B batch, T time, D input, H hidden.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from triton import JITFunction, next_power_of_2

from gatelab.core.backends.torch_gru import input_gradients, recurrent_gradient
from gatelab.core.backends.triton_gru import kernels
from gatelab.core.cells import Weights
from gatelab.core.unroll import padding

OLDEST = (8, 0)
"""Compute capability: from here on tensor cores multiply bfloat16."""
SMALLEST = 16
"""Columns of the left factor that a tensor core takes at once."""
LONGEST = {16: 2048, 32: 512}
"""Bytes of a row in a block of the left factor, by the rows of a program; of longer ones registers run out."""
SHARED_OF_SYSTEM = 1024
"""Bytes of shared memory that each program takes besides its own."""
OPTIONS = {"enable_fp_fusion": True}
"""Of every launch: a product is rounded together with the sum it goes into, whatever Triton's default is (from 3.10 on
it is not)."""
TOGETHER = {"launch_cooperative_grid": True}
"""Of one whose programs wait for one another: the driver refuses it if they cannot all run at once: it would hang."""
MOST_GROUPS = 65535
"""Groups of rows of a launch, of which the grid's second axis can have so many."""


class Chip(NamedTuple):
    """What of a GPU decides about the tiles."""

    processors: int
    shared: int  # bytes of fast memory that a program may have


H100 = Chip(132, 232448)


@functools.cache
def chip_of(device: torch.device) -> Chip:
    """The chip of a CUDA device; where kernels are interpreted, that of an H100."""
    if interpreted():
        return H100
    about = torch.cuda.get_device_properties(device)
    return Chip(about.multi_processor_count, about.shared_memory_per_block_optin)  # type: ignore[attr-defined]


class Numbers(NamedTuple):
    """How numbers are multiplied."""

    size: int  # bytes of one
    precision: str  # of float32, as Triton calls it
    copies: int  # how many parts the weights are kept in


def numbers_of(dtype: torch.dtype) -> Numbers:
    """How numbers of a dtype are multiplied now.

    A product of float32 is three of TF32 parts, which is as exact as one and runs on the tensor cores, or one where
    PyTorch's setting allows it (`torch.set_float32_matmul_precision`).
    """
    if dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        return Numbers(4, "tf32x3", 2)
    return Numbers(dtype.itemsize, "tf32", 1)


@dataclass(frozen=True)
class Tiles:
    """How the work is cut: `rows` of the batch times `units` of the state for a program, `warps` that share it.

    The weights of its units are `kept` on the chip through all steps, or are read in each step.
    """

    rows: int
    units: int
    warps: int
    kept: bool = True

    def programs(self, hidden: int) -> int:
        """How many programs have the units of the same rows."""
        return -(-hidden // self.units)

    def launches(self, hidden: int, batch: int, chip: Chip) -> int:
        """How many launches a batch of B rows takes, if each processor has one program at a time."""
        return -(-batch // (self.rows * (chip.processors // self.programs(hidden))))

    def blocks(self, hidden: int, kind: Numbers) -> tuple[int, int]:
        """K1 and K2, powers of two (K2 may be 0) that cover H with as little to spare as two can.

        They are also cut where a row would be longer than `LONGEST`. Of weights that are not kept K1 columns are read
        at a time.
        """
        least = SMALLEST * self.warps  # each warp takes a part of the sum
        if not self.kept:
            return least, 0
        whole = max(next_power_of_2(hidden), least)
        rest = max(next_power_of_2(max(hidden - whole // 2, 1)), least)
        spares = rest < whole // 2
        return (whole // 2, rest) if spares or whole * kind.size > LONGEST[self.rows] else (whole, 0)

    def shared(self, hidden: int, kind: Numbers) -> int:
        """About how many bytes of fast memory a program needs."""
        k1, k2 = self.blocks(hidden, kind)
        return kind.size * (kind.copies * (k1 + k2) * 4 * self.units + max(k1, k2) * self.rows)


@functools.lru_cache(maxsize=1024)  # it is asked before every call
def choose_tiles(hidden: int, kind: Numbers, batch: int, chip: Chip) -> Tiles:
    """The tiles for a layer of H units and B rows.

    Of those with which the weights fit on the chip few launches count most, then few rows a program: a step takes as
    long as one program's part of it. Where they fit with none the weights are read in each step, once for the rows of
    a program, so these are as many as the registers allow.
    """
    warps = 4 if hidden <= 64 else 8
    every = [Tiles(rows, units, warps) for units in (16, 8) for rows in (16, 32)]
    fit = [
        t for t in every if t.shared(hidden, kind) <= chip.shared and t.programs(hidden) <= chip.processors
    ]
    if not fit:
        return Tiles(16 if batch <= 16 or kind.size == 4 else 32, 16, 4, kept=False)
    return min(fit, key=lambda t: t.launches(hidden, batch, chip))


@dataclass(frozen=True)
class Walk:
    """What a call asks of the walk over time besides the numbers.

    Zoneout: in training the drawn mask [T, B, H], in evaluation the probability p.
    """

    reset_after: bool
    reverse: bool
    lengths: Tensor | None  # [B] int64
    resets: Tensor | None  # [T, B] int8, at the steps before which this walk sets the state to zero
    drawn: Tensor | None
    p: float


def plan(
    steps: int,
    reset_after: bool,
    reverse: bool,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    p: float,
) -> Walk:
    """Turn a call's arguments into a walk.

    `reset_mask[t]` puts a boundary between t-1 and t. Walking backward it is crossed on the way into t-1, so there the
    mask is moved by one; the boundaries before a row's first step and after its last do not count.
    """
    if reset_mask is not None and reverse:
        reset_mask = torch.cat((reset_mask[1:], torch.zeros_like(reset_mask[:1])))
        if lengths is not None:
            reset_mask = reset_mask & (torch.arange(steps, device=lengths.device).unsqueeze(1) != lengths - 1)
    resets = None if reset_mask is None else reset_mask.contiguous().view(torch.int8)
    return Walk(reset_after, reverse, lengths, resets, drawn, p)


def interpreted() -> bool:
    """Whether Triton interprets the kernels on the CPU (TRITON_INTERPRET=1) instead of compiling them."""
    return not isinstance(kernels.forward_after, JITFunction)


def forward(x: Tensor, h0: Tensor, weights: Weights, walk: Walk, training: bool) -> tuple[Tensor, ...]:
    """Run the layer on x [T, B, D] and h0 [B, H].

    Returns y [T, B, H], h_n [B, H], and what backward needs: the states [T+1, B, H] and the gates [T, B, 4H], empty
    unless `training`.
    """
    steps, batch, hidden = *x.shape[:2], h0.shape[1]
    projected = F.linear(x, weights.w_ih, weights.b_ih).contiguous()
    if walk.drawn is not None:  # a gate held at its end keeps the state, and its derivative is zero
        keeping = math.inf if walk.reset_after else -math.inf
        projected[..., hidden : 2 * hidden].masked_fill_(walk.drawn, keeping)
    states = x.new_empty(steps + 1, batch, hidden)
    states[-1 if walk.reverse else 0] = h0
    kept = training or not walk.reset_after  # the other variant exchanges r * h there
    gates = x.new_empty(steps if kept else 0, batch, 4 * hidden)
    h0, h_n = h0.contiguous(), h0.new_empty(batch, hidden)
    kernel = kernels.forward_after if walk.reset_after else kernels.forward_before
    bias = projected if weights.b_hh is None else weights.b_hh.contiguous()
    tensors = (projected, weights.w_hh.contiguous(), bias, states, gates)
    _walk(kernel, tensors, steps, h0, h_n, walk, MORE=training, BIAS=weights.b_hh is not None)
    y = states[:-1] if walk.reverse else states[1:]
    y = y.clone() if walk.lengths is None else y.masked_fill(padding(walk.lengths, steps).unsqueeze(-1), 0)
    if not training:
        states, gates = x.new_empty(0), x.new_empty(0)
    return y, h_n, states, gates


def backward(
    dy: Tensor | None,
    dh_n: Tensor | None,
    x: Tensor,
    weights: Weights,
    walk: Walk,
    states: Tensor,
    gates: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of (x, h0, w_ih, w_hh, b_ih, b_hh), None where not `needed`."""
    steps, batch, hidden = *x.shape[:2], states.shape[2]
    w_hh = weights.w_hh.contiguous()
    slots = x.new_empty(steps + 1, batch, 4 * hidden)
    slots[0 if walk.reverse else -1] = 0
    start = x.new_zeros(batch, hidden) if dh_n is None else dh_n.contiguous()
    end = x.new_empty(batch, hidden, dtype=torch.float32)
    given = states if dy is None else dy.contiguous()
    kernel = kernels.backward_after if walk.reset_after else kernels.backward_before
    _walk(
        kernel, (w_hh, states, gates, slots, given), steps, start, end, walk, MORE=dy is not None, BIAS=False
    )
    grads, before = (slots[1:], states[1:]) if walk.reverse else (slots[:-1], states[:-1])
    if walk.resets is not None:
        before = before.masked_fill(walk.resets.bool().unsqueeze(-1), 0)
    m, r, z, n = grads.split(hidden, dim=2)
    dh0 = None
    if needed[1]:
        first = -1 if walk.reverse else 0
        through = torch.cat((r[first], z[first]), 1) @ w_hh[: 2 * hidden]
        if walk.reset_after:
            through = through + m[first] @ w_hh[2 * hidden :]
        if walk.resets is not None:
            through = through.masked_fill(walk.resets[first].bool().unsqueeze(-1), 0)
        dh0 = (end + through).to(x.dtype)
    flat = grads.flatten(0, 1)
    dx, dw_ih = input_gradients(flat[:, hidden:], x, weights.w_ih, needed)
    dw_hh = None
    if needed[3] and walk.reset_after:  # m, r and z lie side by side: one product, whose first rows go last
        dw_hh = (flat[:, : 3 * hidden].t() @ before.flatten(0, 1)).roll(-hidden, 0)
    elif needed[3]:
        dw_hh = recurrent_gradient(flat[:, hidden:], n.flatten(0, 1), gates[..., :hidden], before)
    db_ih = db_hh = None
    if needed[4] or needed[5]:
        total = (flat if walk.reset_after else flat[:, hidden:]).sum(0)
        # cloned: a compiled graph counts on results that begin at an aligned address
        db_ih = total[-3 * hidden :].clone()
        db_hh = torch.cat((total[hidden : 3 * hidden], total[:hidden])) if needed[5] else None
    return [dx, dh0, dw_ih, dw_hh, db_ih, db_hh]


def _walk(
    kernel: Any,
    tensors: tuple[Tensor, ...],
    steps: int,
    start: Tensor,
    end: Tensor,
    walk: Walk,
    **constants: bool,
) -> None:
    """Launch the kernel over all steps and rows, in as few launches as the device allows.

    `tensors` are those of the kernel before `start` and `end` [B, H], the state or gradient before and after the walk.
    """
    batch, hidden = start.shape
    device, dtype = start.device, tensors[0].dtype
    kind = numbers_of(dtype)
    tiles = choose_tiles(hidden, kind, batch, chip_of(device))
    programs, groups = tiles.programs(hidden), -(-batch // tiles.rows)
    k1, k2 = tiles.blocks(hidden, kind)
    fixed: dict[str, Any] = {
        "H": hidden,
        "K1": k1,
        "K2": k2,
        "SPLIT": tiles.warps,
        "BB": tiles.rows,
        "BU": tiles.units,
        "PROGRAMS": programs,
        "REVERSE": walk.reverse,
        "RAGGED": walk.lengths is not None,
        "RESETS": walk.resets is not None,
        "PRECISION": kind.precision,
        "KEPT": tiles.kept,
        **constants,
    }
    options = {"num_warps": tiles.warps, **OPTIONS}
    lengths = start if walk.lengths is None else walk.lengths.contiguous()
    resets = start if walk.resets is None else walk.resets
    counters = torch.zeros(groups if tiles.kept else 1, dtype=torch.int32, device=device)

    def launch(some: int, begin: int, first: int, last: int, a: Tensor, b: Tensor, part: int) -> None:
        """Steps `first` ... `last` - 1, from state a to b, of `some` groups of rows from group `begin` on."""
        numbers = (first, last, steps, batch, begin * tiles.rows, walk.p)
        given = (*tensors, a, b, lengths, resets, counters, *numbers)
        kernel[(programs, some)](*given, **fixed, PART=part, **options)

    if interpreted() or not tiles.kept:
        carry = start.to(torch.float32, copy=True)
        with torch.cuda.device_of(start):
            for begin in range(0, groups, MOST_GROUPS):
                some = min(MOST_GROUPS, groups - begin)
                for step in range(steps):
                    for part in (0,) if walk.reset_after else (1, 2):
                        launch(some, begin, step, step + 1, carry, carry, part)
        end.copy_(carry)
        return
    options |= TOGETHER
    with torch.cuda.device_of(start):
        key = (kernel, *fixed.values(), dtype, device)
        if key not in AT_ONCE:
            given = (*tensors, start, end, lengths, resets, counters, 0, steps, steps, batch, 0, walk.p)
            AT_ONCE[key] = resident(kernel, given, {**fixed, "PART": 0, **options}, device) // programs
        for begin in range(0, groups, AT_ONCE[key]):
            launch(min(AT_ONCE[key], groups - begin), begin, 0, steps, start, end, 0)


AT_ONCE: dict[Any, int] = {}
"""For a kernel, its constants, a dtype and a device: how many groups of rows a launch may have."""


def resident(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any], device: torch.device) -> int:
    """How many programs of a kernel the device can hold at the same time."""
    compiled = kernel.warmup(*arguments, grid=(1, 1), **constants)
    compiled._init_handles()  # loads it; then its registers are known
    about, threads = torch.cuda.get_device_properties(device), 32 * constants["num_warps"]
    return about.multi_processor_count * min(
        about.shared_memory_per_multiprocessor // (compiled.metadata.shared + SHARED_OF_SYSTEM),
        about.regs_per_multiprocessor // (-(-compiled.n_regs // 8) * 8 * threads),  # type: ignore[attr-defined]
        about.max_threads_per_multi_processor // threads,
    )


@torch.compiler.assume_constant_result  # a graph is compiled for one GPU
def unable() -> str | None:
    """Why the current CUDA device cannot run the kernels; None if it can."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if torch.version.hip is not None:
        return "the triton kernels hold instructions (PTX) that only GPUs of NVIDIA have"
    device = torch.device("cuda", torch.cuda.current_device())
    if torch.cuda.get_device_capability(device) < OLDEST:
        name = torch.cuda.get_device_name(device)
        return f"the triton kernels need compute capability 8.0 or later, and this is {name}"
    return None


@torch.compiler.assume_constant_result  # and for one size of the layer
def slowed(hidden: int, dtype: torch.dtype) -> str | None:
    """Why a layer of H units is not run in one launch on the current device, whatever the batch; None if it is."""
    device = torch.device("cpu") if interpreted() else torch.device("cuda", torch.cuda.current_device())
    if choose_tiles(hidden, numbers_of(dtype), 1, chip_of(device)).kept:
        return None
    weights = f"{hidden} units in {str(dtype).removeprefix('torch.')} ({3 * hidden**2 * dtype.itemsize / 1e6:.0f} MB)"
    return f"one launch a step, because the weights of {weights} do not fit on this GPU's chip"
