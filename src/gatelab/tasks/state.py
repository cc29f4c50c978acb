"""Recurrent states as values: a tensor [L, B, H], a tuple of such tensors, or None for zero.

No layer stores a state; a task carries it with these functions.
"""

import torch
from torch import Tensor

State = Tensor | tuple[Tensor, ...] | None


def detach(state: State, device: torch.device | None = None) -> State:
    """Cut `state` off the graph, and move it to `device` if one is given."""
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.detach() if device is None else state.detach().to(device)
    return tuple(s.detach() if device is None else s.detach().to(device) for s in state)


def reset_state(state: State, reset: Tensor) -> State:
    """Set to zero the columns of `state` whose `reset` [B] is True; whatever they held (NaN too) is gone.

    Raises:
        ValueError: the number of streams changed and not all of them start anew.
    """
    if state is None:
        return None
    first = state if isinstance(state, Tensor) else state[0]
    if first.shape[1] != len(reset):
        if bool(reset.all()):
            return None
        raise ValueError(
            f"a window of {len(reset)} streams follows one of {first.shape[1]}: all of them must be reset"
        )
    if reset.device.type == "cpu" and not bool(reset.any()):
        return state
    mask = reset[None, :, None]
    if isinstance(state, Tensor):
        return state.masked_fill(mask, 0.0)
    return tuple(s.masked_fill(mask, 0.0) for s in state)


def columns(state: State) -> Tensor | None:
    """Return all of a state as one float32 tensor [B, *], a row for each stream."""
    if state is None:
        return None
    parts = (state,) if isinstance(state, Tensor) else state
    return torch.cat([part.float().movedim(1, 0).flatten(1) for part in parts], dim=1)
