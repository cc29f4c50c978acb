"""The three matrix products of a linear layer, forward and backward, for whoever computes them chunk by chunk.

`torch.set_float32_matmul_precision("medium")` allows products whose factors are rounded to BF16. PyTorch makes use of
that where the processor has AMX; where it has BF16 without AMX its products are in float32 all the same, and the
kernel's own take half the time.

Dimensions: R rows, F features, V outputs.
"""

import torch
from torch import Tensor

from gatelab.core.backends.native.kernel import POOL, Library, address, load, most_threads
from gatelab.core.torch_internals import has_amx

FEWEST_ROWS = 64  # below this, packing the weight costs more than the kernel's products save


def rounding_is_allowed(library: Library) -> bool:
    """Whether PyTorch's setting lets products round their factors to BF16, and the kernel has instructions for it."""
    return library.isa == "avx512_bf16" and torch.get_float32_matmul_precision() == "medium"


def products_of(weight: Tensor, rows: int) -> "Products":
    """What multiplies by this weight [V, F] of float32 fastest, for so many rows in all."""
    if rows >= FEWEST_ROWS and not has_amx() and rounding_is_allowed(load()):
        return RoundedProducts(weight)
    return Products(weight)


class Products:
    """The products as PyTorch computes them."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def apart(self, columns: int) -> int:
        """How far apart, in numbers, the rows of a result with so many columns have to be."""
        return columns

    def outputs(self, x: Tensor, out: Tensor) -> None:
        """out [R, V] = x W^T, for x [R, F]."""
        torch.mm(x, self.weight.t(), out=out)

    def input_gradient(self, dy: Tensor, out: Tensor) -> None:
        """out [R, F] = dy W, for dy [R, V]."""
        torch.mm(dy, self.weight, out=out)

    def weight_gradient(self, dy: Tensor, x: Tensor, out: Tensor, adds: bool) -> None:
        """out [V, F] = dy^T x, or is added it."""
        out.addmm_(dy.t(), x, beta=float(adds))  # beta = 0 reads nothing of what was there

    def release(self) -> None:
        """Give back its memory; it must not be used any more."""


class RoundedProducts(Products):
    """The products by the kernel: factors in BF16, sums in float32. Each row of x and dy is contiguous."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight.contiguous())
        self._library = load()
        outputs, features = weight.shape
        self._forward = self._pack(features, outputs, transposed=True)
        self._backward = self._pack(outputs, features, transposed=False)

    def _pack(self, depth: int, columns: int, transposed: bool) -> Tensor:
        packed = POOL.borrow(self._library.padded(columns) * ((depth + 1) // 2))
        at = address("weight", self.weight, tuple(self.weight.shape))
        self._library.pack_matrix(at, depth, columns, transposed, most_threads(), packed.data_ptr())
        return packed

    def apart(self, columns: int) -> int:
        """A whole number of vectors."""
        return int(self._library.padded(columns))

    def outputs(self, x: Tensor, out: Tensor) -> None:
        """Out = x W^T."""
        self._multiply(x, self._forward, out)

    def input_gradient(self, dy: Tensor, out: Tensor) -> None:
        """Out = dy W."""
        self._multiply(dy, self._backward, out)

    def _multiply(self, a: Tensor, packed: Tensor, out: Tensor) -> None:
        (rows, depth), columns = a.shape, out.shape[1]
        self._library.multiply(
            *(a.data_ptr(), a.stride(0), rows),
            *(packed.data_ptr(), depth, columns, most_threads()),
            *(out.data_ptr(), out.stride(0)),
        )

    def weight_gradient(self, dy: Tensor, x: Tensor, out: Tensor, adds: bool) -> None:
        """Out = dy^T x, or is added it."""
        rows, features = x.shape
        self._library.multiply_over_rows(
            *(dy.data_ptr(), dy.stride(0), dy.shape[1]),
            *(x.data_ptr(), features, rows),
            *(adds, most_threads(), out.data_ptr()),
        )

    def release(self) -> None:
        """Give the packed weights' memory to the next call."""
        POOL.release(self._forward)
        POOL.release(self._backward)
