"""The kernels in Triton: a GRU layer over all its steps in one launch, forward and backward.

A program (one block of threads) computes BU units of the state for BB rows of the batch. It reads its part of W_hh
once, before the first step, and keeps it on the chip. What the programs of the same rows have to tell one another from
step to step goes through memory: each writes its units and adds 1 to the counter of its rows (`arrive`), and before it
reads the units of all it waits until the counter says that all have written (`wait`). The sums of products and the
state are float32 whatever the dtype of the tensors.

A launch does the steps `first` ... `last` - 1. What it needs of the step before it is in memory, the state of each row
among it (`start`, which `end` becomes), so that a launch for each step computes the same: Triton's interpreter needs
that, which runs one program after another. The variant that resets before the product tells twice a step, and there its
two parts are launched apart (PART 1 and 2; 0 is both).

Buffers, of one dtype but for `lengths` (int64) and `resets` (int8); `start` and `end` [B, H] may be float32:
  x       [T, B, 3H]    W_ih x + b_ih in the order r, z, n; infinite for z where zoneout keeps a unit's state
  weight  [3H, H]       W_hh
  states  [T+1, B, H]   the state before and after each step; the first of the walk is given
  gates   [T, B, 4H]    in the order m, r, z, n; m is W_hn h + b_hn, or r * h where the reset is before the product
  grads   [T+1, B, 4H]  their gradients (of m: that of W_hn's product); the first of the walk back is given as zero
A walk in REVERSE goes from step T-1 to 0. Rows past their length keep their state.

To exchange numbers between the registers of threads costs more than the products themselves. So a step multiplies once:
forward the columns of a unit's gates (n, r, z and one of zeros) lie side by side in one right factor, and each warp
takes another part of the sum (SPLIT), so that what follows needs one exchange, after which a thread has all parts and
gates of its units.

Dimensions: T time, B batch, H hidden. A product over H is cut into two blocks of K1 + K2 >= H columns, each a power of
two.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
import triton
import triton.language as tl

NUMBERS = ("first", "last", "steps", "batch", "begin")  # that no compiled kernel may depend on


@triton.jit
def sigmoid(a):
    """Between 0 and 1, also at infinity."""
    return 1 / (1 + tl.exp(-a))


@triton.jit
def tanh(a):
    """Between -1 and 1, also at infinity."""
    return 2 / (1 + tl.exp(-2 * a)) - 1


COMPILED = tl.constexpr(isinstance(tanh, triton.JITFunction))
"""Whether this is for a GPU: an interpreter runs one program after another and reads no PTX."""


@triton.jit
def wait(counter, target):
    """Go on when the counter has reached the target: what was written before it was added to can now be read.

    Every thread polls for itself, which needs no barrier after. One thread would do too, with two barriers a poll, as
    Triton's own atomic operations have it: that took up to 0.9 microseconds more in a step back.
    """
    if COMPILED:
        tl.inline_asm_elementwise(
            """{
            .reg .pred early;
            .reg .b32 seen;
            POLL:
            ld.acquire.gpu.global.s32 seen, [$1];
            setp.lt.s32 early, seen, $2;
            @early bra POLL;
            mov.b32 $0, seen;
            }""",
            "=r,l,r,~{memory}", [counter, target], dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        while tl.load(counter) < target:
            pass


@triton.jit
def arrive(counter):
    """Say that this program has written its part: one thread adds 1, after all of them."""
    if COMPILED:
        tl.debug_barrier()
        tl.inline_asm_elementwise(
            """{
            .reg .pred first;
            .reg .b32 thread;
            mov.u32 thread, %tid.x;
            setp.eq.u32 first, thread, 0;
            @first red.release.gpu.global.add.s32 [$1], 1;
            mov.b32 $0, thread;
            }""",
            "=r,l,~{memory}", [counter], dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        tl.atomic_add(counter, 1)


@triton.jit
def at(data, row, size):
    """Where a row of so many numbers begins; 32 bits would not do for all numbers of a long sequence."""
    return data + row.to(tl.int64) * size


@triton.jit
def stored(data, place, mask):
    """A tile [BB, BU] in the dtype that it is stored in, zero where not `mask`: what waits takes fewer registers so."""
    return tl.load(data + place, mask=mask, other=0.0)


@triton.jit
def tile(data, place, mask):
    """A tile [BB, BU] in float32, zero where not `mask`."""
    return stored(data, place, mask).to(tl.float32)


@triton.jit
def columns(BEGIN: tl.constexpr, K: tl.constexpr, SPLIT: tl.constexpr):
    """The K columns from BEGIN on in parts, [SPLIT, K / SPLIT]."""
    return BEGIN + tl.arange(0, SPLIT)[:, None] * (K // SPLIT) + tl.arange(0, K // SPLIT)[None, :]


@triton.jit
def right(weight, k, n, there, H: tl.constexpr, BY_K: tl.constexpr):
    """The right factor in parts, [SPLIT, K / SPLIT, N]; column j begins at `weight + n[j]`, if `there[j]`."""
    mask = (k < H)[:, :, None] & there[None, None, :]
    return tl.load(weight + k[:, :, None] * BY_K + n[None, None, :], mask=mask, other=0.0)


@triton.jit
def left(data, row, k, keep, H: tl.constexpr):
    """The left factor in parts, [SPLIT, BB, K / SPLIT]; row i begins at `data + row[i]`, zero if not keep[i].

    It is read past the multiprocessor's own cache, as another one wrote it.
    """
    mask = keep[None, :, None] & (k < H)[:, None, :]
    return tl.load(data + row[None, :, None] + k[:, None, :], mask=mask, other=0.0, cache_modifier=".cg")


@triton.jit
def added(a, SPLIT: tl.constexpr, BB: tl.constexpr, N: tl.constexpr):
    """The sum [BB, N] of the 4 or 8 parts [SPLIT, BB, N] of a product; a thread adds all parts of a number."""
    a = tl.permute(a, (1, 2, 0))
    if SPLIT == 8:
        even, odd = tl.split(tl.reshape(a, [BB, N, 4, 2]))
        a = even + odd
    even, odd = tl.split(tl.reshape(a, [BB, N, 2, 2]))
    even, odd = tl.split(even + odd)
    return even + odd


@triton.jit
def gates_apart(a, BB: tl.constexpr, BU: tl.constexpr):
    """The columns of n, r and z, each [BB, BU], of a product [BB, 4 BU]."""
    even, odd = tl.split(tl.reshape(a, [BB, BU, 2, 2]))
    n, z = tl.split(even)
    r, _ = tl.split(odd)
    return n, r, z


@triton.jit(do_not_specialize=NUMBERS)
def forward_after(
    x, weight, bias, states, gates, start, end, lengths, resets, counters,
    first, last, steps, batch, begin, p,
    H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, PROGRAMS: tl.constexpr, PART: tl.constexpr,
    REVERSE: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, MORE: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr,
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
    four, there = ((gate + 2) % 3 * H + of) * H, (of < H) & (gate < 3)
    k1 = columns(0, K1, SPLIT)
    w1 = right(weight, k1, four, there, H, 1)
    if K2 > 0:
        k2 = columns(K1, K2, SPLIT)
        w2 = right(weight, k2, four, there, H, 1)
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
        wait(counter, step * PROGRAMS)
        a = tl.dot(left(entering, row * H, k1, fresh, H), w1, input_precision=PRECISION)
        if K2 > 0:
            a = tl.dot(left(entering, row * H, k2, fresh, H), w2, a, input_precision=PRECISION)
        m, r, z = gates_apart(added(a, SPLIT, BB, 4 * BU), BB, BU)
        m += b_n
        r = sigmoid(i_r + r + b_r)
        z = sigmoid(i_z + z + b_z)
        n = tanh(i_n + r * m)
        new = (1 - z) * n + z * old
        new = tl.where(p > 0, (1 - p) * new + p * old, new)
        h = tl.where((t >= length)[:, None], h, new) if RAGGED else new
        tl.store(at(states, (t if REVERSE else t + 1) * batch, H) + place, h, mask=mine)
        arrive(counter)
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
    BIAS: tl.constexpr, PRECISION: tl.constexpr,
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
    k1 = columns(0, K1, SPLIT)
    w_m = right(weight + 2 * H * H, k1, unit, unit < H, H, H)
    w_r = right(weight, k1, unit, unit < H, H, H)
    w_z = right(weight + H * H, k1, unit, unit < H, H, H)
    if K2 > 0:
        k2 = columns(K1, K2, SPLIT)
        v_m = right(weight + 2 * H * H, k2, unit, unit < H, H, H)
        v_r = right(weight, k2, unit, unit < H, H, H)
        v_z = right(weight + H * H, k2, unit, unit < H, H, H)
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
            past = at(resets, (t - 1 if REVERSE else t + 1) * batch, 1)
            fresh_past = known & (tl.load(past + row, mask=known, other=1) == 0)
        wait(counter, step * PROGRAMS)
        of = at(grads, (t if REVERSE else t + 1) * batch, 4 * H)
        a = tl.dot(left(of, row4, k1, fresh_past, H), w_m, input_precision=PRECISION)
        a = tl.dot(left(of + H, row4, k1, fresh_past, H), w_r, a, input_precision=PRECISION)
        a = tl.dot(left(of + 2 * H, row4, k1, fresh_past, H), w_z, a, input_precision=PRECISION)
        if K2 > 0:
            a = tl.dot(left(of, row4, k2, fresh_past, H), v_m, a, input_precision=PRECISION)
            a = tl.dot(left(of + H, row4, k2, fresh_past, H), v_r, a, input_precision=PRECISION)
            a = tl.dot(left(of + 2 * H, row4, k2, fresh_past, H), v_z, a, input_precision=PRECISION)
        dh = added(a, SPLIT, BB, BU)
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
        arrive(counter)
        tl.store(own + 3 * H, d_n, mask=mine)
    tl.store(end + place, through, mask=mine)


@triton.jit(do_not_specialize=NUMBERS)
def forward_before(
    x, weight, bias, states, gates, start, end, lengths, resets, counters,
    first, last, steps, batch, begin, p,
    H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, PROGRAMS: tl.constexpr, PART: tl.constexpr,
    REVERSE: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, MORE: tl.constexpr,
    BIAS: tl.constexpr, PRECISION: tl.constexpr,
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
    pair, single = (column % 2 * H + of) * H, unit * H
    k1 = columns(0, K1, SPLIT)
    w1 = right(weight, k1, pair, of < H, H, 1)
    n1 = right(weight + 2 * H * H, k1, single, unit < H, H, 1)
    if K2 > 0:
        k2 = columns(K1, K2, SPLIT)
        w2 = right(weight, k2, pair, of < H, H, 1)
        n2 = right(weight + 2 * H * H, k2, single, unit < H, H, 1)
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
            wait(counter, 2 * step * PROGRAMS)
            a = tl.dot(left(entering, row * H, k1, fresh, H), w1, input_precision=PRECISION)
            if K2 > 0:
                a = tl.dot(left(entering, row * H, k2, fresh, H), w2, a, input_precision=PRECISION)
            r, z = tl.split(tl.reshape(added(a, SPLIT, BB, 2 * BU), [BB, BU, 2]))
            r = sigmoid(i_r + r)
            z = sigmoid(i_z + z)
            q = (r * old).to(dtype)
            tl.store(kept + place4, q, mask=mine)
            arrive(counter)
            if MORE or PART == 1:
                tl.store(kept + H + place4, r, mask=mine)
                tl.store(kept + 2 * H + place4, z, mask=mine)
        if PART == 2:
            z = tile(kept + 2 * H, place4, mine)
        if PART != 1:
            wait(counter, (2 * step + 1) * PROGRAMS)
            a = tl.dot(left(kept, row * (4 * H), k1, valid, H), n1, input_precision=PRECISION)
            if K2 > 0:
                a = tl.dot(left(kept, row * (4 * H), k2, valid, H), n2, a, input_precision=PRECISION)
            n = added(a, SPLIT, BB, BU)
            n = tanh(i_n + n)
            new = (1 - z) * old + z * n
            new = tl.where(p > 0, (1 - p) * new + p * old, new)
            h = tl.where((t >= length)[:, None], h, new) if RAGGED else new
            tl.store(at(states, (t if REVERSE else t + 1) * batch, H) + place, h, mask=mine)
            arrive(counter)
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
    BIAS: tl.constexpr, PRECISION: tl.constexpr,
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
    k1 = columns(0, K1, SPLIT)
    w_r = right(weight, k1, unit, unit < H, H, H)
    w_z = right(weight + H * H, k1, unit, unit < H, H, H)
    w_n = right(weight + 2 * H * H, k1, unit, unit < H, H, H)
    if K2 > 0:
        k2 = columns(K1, K2, SPLIT)
        v_r = right(weight, k2, unit, unit < H, H, H)
        v_z = right(weight + H * H, k2, unit, unit < H, H, H)
        v_n = right(weight + 2 * H * H, k2, unit, unit < H, H, H)
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
            past = at(resets, (t - 1 if REVERSE else t + 1) * batch, 1)
            fresh_past = known & (tl.load(past + row, mask=known, other=1) == 0)
        over = (t >= length)[:, None] if RAGGED else (row < 0)[:, None]
        s = tl.where(fresh[:, None], s, 0.0)
        of = at(grads, (t if REVERSE else t + 1) * batch, 4 * H)
        own = at(grads, (t + 1 if REVERSE else t) * batch, 4 * H)
        if PART != 2:
            wait(counter, 2 * step * PROGRAMS)
            a = tl.dot(left(of + H, row4, k1, fresh_past, H), w_r, input_precision=PRECISION)
            a = tl.dot(left(of + 2 * H, row4, k1, fresh_past, H), w_z, a, input_precision=PRECISION)
            if K2 > 0:
                a = tl.dot(left(of + H, row4, k2, fresh_past, H), v_r, a, input_precision=PRECISION)
                a = tl.dot(left(of + 2 * H, row4, k2, fresh_past, H), v_z, a, input_precision=PRECISION)
            dh = added(a, SPLIT, BB, BU)
            dh += through
            if MORE:
                dh += tl.where(over, 0.0, d)
            g = tl.where(over, 0.0, (1 - p) * dh)
            d_n = (g * z * (1 - n * n)).to(dtype)
            d_z = (g * (n - s) * z * (1 - z)).to(dtype)
            through = tl.where(over, dh, p * dh + g * (1 - z))
            tl.store(own + 3 * H + place4, d_n, mask=mine)
            arrive(counter)
            tl.store(own + 2 * H + place4, d_z, mask=mine)
        if PART != 1:
            wait(counter, (2 * step + 1) * PROGRAMS)
            a = tl.dot(left(own + 3 * H, row4, k1, valid, H), w_n, input_precision=PRECISION)
            if K2 > 0:
                a = tl.dot(left(own + 3 * H, row4, k2, valid, H), v_n, a, input_precision=PRECISION)
            d_q = added(a, SPLIT, BB, BU)
            d_r = (d_q * s * r * (1 - r)).to(dtype)
            through = tl.where(over | fresh[:, None], through + d_q * r, 0.0)
            tl.store(own + H + place4, d_r, mask=mine)
            arrive(counter)
    tl.store(end + place, through, mask=mine)
