"""Two classic memory problems as arrays: adding (Hochreiter & Schmidhuber 1997) and copy memory (Arjovsky et
al. 2016).

They have no corpus: every item is drawn from a seed, and each split from its own. Generation only; the
DataModules are in synthetic_module.py.

Dimensions: `n` items, `T` steps.
"""

from typing import Final

import numpy as np

from gatelab.data.specs import IGNORE, SPLITS

MEMORY: Final = 10
"""Symbols to remember in the copy problem."""
SYMBOLS: Final = 8
"""Different symbols 1..8; 0 is blank, 9 is the signal to repeat."""
BLANK, SIGNAL = 0, SYMBOLS + 1


def generator(seed: int, split: str) -> np.random.Generator:
    """Return the random generator of a split; no two splits or seeds share numbers."""
    return np.random.Generator(np.random.PCG64([seed, SPLITS.index(split)]))


def adding(items: int, steps: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return past `[n, T, 2]` and future `[n, 1, 1]`, float32.

    Channel 0 is uniform in [0, 1); channel 1 marks one step of each half; the sum of the two marked values is
    asked for. Answering 1 always has a squared error of 1/6 and an absolute error of 1/3.
    """
    past = np.zeros((items, steps, 2), dtype=np.float32)
    past[:, :, 0] = draw.random((items, steps), dtype=np.float32)
    row = np.arange(items)
    first = draw.integers(0, steps // 2, size=items)
    second = draw.integers(steps // 2, steps, size=items)
    past[row, first, 1] = 1
    past[row, second, 1] = 1
    total = past[row, first, 0] + past[row, second, 0]
    return past, total[:, None, None]


def copy_memory(items: int, delay: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets `[n, delay + 20]` int64.

    Ten symbols, `delay - 1` blanks, the signal, ten blanks, then nothing: during the last ten steps the
    symbols are to be repeated. All other targets are `IGNORE`. Guessing has a loss of ln 8 nats per scored
    token.
    """
    symbols = draw.integers(1, SYMBOLS + 1, size=(items, MEMORY))
    inputs = np.full((items, delay + 2 * MEMORY), BLANK, dtype=np.int64)
    inputs[:, :MEMORY] = symbols
    inputs[:, delay + MEMORY - 1] = SIGNAL
    targets = np.full_like(inputs, IGNORE)
    targets[:, -MEMORY:] = symbols
    return inputs, targets
