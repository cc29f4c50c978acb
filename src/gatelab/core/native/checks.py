"""What is checked before the kernel gets a pointer: type, device, shape, and that the memory is contiguous.

The kernel itself checks nothing, so every address goes through `address`, and a call's tensors through
`check_call` first, which speaks of the arguments by name.
"""

import torch
from torch import Tensor


def address(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
    """The address of a contiguous CPU tensor of exactly this shape and type. Raises TypeError or ValueError."""
    if tensor.dtype is dtype and tensor.is_cpu and tensor.shape == shape and tensor.is_contiguous():
        return tensor.data_ptr()
    if tensor.dtype != dtype or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a {dtype} tensor on the CPU, got {tensor.dtype} on {tensor.device}")
    raise ValueError(
        f"{name} must be contiguous and {list(shape)}, "
        f"got {list(tensor.shape)} with strides {list(tensor.stride())}"
    )


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    if tensor.dtype is dtype and tensor.is_cpu and tensor.shape == shape:
        return
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        raise TypeError(
            f"the native GRU computes in float32 on the CPU: {name} must be {dtype} there, "
            f"got {tensor.dtype} on {tensor.device}"
        )
    raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}")


def check_call(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    reset_after: bool,
) -> None:
    """Check the tensors of one call against each other; raises TypeError or ValueError naming the argument."""
    if x.dim() != 3 or h0.dim() != 2:
        raise ValueError(f"x must be [T, B, D] and h0 [B, H], got {list(x.shape)} and {list(h0.shape)}")
    (steps, batch, inputs), hidden = x.shape, h0.shape[1]
    if 0 in (steps, batch, inputs, hidden):
        raise ValueError(f"T, B, D and H must be at least 1, got x {list(x.shape)} and h0 {list(h0.shape)}")
    _check("x", x, (steps, batch, inputs))
    _check("h0", h0, (batch, hidden))
    _check("w_ih", w_ih, (3 * hidden, inputs))
    _check("w_hh", w_hh, (3 * hidden, hidden))
    if b_ih is not None:
        _check("b_ih", b_ih, (3 * hidden,))
    if b_hh is not None:
        _check("b_hh", b_hh, (3 * hidden,))
        if not reset_after:
            raise ValueError("reset_after=False has one bias per gate: b_hh must be None, add it to b_ih")
    if reset_mask is not None:
        _check("reset_mask", reset_mask, (steps, batch), torch.bool)
    if drawn is not None:
        _check("zoneout", drawn, (steps, batch, hidden), torch.bool)
    if lengths is not None:
        _check("lengths", lengths, (batch,), torch.int64)
        shortest, longest = lengths.aminmax()
        if shortest < 0 or longest > steps:
            raise ValueError(f"lengths must lie in 0 ... {steps}, got {int(shortest)} ... {int(longest)}")
