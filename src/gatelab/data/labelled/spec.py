"""What a DataModule of labelled sequences publishes, and its batches.

Dimensions: `B` batch, `T` time, `C` channels.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from gatelab.data.specs import Spec

if TYPE_CHECKING:  # a spec is read where torch is not loaded
    from torch import Tensor

Inputs = Literal["tokens", "channels"]
"""What the inputs of a batch are."""


class LabelledBatch(NamedTuple):
    """`B` sequences of different lengths, each with its class.

    inputs: `[B, T]` int64 token ids, or `[B, T, C]` float32 channels; what lies behind a sequence's end is 0 and
        read by nothing.
    lengths: `[B]` int64, the steps of each, at least 1.
    labels: `[B]` int64, the places of their classes in the spec.
    """

    inputs: "Tensor"
    lengths: "Tensor"
    labels: "Tensor"


@dataclass(frozen=True)
class LabelledSpec(Spec):
    """Sequences to be told apart.

    classes: their names; a label is a place among them.
    vocabulary: of token ids, `0..vocabulary-1`; 0 where the inputs are channels.
    channels: how many the inputs have; 0 where they are token ids.
    examples: of each split.
    names: of the channels, where they have some; mean, std: by which value = scaled * std + mean, of each channel, or
        one for all; empty where the inputs are as the data has them.
    rate: of sounds, samples a second; 0 elsewhere.
    """

    kind: ClassVar[str] = "classification"
    sizes: ClassVar[tuple[str, ...]] = ("classes", "vocabulary", "channels")

    classes: tuple[str, ...]
    vocabulary: int
    channels: int
    examples: dict[str, int]
    names: tuple[str, ...] = field(default_factory=tuple)
    mean: tuple[float, ...] = field(default_factory=tuple)
    std: tuple[float, ...] = field(default_factory=tuple)
    rate: int = field(default_factory=int)
