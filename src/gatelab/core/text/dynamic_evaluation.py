"""Dynamic evaluation of Krause et al. 2018 (arXiv:1709.07432): weights that follow the text that was just scored.

The text is read in segments. A segment is scored with the weights as they are; then its gradient g moves them, and a
decay pulls them back to the trained weights theta_g:

    theta <- theta + decay (theta_g - theta) - rate g                              (SGD)
    theta <- theta + decay r (theta_g - theta) - rate g / (s + epsilon mean(s))    (RMS)

with s the root mean square of the training text's gradients and r = s / mean(s), at most 1 / decay. So no token's own
loss acts on its score. g is that of the mean NLL of the segment. Dropout is off; gradients are not clipped. Epsilon is
in units of mean(s), the mean over all weights (in the paper it is a number of its own): then one value serves networks
whose gradients differ by orders of magnitude.

Dimensions: N positions, T steps of a segment or window, B streams.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gatelab.core.text.head import IGNORE, token_nll


def detached(state: Any) -> Any:
    """The state without its history."""
    if isinstance(state, tuple):
        return tuple(detached(part) for part in state)
    return None if state is None else state.detach()


@contextmanager
def restored(model: Any) -> Iterator[tuple[list[nn.Parameter], list[Tensor]]]:
    """The parameters, which may be moved inside, and a copy of them; afterwards each has its old values, to the bit."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        # cuDNN's recurrent layers have no backward pass in evaluation mode
        with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
            yield parameters, kept
    finally:
        with torch.no_grad():
            for parameter, values in zip(parameters, kept, strict=True):
                parameter.copy_(values)


def gradients(
    model: Any, x: Tensor, targets: Tensor, parameters: Sequence[nn.Parameter]
) -> tuple[Any, Tensor]:
    """The gradient of the mean NLL at features [T, B, F], one tensor a parameter; and the NLL of each target."""
    nll = token_nll(model.head, x.flatten(0, 1), targets.flatten())
    scored = (targets != IGNORE).sum().clamp(min=1)
    return torch.autograd.grad(nll.sum() / scored, parameters, allow_unused=True), nll.detach()


def gradient_scale(model: Any, windows: Iterable[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
    """The root mean square of the gradients of training windows, one tensor a parameter.

    Args:
        windows: inputs [T, B], targets [T, B] and reset [B] of consecutive windows; the state is carried.
    """
    state, count = None, 0
    with restored(model) as (parameters, _):
        squares = [torch.zeros_like(parameter) for parameter in parameters]
        for inputs, targets, reset in windows:
            x, state = model.features(inputs, None if bool(reset.all()) else state)
            state, count = detached(state), count + 1
            for square, g in zip(squares, gradients(model, x, targets, parameters)[0], strict=True):
                if g is not None:
                    square.addcmul_(g, g)
    return [(square / max(1, count)).sqrt_() for square in squares]


def dynamic_nll(
    model: Any,
    inputs: Tensor,
    targets: Tensor,
    *,
    segment: int,
    rate: float,
    decay: float,
    scale: Sequence[Tensor] | None = None,
    epsilon: float = 3.0,
    tick: Callable[[int], None] = lambda tokens: None,
) -> Tensor:
    """NLL [N] (nats) of targets [N] after inputs [N], one stream in order; infinite from where the weights diverge.

    Args:
        model: with `features` and `head` as a `LanguageModel`, in evaluation mode; its weights come back as they were.
        segment: steps that are scored between two updates.
        rate, decay: of the update, see above.
        scale: the root mean squares of `gradient_scale` for the RMS rule; None: SGD.
        epsilon: of the RMS rule.
        tick: told how many tokens have been scored since the last time.
    """
    found = torch.full((len(inputs),), torch.inf)
    state = None
    with restored(model) as (parameters, trained):
        step, pull = (None, None) if scale is None else _steps_and_pulls(scale, epsilon, decay)
        for start in range(0, len(inputs), segment):
            part = slice(start, start + segment)
            x, state = model.features(inputs[part, None], state)
            state = detached(state)
            grads, nll = gradients(model, x, targets[part, None], parameters)
            if not bool(nll.isfinite().all()):
                break
            found[part] = nll.cpu()
            with torch.no_grad():
                for index, (parameter, g) in enumerate(zip(parameters, grads, strict=True)):
                    parameter.lerp_(trained[index], decay if pull is None else pull[index])
                    if g is not None:
                        if step is None:
                            parameter.add_(g, alpha=-rate)
                        else:
                            parameter.addcmul_(g, step[index], value=-rate)
            tick(len(nll))
    return found


def _steps_and_pulls(
    scale: Sequence[Tensor], epsilon: float, decay: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Of every weight: 1 / (s + epsilon mean(s)), and decay r, at most 1."""
    mean = sum(float(s.sum(dtype=torch.float64)) for s in scale) / sum(s.numel() for s in scale)
    mean = max(mean, torch.finfo(torch.float32).tiny)
    return [1 / (s + epsilon * mean) for s in scale], [(s * (decay / mean)).clamp_(max=1.0) for s in scale]
