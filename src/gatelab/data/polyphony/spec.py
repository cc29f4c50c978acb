"""What a DataModule of polyphonic music publishes, and its batches.

Dimensions: `B` batch, `T` frames, `K` keys.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from gatelab.data.specs import Spec

if TYPE_CHECKING:  # a spec is read where torch is not loaded
    from torch import Tensor

LOWEST: Final = 21
"""The MIDI number of a piano's first key, A0."""
_NAMES: Final = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def key_name(key: int) -> str:
    """Return what a key is called, `A0` for key 0."""
    octave, tone = divmod(key + LOWEST, 12)
    return f"{_NAMES[tone]}{octave - 1}"


class FramesBatch(NamedTuple):
    """`B` pieces of different lengths; each frame is to be told from those before it, the first one is given.

    frames: `[B, T, K]` float32, 1 where a key sounds, 0 behind a piece's end. lengths: `[B]` int64, at least 2.
    """

    frames: "Tensor"
    lengths: "Tensor"


@dataclass(frozen=True)
class PolyphonySpec(Spec):
    """keys: K; pieces, frames: how many each split has, of frames those that are scored."""

    kind: ClassVar[str] = "polyphony"
    sizes: ClassVar[tuple[str, ...]] = ("keys",)

    keys: int
    pieces: dict[str, int]
    frames: dict[str, int]
