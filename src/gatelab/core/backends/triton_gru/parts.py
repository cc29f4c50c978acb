"""What the kernels of `kernels.py` have in common: reading, waiting, and the product of a step.

To exchange numbers between the registers of threads costs more than the products themselves. So a step multiplies once:
forward the columns of a unit's gates (n, r, z and one of zeros) lie side by side in one right factor, and each warp
takes another part of the sum (SPLIT), so that what follows needs one exchange, after which a thread has all parts and
gates of its units.

A product is a sum over H columns of its left factor. KEPT, the right factor is read once, in two blocks of K1 + K2 >= H
columns, each a power of two; else both factors are read K1 columns at a time within the step.

Dimensions: H hidden; BB rows and N columns of a product.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs
import triton
import triton.language as tl


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
def wait(counter, target, KEPT: tl.constexpr):
    """Go on when the counter has reached the target: what was written before it was added to can now be read.

    Every thread polls for itself, which needs no barrier after. One thread would do too, with two barriers a poll, as
    Triton's own atomic operations have it: that took up to 0.9 microseconds more in a step back.
    """
    if KEPT and COMPILED:
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
    elif KEPT:
        while tl.load(counter) < target:
            pass


@triton.jit
def arrive(counter, KEPT: tl.constexpr):
    """Say that this program has written its part: one thread adds 1, after all of them."""
    if KEPT and COMPILED:
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
    elif KEPT:
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
def columns(begin, K: tl.constexpr, SPLIT: tl.constexpr):
    """The K columns from `begin` on in parts, [SPLIT, K / SPLIT]."""
    return begin + tl.arange(0, SPLIT)[:, None] * (K // SPLIT) + tl.arange(0, K // SPLIT)[None, :]


@triton.jit
def left(data, row, k, keep, H: tl.constexpr):
    """The left factor in parts, [SPLIT, BB, K / SPLIT]; row i begins at `data + row[i]`, zero if not keep[i].

    It is read past the multiprocessor's own cache, as another one wrote it.
    """
    mask = keep[None, :, None] & (k < H)[:, None, :]
    return tl.load(data + row[None, :, None] + k[:, None, :], mask=mask, other=0.0, cache_modifier=".cg")


@triton.jit
def right(column, k, there, H: tl.constexpr, BY_K: tl.constexpr):
    """The right factor in parts, [SPLIT, K / SPLIT, N]; column j begins at the pointer column[j], if there[j]."""
    mask = (k < H)[:, :, None] & there[None, None, :]
    return tl.load(column[None, None, :] + k[:, :, None] * BY_K, mask=mask, other=0.0)


@triton.jit
def factor(
    column, there, H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BY_K: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """A right factor as `product` takes it: its blocks if it is KEPT, else where its columns begin."""
    if KEPT and K2 > 0:
        k1, k2 = columns(0, K1, SPLIT), columns(K1, K2, SPLIT)
        return right(column, k1, there, H, BY_K), right(column, k2, there, H, BY_K)
    elif KEPT:  # noqa: RET505 - Triton would compile what follows a return, too
        return (right(column, columns(0, K1, SPLIT), there, H, BY_K),)
    else:
        return column


@triton.jit
def product(
    lefts, row, keep, rights, there, H: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, SPLIT: tl.constexpr,
    BY_K: tl.constexpr, KEPT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The sum [BB, N] of the products of some left factors, which begin at `lefts`, and as many right ones."""
    BB: tl.constexpr = row.shape[0]
    N: tl.constexpr = there.shape[0]
    a = tl.full([SPLIT, BB, N], 0.0, tl.float32)
    if KEPT:
        k = columns(0, K1, SPLIT)
        for i in tl.static_range(len(lefts)):
            a = tl.dot(left(lefts[i], row, k, keep, H), rights[i][0], a, input_precision=PRECISION)
        if K2 > 0:
            k = columns(K1, K2, SPLIT)
            for i in tl.static_range(len(lefts)):
                a = tl.dot(left(lefts[i], row, k, keep, H), rights[i][1], a, input_precision=PRECISION)
    else:
        for begin in range(0, H, K1):
            k = columns(begin, K1, SPLIT)
            for i in tl.static_range(len(lefts)):
                b = right(rights[i], k, there, H, BY_K)
                a = tl.dot(left(lefts[i], row, k, keep, H), b, a, input_precision=PRECISION)
    return added(a, SPLIT, BB, N)


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
