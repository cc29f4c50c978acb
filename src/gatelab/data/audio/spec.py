"""What a DataModule of transcribed speech publishes, and its batches.

Dimensions: `B` batch, `T` frames, `C` channels of a frame, `U` symbols of a transcript.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from gatelab.data.specs import Spec

if TYPE_CHECKING:  # a spec is read where torch is not loaded
    from torch import Tensor

Level = Literal["char", "word"]


class SpeechBatch(NamedTuple):
    """`B` utterances of different lengths, each with its transcript.

    frames: `[B, T, C]` float32; what lies behind an utterance's end is 0 and read by nothing.
    lengths: `[B]` int64, the frames of each, at least 1.
    targets: `[B, U]` int64, outputs 1..V of the transcripts' symbols, filled up with 0.
    target_lengths: `[B]` int64, the symbols of each.
    """

    frames: "Tensor"
    lengths: "Tensor"
    targets: "Tensor"
    target_lengths: "Tensor"


@dataclass(frozen=True)
class SpeechSpec(Spec):
    """Utterances to be written down.

    symbols: the `V` characters or words of the training transcripts; output 0 of a network is the blank of CTC, and
        symbol i is output i + 1.
    level: "char" or "word": what a symbol is.
    channels: of a frame. rate: samples a second.
    mean, std: of every channel over the training frames, where all utterances are normalised by them; else empty.
    utterances: of each split.
    most_stride: how many frames a network may read at once so that every transcript still fits into what it gives
        (CTC needs an output for each symbol, and one between two equal ones); tightest: the utterance that decides it.
    """

    kind: ClassVar[str] = "recognition"
    sizes: ClassVar[tuple[str, ...]] = ("symbols", "channels")

    symbols: tuple[str, ...]
    level: str
    channels: int
    rate: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    utterances: dict[str, int]
    most_stride: int
    tightest: str

    def text(self, outputs: list[int]) -> str:
        """The transcript that outputs 1..V stand for."""
        return (" " if self.level == "word" else "").join(self.symbols[output - 1] for output in outputs)
