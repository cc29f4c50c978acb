"""The contract of a recurrent core, the layer that a `LanguageModel` or a `Forecaster` is built around.

`gatelab.GRU` and its relatives fulfil it, and so may any `nn.Module` of yours; nothing has to be inherited.

Dimensions: T time, B batch, D input, F output.
"""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Core(Protocol):
    """A recurrent layer, time first: `core(x [T, B, D], state) -> (y [T, B, F], state)`.

    It is an `nn.Module`. A model makes it by calling a class or a `functools.partial` with the size of the input,
    `MyCell(input_size=D)`; everything else is a setting of yours.

    Attributes:
        output_size: F, features of each output; the head reads as many.
        hidden_size: of the state; a `LanguageModel` without `embedding_size` takes it for its embeddings.
        batch_first: if there is one, it is False.
        bidirectional: if it is True, F is 2H, the forward direction first; not for a `LanguageModel`.
    """

    output_size: int
    hidden_size: int

    def forward(
        self, x: Tensor, state: Any = None, *, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return the outputs [T, B, F] and the state after the last step; no state is stored.

        `state` is what an earlier call returned, or None for a fresh one: a tensor or a nest of tuples of tensors.
        `reset_mask` [T, B] bool, where True the state is emptied before that step, is asked for by a `LanguageModel`.
        """
        ...


SEE = "gatelab.core.Core says what a core must have"


def make_core(make: Callable[..., Any], input_size: int, model: str, *given: Any, **named: Any) -> Any:
    """Call `make(input_size=...)` and check what it makes for `model`, which will call it with such arguments.

    Raises TypeError or ValueError, in one sentence that names what is missing, for a core that breaks the contract.
    """
    core = make(input_size=input_size)
    name = f"the core of a {model}, {type(core).__name__},"
    if not isinstance(core, nn.Module):
        raise TypeError(f"{name} must be an nn.Module; {SEE}")
    size = getattr(core, "output_size", None)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise TypeError(
            f"{name} must have output_size, the features of each output, as a positive integer "
            f"(`self.output_size = hidden_size`); got {size!r}. {SEE}"
        )
    if getattr(core, "batch_first", False):
        raise ValueError(f"{name} must be time-major: leave batch_first=False")
    try:
        inspect.signature(core.forward).bind(*given, **named)
    except TypeError as error:
        raise TypeError(
            f"{name} must have forward(x, state=None, *, reset_mask=None): {error}. {SEE}"
        ) from None
    return core


def core_hidden_size(core: Callable[..., Any]) -> int:
    """The hidden size that a core will have: read from a partial's keywords, else from a throw-away core."""
    keywords = getattr(core, "keywords", {})
    if "hidden_size" in keywords:
        return int(keywords["hidden_size"])
    with torch.random.fork_rng(devices=[]):
        made = core(input_size=1)
    if not hasattr(made, "hidden_size"):
        raise TypeError(
            f"the core {type(made).__name__} has no hidden_size, which embedding_size=None takes; {SEE}"
        )
    return int(made.hidden_size)


def check_call(core: Any, input_size: int) -> None:
    """Call a core on two rows of three steps, on the device of its weights, and check what it returns.

    Raises TypeError, in one sentence, if that is not (y [T, B, F], state). An error of the core's own passes: it may be
    one of `torch.device("meta")`, where no number is known.
    """
    like = next(core.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            found = core(like.new_zeros(3, 2, input_size))
    except Exception:
        return
    shape = (3, 2, core.output_size)
    pair = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    y = pair[0]
    if pair is found and isinstance(y, Tensor) and y.shape == shape:
        return
    got = f"of shape {list(y.shape)}" if isinstance(y, Tensor) else f"{type(y).__name__}"
    got = f"outputs {got}" if pair is found else f"no such pair, but one {type(found).__name__}"
    raise TypeError(
        f"the core {type(core).__name__} must return its outputs [T, B, {core.output_size}] and its state, "
        f"`return y, state`; for x [3, 2, {input_size}] it returned {got}. {SEE}"
    )
