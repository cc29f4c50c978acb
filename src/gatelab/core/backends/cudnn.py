"""The `cudnn` backend: PyTorch's own fused GRU, which on a CUDA device is cuDNN's.

It delegates to the function behind `torch.nn.GRU`, one layer in one direction at a time. It serves CUDA
devices only. The same function runs on a CPU too (the tests use that), but there it is ATen's loop and not
cuDNN, and a named backend must be what its name says; `torch.nn.GRU` itself is the way to have ATen's loop.

Ragged lengths are served on padded input, as in `torch_gru.py`: outputs past the length are masked and the final
state is the output at the length. cuDNN's gradient cannot be differentiated again.

`torch.compile` would take the function apart into the operations of every step, so it is kept out of compiled graphs.
"""

import torch
from torch import Tensor

from gatelab.core.backends.reference import Backend, Spec
from gatelab.core.torch_internals import gru
from gatelab.core.unroll import padding

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def run(
    x: Tensor,
    h0: Tensor,
    *weights: Tensor | None,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
    zoneout: Tensor | float | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `reference.Run`."""
    if not reset_after or reset_mask is not None:
        raise ValueError("cuDNN's GRU has reset_after=True only and no reset_mask")
    if any(gain is not None for gain in weights[4:]) or zoneout is not None:
        raise ValueError("cuDNN's GRU has neither layer normalisation nor zoneout")
    if torch.compiler.is_compiling():
        return torch.compiler.disable(_run)(x, h0, weights, lengths)
    return _run(x, h0, weights, lengths)


def _run(
    x: Tensor, h0: Tensor, weights: tuple[Tensor | None, ...], lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    block = _one_block([w for w in weights if w is not None])
    training = torch.is_grad_enabled()  # cuDNN keeps what backward needs only when it is told so
    y, final = gru(x, h0.unsqueeze(0), block, weights[2] is not None, training)
    if lengths is None:
        return y, final[0]
    states = torch.cat((h0.unsqueeze(0), y))
    final = states.gather(0, lengths.view(1, -1, 1).expand(1, -1, y.shape[2]))
    return y.masked_fill(padding(lengths, x.shape[0]).unsqueeze(-1), 0), final[0]


def _one_block(weights: list[Tensor]) -> list[Tensor]:
    """The weights as views of one buffer: cuDNN would else make its own copy, with a warning each time."""
    block = torch.cat([w.reshape(-1) for w in weights])
    parts = block.split([w.numel() for w in weights])
    return [part.view(w.shape) for part, w in zip(parts, weights, strict=True)]


def unsupported(spec: Spec) -> str | None:
    """cuDNN wants a CUDA device and its own variant, and knows no resets."""
    if spec.obstacle is not None:
        return spec.obstacle
    if spec.device != "cuda":
        return f"cuDNN runs on CUDA devices and the input is on {spec.device}"
    if not _is_on():
        return "cuDNN is missing or switched off (torch.backends.cudnn.enabled)"
    if spec.dtype not in DTYPES:
        return f"cuDNN does not compute in {spec.dtype}"
    if not spec.reset_after:
        return "cuDNN has the variant reset_after=True only"
    if spec.has_reset_mask:
        return "cuDNN cannot reset the state inside a sequence"
    if spec.layer_norm:
        return "cuDNN has no layer normalisation"
    if spec.zoneout:
        return "cuDNN has no zoneout"
    return None


@torch.compiler.assume_constant_result  # what PyTorch says of the machine is not to be traced
def _is_on() -> bool:
    """Whether this PyTorch has cuDNN, and may use it."""
    return torch.backends.cudnn.is_available() and torch.backends.cudnn.enabled


BACKEND = Backend("cudnn", "PyTorch's fused GRU on a CUDA device", run, unsupported)
