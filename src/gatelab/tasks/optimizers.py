"""Optimisers as functions of the parameters and plain numbers: Adam, AdamW, SGD.

Thin factories over `torch.optim`, so that a config's keys are plain types that can be checked before a run
starts. `fused=None` means: one kernel for the whole update wherever every parameter's device has one (CPU and
CUDA do), which is several times faster than a loop over the parameters. Schedules are in `schedules.py`.
"""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

FUSED_DEVICES = ("cpu", "cuda")


def adam(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> Optimizer:
    """Adam (Kingma & Ba 2015); `weight_decay` is an L2 term in the gradient, unlike in `adamw`."""
    tensors = list(params)
    return torch.optim.Adam(
        tensors,
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=_fused(tensors, fused),
    )


def adamw(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_vectors: bool = False,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Args:
        decay_vectors: decay biases and gains too; by default only parameters with two or more dimensions
            decay.
    """
    tensors = list(params)
    decayed = [p for p in tensors if decay_vectors or p.ndim >= 2]
    kept = [p for p in tensors if not (decay_vectors or p.ndim >= 2)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        amsgrad=amsgrad,
        fused=_fused(tensors, fused),
    )


def sgd(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1.0,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    fused: bool | None = None,
) -> Optimizer:
    """Stochastic gradient descent, with momentum if asked for."""
    tensors = list(params)
    return torch.optim.SGD(
        tensors,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        fused=_fused(tensors, fused),
    )


def _fused(params: list[nn.Parameter], fused: bool | None) -> bool:
    """Decide on the fused update: as asked, else wherever all parameters live on a device that has one."""
    if fused is not None:
        return fused
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in params)
