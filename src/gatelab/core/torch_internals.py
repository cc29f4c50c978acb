"""Every private name of PyTorch that the core uses, in one place. Tried with torch 2.11 and 2.13.

`tests/core/test_torch_internals.py` fails when one of them is gone or means something else.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def scan(combine: Callable[..., Any], init: Any, xs: Tensor) -> tuple[Any, Tensor]:
    """Run `combine(carry, x) -> (carry, y)` over the first dimension of `xs`, as one operation of an exported graph.

    Returns the last carry and the stacked y. Its import loads the compiler, hence not before it is called.
    """
    from torch._higher_order_ops.scan import scan as scan_operation

    carry, ys = scan_operation(combine, init, xs)
    return carry, ys


ONLY_REFERENCE = "and only backend='reference' serves that"
_FUNCTORCH = (
    f"torch.func transforms it (grad, vmap, jvp, ...; or a gradient of a batch of them) {ONLY_REFERENCE}"
)
_FORWARD_AD = f"forward-mode differentiation is on {ONLY_REFERENCE}"
_TRACING = f"torch.jit or the ONNX exporter traces it {ONLY_REFERENCE}"
_MODE = f"a dispatch mode watches it (fake tensors, make_fx, ...) {ONLY_REFERENCE}"
_NOT_PLAIN = (
    "a tensor is not plain memory on the input's device (fake, meta, a subclass, a negated view, elsewhere) "
    + ONLY_REFERENCE
)


def obstacle(device: str, tensors: Sequence[Tensor | None]) -> str | None:
    """Why nothing but operations of PyTorch may compute from these tensors now; None for ordinary eager code.

    A kernel that reads memory, or an autograd function that writes its own gradient, is invisible to whatever is at
    work between Python and memory: what it computes is then missing from a graph, has no tangent, or is garbage.
    `torch.compile` alone is none: what it cannot see is registered as an operation, with a gradient but no tangent.
    It takes 2 to 3 microseconds.
    """
    if is_transformed():  # these two are told by compiled code as well
        return _FUNCTORCH
    if forward_ad._current_level >= 0:
        return _FORWARD_AD
    if torch.compiler.is_compiling():
        return None
    if is_tracing():
        return _TRACING
    if torch._C._len_torch_dispatch_stack():
        return _MODE
    keys, plain = torch._C._dispatch_keys, _plain_keys(device)
    for t in tensors:
        if t is not None and (keys(t).raw_repr() not in plain or not _plain_type(type(t))):
            return _NOT_PLAIN
    return None


@functools.cache
def _plain_keys(device: str) -> frozenset[int]:
    """The dispatch keys of ordinary tensors of a device, of inference mode and not; none if it has no memory."""
    if device == "meta":
        return frozenset()
    found = []
    for mode in (True, False):
        with torch.inference_mode(mode):
            found.append(torch._C._dispatch_keys(torch.empty(0, device=device)).raw_repr())
    return frozenset(found)


@functools.cache
def _plain_type(kind: type[Tensor]) -> bool:
    """Whether operations on tensors of this type are PyTorch's own and give `Tensor`: Parameter, not a subclass."""
    return kind is Tensor or (
        kind.__torch_function__ is torch._C._disabled_torch_function_impl
        and kind.__torch_dispatch__ is torch._C._disabled_torch_dispatch_impl
    )


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is at work, or a batch of gradients is computed."""
    return bool(torch._C._are_functorch_transforms_active())


def keeps_graph() -> bool:
    """Whether the backward pass that runs now leaves its graph for another one (`retain_graph`)."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def is_exporting() -> bool:
    """Whether `torch.export` records what is computed; `torch.compiler.is_exporting` is true in code that
    `torch.compile` of PyTorch 2.11 compiles, too.
    """
    return torch.compiler._is_exporting_flag


def is_tracing() -> bool:
    """Whether `torch.jit.trace`, or the ONNX exporter through it, records what is computed."""
    return torch._C._get_tracing_state() is not None


def batch_before_time(y: Tensor) -> Tensor:
    """Turn [T, B, F] into [B, T, F] in place, so that it is no view: nobody may detach a view in place.

    The content does not change, hence not its version: a backward pass that reads it need not look again.
    """
    if not y.requires_grad:
        return y.transpose_(0, 1)
    if torch.compiler.is_compiling() or is_tracing() or is_transformed():
        return y.transpose(0, 1)
    with torch.autograd._unsafe_preserve_version_counter(y):  # type: ignore[attr-defined]
        return y.transpose_(0, 1)


def is_hooked(module: torch.nn.Module) -> bool:
    """Whether a call of the module runs a hook of its own, which would not run if its weights were used directly."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def gru(x: Tensor, h0: Tensor, weights: list[Tensor], bias: bool, training: bool) -> tuple[Tensor, Tensor]:
    """The function behind `torch.nn.GRU`, for one layer in one direction: x [T, B, D], h0 [1, B, H].

    cuDNN refuses a state that is not contiguous; ATen's loop on a CPU takes any.
    """
    y, h_n = torch._VF.gru(x, h0.contiguous(), weights, bias, 1, 0.0, training, False, False)
    return y, h_n


def has_amx() -> bool:
    """Whether the processor multiplies tiles (AMX), which PyTorch's products in BF16 are fast with."""
    return bool(torch.cpu._is_amx_tile_supported())
