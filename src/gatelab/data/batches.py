"""What one batch looks like: the two tuples that travel from a DataModule to a task. No behaviour lives here.

Dimensions: `B` batch, `T` time, `C` channels, `K` target channels, `P` horizon.
"""

from typing import Final, NamedTuple

from torch import Tensor

IGNORE: Final = -100
"""A target that is not scored: padding, burn-in, or a step where nothing is asked. torch's own convention."""


class TokenBatch(NamedTuple):
    """One window of `B` parallel streams of tokens, time-major.

    inputs: `[T, B]` int64, always valid token ids (padding repeats the seed token).
    targets: `[T, B]` int64, the next token at each step, or `IGNORE` where the step is not scored.
        A window may hold nothing but `IGNORE` (burn-in; another rank's turn): divide by the count only if it
        is > 0.
    reset: `[B]` bool, True where the state must be zero before the window's first step.
    """

    inputs: Tensor
    targets: Tensor
    reset: Tensor


class SeriesBatch(NamedTuple):
    """`B` forecasting windows, standardised with the training split's mean and standard deviation.

    past: `[B, Lb, C]` float32, the look-back of every channel.
    future: `[B, P, K]` float32, the steps right after it of the target channels.
    """

    past: Tensor
    future: Tensor
