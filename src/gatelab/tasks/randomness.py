"""Step randomness as a function of (seed, rank, step), which makes a resumed run draw what the first one
would have.

Dropout and everything else that draws inside a training step uses torch's default generators. Seeding them at
the
start of every step makes the draw independent of everything that happened before: validation, a sanity check,
a restart. This is not the seed of the initial weights, nor of the order of the data.

`Generator.manual_seed` on the default generators costs about a microsecond; `torch.manual_seed` a hundred
times that.
"""

import torch

_MASK = (1 << 64) - 1


def step_seed(seed: int, rank: int, step: int) -> int:
    """Mix three integers into one of 63 bits, by the finaliser of SplitMix64 (Steele et al. 2014)."""
    mixed = 0
    for value in (seed, rank, step):
        mixed = (mixed + value + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed >> 1


def seed_step(seed: int, rank: int, step: int, device: torch.device) -> None:
    """Seed the default generators of the CPU and of `device` for one training step."""
    value = step_seed(seed, rank, step)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
