"""The kernels in Triton: a GRU layer over its steps, forward and backward.

A program (one block of threads) computes BU units of the state for BB rows of the batch. KEPT, it reads its part of
W_hh once, before the first step, and keeps it on the chip through all steps. What the programs of the same rows have to
tell one another from step to step goes through memory: each writes its units and adds 1 to the counter of its rows
(`arrive`), and before it reads the units of all it waits until the counter says that all have written (`wait`). The
sums of products and the state are float32 whatever the dtype of the tensors.

A launch does the steps `first` ... `last` - 1. What it needs of the step before it is in memory, the state of each row
among it (`start`, which `end` becomes), so that a launch for each step computes the same. A layer whose W_hh does not
fit on the chip goes so: it reads its part of W_hh in each step (not KEPT) and has nobody to wait for. Triton's
interpreter needs it too, as it runs one program after another. The variant that resets before the product tells twice
a step, and there its two parts are launched apart (PART 1 and 2; 0 is both).

Buffers, of one dtype but for `lengths` (int64) and `resets` (int8); `start` and `end` [B, H] may be float32:
  x       [T, B, 3H]    W_ih x + b_ih in the order r, z, n; infinite for z where zoneout keeps a unit's state
  weight  [3H, H]       W_hh
  states  [T+1, B, H]   the state before and after each step; the first of the walk is given
  gates   [T, B, 4H]    in the order m, r, z, n; m is W_hn h + b_hn, or r * h where the reset is before the product
  grads   [T+1, B, 4H]  their gradients (of m: that of W_hn's product); the first of the walk back is given as zero
A walk in REVERSE goes from step T-1 to 0. Rows past their length keep their state.

Dimensions: T time, B batch, H hidden; K1, K2 and SPLIT say how a product is cut (see `parts.py`).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
import triton
import triton.language as tl

from gatelab.core.backends.triton_gru.parts import (
    arrive,
    at,
    factor,
    gates_apart,
    product,
    sigmoid,
    stored,
    tanh,
    tile,
    wait,
)

NUMBERS = ("first", "last", "steps", "batch", "begin")  # that no compiled kernel may depend on


@triton.jit(do_not_specialize=NUMBERS)
def forward_after(
    x, weight, bias, states, gates, start, end, lengths, resets, counters,
    first, last, steps, batch, begin, p,
    H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, PROGRAMS: tl.constexpr, PART: tl.constexpr,
    REVERSE: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, MORE: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """Forward, reset after the product. `bias` is b_hh; p is zoneout's in expectation; rows from `begin` on.

    MORE: backward will follow, so the gates are kept.
    """
    unit = tl.program_id(0) * BU + tl.arange(0, BU)
    row = begin + tl.program_id(1) * BB + tl.arange(0, BB)
    counter = counters + begin // BB + tl.program_id(1)
    valid = row < batch
    mine = valid[:, None] & (unit < H)[None, :]
    place = row[:, None] * H + unit[None, :]
    place3 = row[:, None] * (3 * H) + unit[None, :]
    place4 = row[:, None] * (4 * H) + unit[None, :]
    column = tl.arange(0, 4 * BU)  # those of n, r and z of a unit side by side, and one of zeros
    of, gate = tl.program_id(0) * BU + column // 4, column % 4
    there = (of < H) & (gate < 3)
    w = factor(weight + ((gate + 2) % 3 * H + of) * H, there, H, K1, K2, SPLIT, 1, KEPT)
    b_r = tl.load(bias + unit, mask=unit < H, other=0.0).to(tl.float32)[None, :] if BIAS else 0.0
    b_z = tl.load(bias + H + unit, mask=unit < H, other=0.0).to(tl.float32)[None, :] if BIAS else 0.0
    b_n = tl.load(bias + 2 * H + unit, mask=unit < H, other=0.0).to(tl.float32)[None, :] if BIAS else 0.0
    length = tl.load(lengths + row, mask=valid, other=0) if RAGGED else row
    h = tile(start, place, mine)
    t = steps - 1 - first if REVERSE else first
    now = at(x, t * batch, 3 * H)
    next_r, next_z, next_n = (
        tile(now, place3, mine),
        tile(now + H, place3, mine),
        tile(now + 2 * H, place3, mine),
    )
    for step in range(first, last):
        t = steps - 1 - step if REVERSE else step
        i_r, i_z, i_n = next_r, next_z, next_n
        now = at(x, (tl.maximum(t - 1, 0) if REVERSE else tl.minimum(t + 1, steps - 1)) * batch, 3 * H)
        next_r, next_z = tile(now, place3, mine), tile(now + H, place3, mine)  # read ahead of their use
        next_n = tile(now + 2 * H, place3, mine)
        fresh = valid
        if RESETS:
            fresh = valid & (tl.load(at(resets, t * batch, 1) + row, mask=valid, other=1) == 0)
        old = tl.where(fresh[:, None], h, 0.0) if RESETS else h
        entering = at(states, (t + 1 if REVERSE else t) * batch, H)
        wait(counter, step * PROGRAMS, KEPT)
        a = product((entering,), row * H, fresh, (w,), there, H, K1, K2, SPLIT, 1, KEPT, PRECISION)
        m, r, z = gates_apart(a, BB, BU)
        m += b_n
        r = sigmoid(i_r + r + b_r)
        z = sigmoid(i_z + z + b_z)
        n = tanh(i_n + r * m)
        new = (1 - z) * n + z * old
        new = tl.where(p > 0, (1 - p) * new + p * old, new)
        h = tl.where((t >= length)[:, None], h, new) if RAGGED else new
        tl.store(at(states, (t if REVERSE else t + 1) * batch, H) + place, h, mask=mine)
        arrive(counter, KEPT)
        if MORE:
            kept = at(gates, t * batch, 4 * H) + place4
            tl.store(kept, m, mask=mine)
            tl.store(kept + H, r, mask=mine)
            tl.store(kept + 2 * H, z, mask=mine)
            tl.store(kept + 3 * H, n, mask=mine)
    tl.store(end + place, h, mask=mine)


@triton.jit(do_not_specialize=NUMBERS)
def backward_after(
    weight, states, gates, grads, dy, start, end, lengths, resets, counters,
    first, last, steps, batch, begin, p,
    H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, PROGRAMS: tl.constexpr, PART: tl.constexpr,
    REVERSE: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, MORE: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """The walk back. `start` is the gradient of the final state.

    `end` lacks what the products of the walk's last step pass back to its first state; the caller adds it. MORE: there
    is a dy.
    """
    unit = tl.program_id(0) * BU + tl.arange(0, BU)
    row = begin + tl.program_id(1) * BB + tl.arange(0, BB)
    counter = counters + begin // BB + tl.program_id(1)
    valid = row < batch
    mine = valid[:, None] & (unit < H)[None, :]
    place = row[:, None] * H + unit[None, :]
    place4 = row[:, None] * (4 * H) + unit[None, :]
    row4 = row * (4 * H)
    dtype = weight.dtype.element_ty
    there = unit < H
    w_m = factor(weight + 2 * H * H + unit, there, H, K1, K2, SPLIT, H, KEPT)
    w_r = factor(weight + unit, there, H, K1, K2, SPLIT, H, KEPT)
    w_z = factor(weight + H * H + unit, there, H, K1, K2, SPLIT, H, KEPT)
    length = tl.load(lengths + row, mask=valid, other=0) if RAGGED else row
    through = tile(start, place, mine)
    t = first if REVERSE else steps - 1 - first
    now = at(gates, t * batch, 4 * H)
    next_m, next_r = stored(now, place4, mine), stored(now + H, place4, mine)
    next_z, next_n = stored(now + 2 * H, place4, mine), stored(now + 3 * H, place4, mine)
    next_s = stored(at(states, (t + 1 if REVERSE else t) * batch, H), place, mine)
    next_d = stored(at(dy, t * batch, H), place, mine) if MORE else through
    for step in range(first, last):
        t = step if REVERSE else steps - 1 - step
        m, r, z, n, s, d = next_m, next_r, next_z, next_n, next_s, next_d
        ahead = tl.minimum(t + 1, steps - 1) if REVERSE else tl.maximum(t - 1, 0)
        now = at(gates, ahead * batch, 4 * H)
        next_m, next_r = stored(now, place4, mine), stored(now + H, place4, mine)
        next_z, next_n = stored(now + 2 * H, place4, mine), stored(now + 3 * H, place4, mine)
        next_s = stored(at(states, (ahead + 1 if REVERSE else ahead) * batch, H), place, mine)
        if MORE:
            next_d = stored(at(dy, ahead * batch, H), place, mine)
        # what the step that was walked before this one passes back through its products
        fresh, fresh_past = valid, valid
        if RESETS:
            fresh = valid & (tl.load(at(resets, t * batch, 1) + row, mask=valid, other=1) == 0)
            known = valid & (step > 0)
            before = at(resets, (t - 1 if REVERSE else t + 1) * batch, 1)
            fresh_past = known & (tl.load(before + row, mask=known, other=1) == 0)
        wait(counter, step * PROGRAMS, KEPT)
        of = at(grads, (t if REVERSE else t + 1) * batch, 4 * H)
        past = (of, of + H, of + 2 * H)
        dh = product(past, row4, fresh_past, (w_m, w_r, w_z), there, H, K1, K2, SPLIT, H, KEPT, PRECISION)
        m, r, z = m.to(tl.float32), r.to(tl.float32), z.to(tl.float32)
        n, s, d = n.to(tl.float32), s.to(tl.float32), d.to(tl.float32)
        dh += through
        over = (t >= length)[:, None] if RAGGED else (row < 0)[:, None]
        if MORE:
            dh += tl.where(over, 0.0, d)
        s = tl.where(fresh[:, None], s, 0.0)
        g = tl.where(over, 0.0, (1 - p) * dh)
        d_n = g * (1 - z) * (1 - n * n)
        d_m = (d_n * r).to(dtype)
        d_r = (d_n * m * r * (1 - r)).to(dtype)
        d_z = (g * (s - n) * z * (1 - z)).to(dtype)
        through = tl.where(over, dh, tl.where(fresh[:, None], p * dh + g * z, 0.0))
        own = at(grads, (t + 1 if REVERSE else t) * batch, 4 * H) + place4
        tl.store(own, d_m, mask=mine)
        tl.store(own + H, d_r, mask=mine)
        tl.store(own + 2 * H, d_z, mask=mine)
        arrive(counter, KEPT)
        tl.store(own + 3 * H, d_n, mask=mine)
    tl.store(end + place, through, mask=mine)


@triton.jit(do_not_specialize=NUMBERS)
def forward_before(
    x, weight, bias, states, gates, start, end, lengths, resets, counters,
    first, last, steps, batch, begin, p,
    H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, PROGRAMS: tl.constexpr, PART: tl.constexpr,
    REVERSE: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, MORE: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """Forward, reset before the product; see `forward_after`. There is no `bias`."""
    unit = tl.program_id(0) * BU + tl.arange(0, BU)
    row = begin + tl.program_id(1) * BB + tl.arange(0, BB)
    counter = counters + begin // BB + tl.program_id(1)
    valid = row < batch
    mine = valid[:, None] & (unit < H)[None, :]
    place = row[:, None] * H + unit[None, :]
    place3 = row[:, None] * (3 * H) + unit[None, :]
    place4 = row[:, None] * (4 * H) + unit[None, :]
    dtype = weight.dtype.element_ty
    column = tl.arange(0, 2 * BU)  # those of r and z of a unit side by side
    of = tl.program_id(0) * BU + column // 2
    both, there = of < H, unit < H
    w = factor(weight + (column % 2 * H + of) * H, both, H, K1, K2, SPLIT, 1, KEPT)
    w_n = factor(weight + 2 * H * H + unit * H, there, H, K1, K2, SPLIT, 1, KEPT)
    length = tl.load(lengths + row, mask=valid, other=0) if RAGGED else row
    h = tile(start, place, mine)
    t = steps - 1 - first if REVERSE else first
    now = at(x, t * batch, 3 * H)
    next_r, next_z, next_n = (
        tile(now, place3, mine),
        tile(now + H, place3, mine),
        tile(now + 2 * H, place3, mine),
    )
    for step in range(first, last):
        t = steps - 1 - step if REVERSE else step
        i_r, i_z, i_n = next_r, next_z, next_n
        now = at(x, (tl.maximum(t - 1, 0) if REVERSE else tl.minimum(t + 1, steps - 1)) * batch, 3 * H)
        next_r, next_z = tile(now, place3, mine), tile(now + H, place3, mine)  # read ahead of their use
        next_n = tile(now + 2 * H, place3, mine)
        fresh = valid
        if RESETS:
            fresh = valid & (tl.load(at(resets, t * batch, 1) + row, mask=valid, other=1) == 0)
        old = tl.where(fresh[:, None], h, 0.0) if RESETS else h
        entering = at(states, (t + 1 if REVERSE else t) * batch, H)
        kept = at(gates, t * batch, 4 * H)
        if PART != 2:
            wait(counter, 2 * step * PROGRAMS, KEPT)
            a = product((entering,), row * H, fresh, (w,), both, H, K1, K2, SPLIT, 1, KEPT, PRECISION)
            r, z = tl.split(tl.reshape(a, [BB, BU, 2]))
            r = sigmoid(i_r + r)
            z = sigmoid(i_z + z)
            q = (r * old).to(dtype)
            tl.store(kept + place4, q, mask=mine)
            arrive(counter, KEPT)
            if MORE or PART == 1:
                tl.store(kept + H + place4, r, mask=mine)
                tl.store(kept + 2 * H + place4, z, mask=mine)
        if PART == 2:
            z = tile(kept + 2 * H, place4, mine)
        if PART != 1:
            wait(counter, (2 * step + 1) * PROGRAMS, KEPT)
            n = product((kept,), row * (4 * H), valid, (w_n,), there, H, K1, K2, SPLIT, 1, KEPT, PRECISION)
            n = tanh(i_n + n)
            new = (1 - z) * old + z * n
            new = tl.where(p > 0, (1 - p) * new + p * old, new)
            h = tl.where((t >= length)[:, None], h, new) if RAGGED else new
            tl.store(at(states, (t if REVERSE else t + 1) * batch, H) + place, h, mask=mine)
            arrive(counter, KEPT)
            if MORE:
                tl.store(kept + 3 * H + place4, n, mask=mine)
    tl.store(end + place, h, mask=mine)


@triton.jit(do_not_specialize=NUMBERS)
def backward_before(
    weight, states, gates, grads, dy, start, end, lengths, resets, counters,
    first, last, steps, batch, begin, p,
    H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, PROGRAMS: tl.constexpr, PART: tl.constexpr,
    REVERSE: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, MORE: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """The walk back of `forward_before`; see `backward_after`. The gradients of m are not written: they are n's."""
    unit = tl.program_id(0) * BU + tl.arange(0, BU)
    row = begin + tl.program_id(1) * BB + tl.arange(0, BB)
    counter = counters + begin // BB + tl.program_id(1)
    valid = row < batch
    mine = valid[:, None] & (unit < H)[None, :]
    place = row[:, None] * H + unit[None, :]
    place4 = row[:, None] * (4 * H) + unit[None, :]
    row4 = row * (4 * H)
    dtype = weight.dtype.element_ty
    there = unit < H
    w_r = factor(weight + unit, there, H, K1, K2, SPLIT, H, KEPT)
    w_z = factor(weight + H * H + unit, there, H, K1, K2, SPLIT, H, KEPT)
    w_n = factor(weight + 2 * H * H + unit, there, H, K1, K2, SPLIT, H, KEPT)
    length = tl.load(lengths + row, mask=valid, other=0) if RAGGED else row
    through = tile(start, place, mine)
    t = first if REVERSE else steps - 1 - first
    now = at(gates, t * batch, 4 * H)
    next_r, next_z, next_n = (
        tile(now + H, place4, mine),
        tile(now + 2 * H, place4, mine),
        tile(now + 3 * H, place4, mine),
    )
    next_s = tile(at(states, (t + 1 if REVERSE else t) * batch, H), place, mine)
    next_d = tile(at(dy, t * batch, H), place, mine) if MORE else through
    for step in range(first, last):
        t = step if REVERSE else steps - 1 - step
        r, z, n, s, d = next_r, next_z, next_n, next_s, next_d
        ahead = tl.minimum(t + 1, steps - 1) if REVERSE else tl.maximum(t - 1, 0)
        now = at(gates, ahead * batch, 4 * H)
        next_r, next_z = tile(now + H, place4, mine), tile(now + 2 * H, place4, mine)
        next_n = tile(now + 3 * H, place4, mine)
        next_s = tile(at(states, (ahead + 1 if REVERSE else ahead) * batch, H), place, mine)
        if MORE:
            next_d = tile(at(dy, ahead * batch, H), place, mine)
        fresh, fresh_past = valid, valid
        if RESETS:
            fresh = valid & (tl.load(at(resets, t * batch, 1) + row, mask=valid, other=1) == 0)
            known = valid & (step > 0)
            before = at(resets, (t - 1 if REVERSE else t + 1) * batch, 1)
            fresh_past = known & (tl.load(before + row, mask=known, other=1) == 0)
        over = (t >= length)[:, None] if RAGGED else (row < 0)[:, None]
        s = tl.where(fresh[:, None], s, 0.0)
        of = at(grads, (t if REVERSE else t + 1) * batch, 4 * H)
        own = at(grads, (t + 1 if REVERSE else t) * batch, 4 * H)
        if PART != 2:
            wait(counter, 2 * step * PROGRAMS, KEPT)
            past = (of + H, of + 2 * H)
            dh = product(past, row4, fresh_past, (w_r, w_z), there, H, K1, K2, SPLIT, H, KEPT, PRECISION)
            dh += through
            if MORE:
                dh += tl.where(over, 0.0, d)
            g = tl.where(over, 0.0, (1 - p) * dh)
            d_n = (g * z * (1 - n * n)).to(dtype)
            d_z = (g * (n - s) * z * (1 - z)).to(dtype)
            through = tl.where(over, dh, p * dh + g * (1 - z))
            tl.store(own + 3 * H + place4, d_n, mask=mine)
            arrive(counter, KEPT)
            tl.store(own + 2 * H + place4, d_z, mask=mine)
        if PART != 1:
            wait(counter, (2 * step + 1) * PROGRAMS, KEPT)
            of_n = (own + 3 * H,)
            d_q = product(of_n, row4, valid, (w_n,), there, H, K1, K2, SPLIT, H, KEPT, PRECISION)
            d_r = (d_q * s * r * (1 - r)).to(dtype)
            through = tl.where(over | fresh[:, None], through + d_q * r, 0.0)
            tl.store(own + H + place4, d_r, mask=mine)
            arrive(counter, KEPT)
    tl.store(end + place, through, mask=mine)
