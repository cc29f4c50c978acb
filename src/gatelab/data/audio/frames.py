"""From the examples of a corpus to frames: cut out, augmented, turned into features, normalised, masked.

Dimensions: `B` batch, `T` frames, `C` channels.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.audio.augment import Augmentation
from gatelab.data.audio.features import Features
from gatelab.data.audio.recordings import Anew, Example, Recordings

Normalization = Literal["utterance", "speaker", "global", "none"]
SMALLEST = 0.1
"""Least standard deviation of a channel that is divided by: one that hardly moves is not blown up."""


class Scale(NamedTuple):
    """Mean and standard deviation of every channel `[C]` over many sounds."""

    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def of(self, frames: Tensor) -> Tensor:
        """Frames `[T, C]` with mean 0 and standard deviation 1, where they are like those sounds'."""
        return (frames - torch.tensor(self.mean)) / torch.tensor(self.std)


@dataclass(frozen=True)
class Frames:
    """How a sound becomes frames `[T, C]`.

    normalize: each channel to mean 0 and standard deviation 1 over the utterance; over the sounds of its speaker
    ("speaker"); over all training frames ("global", by `scale`); or not. seed: of the augmentation. background:
    recordings of noise.
    """

    features: Features
    augmentation: Augmentation
    rate: int
    normalize: Normalization
    seed: int = 0
    scale: Scale = field(default_factory=Scale)
    background: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def of(self, sound: Tensor, speaker: Scale | None = None) -> Tensor:
        """The frames of a sound `[S]` as it is; speaker: of the sounds of whoever speaks, for normalize="speaker"."""
        return self.normalized(self.features(sound, self.rate), speaker)

    def changed(self, sound: Tensor, epoch: int, number: int, speaker: Scale | None = None) -> Tensor:
        """The frames of training example `number` in an epoch, changed as (seed, epoch, number) decides."""
        draw = np.random.Generator(np.random.PCG64([self.seed, epoch, number]))
        sound = self.augmentation.sound(sound, self.rate, draw, self.background)
        bands = self.augmentation.bands(self.features, self.rate, draw)
        frames = self.normalized(self.features(sound, self.rate, bands), speaker)
        return self.augmentation.frames(frames, draw)

    def normalized(self, frames: Tensor, speaker: Scale | None = None) -> Tensor:
        """Return frames `[T, C]` normalised."""
        if self.normalize == "none":
            return frames
        if self.normalize == "utterance":
            return (frames - frames.mean(0)) / frames.std(0, correction=0).clamp(min=SMALLEST)
        if self.normalize == "global":
            return self.scale.of(frames)
        assert speaker is not None
        return speaker.of(frames)


def scale_of(frames: Iterator[Tensor]) -> Scale:
    """Mean and standard deviation of every channel over frames `[T, C]` of many sounds, summed in float64."""
    count, sums = 0, torch.zeros(2, 1, dtype=torch.float64)
    for each in frames:
        wide = each.double()
        count += len(wide)
        sums = sums + torch.stack((wide.sum(0), wide.square().sum(0)))
    mean = sums[0] / count
    std = (sums[1] / count - mean.square()).clamp(min=0).sqrt()
    return Scale(mean.tolist(), std.clamp(min=SMALLEST).tolist())


def padded(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames of different lengths as `[B, T, C]`, filled up with 0, and their lengths `[B]`."""
    lengths = torch.tensor([len(each) for each in frames])
    return torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True), lengths


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, as the workers of a loader do: products round otherwise with more of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Sounds(Dataset):
    """The examples of a split as batches. It is asked with item numbers, or with an epoch and item numbers.

    A batch is the same in every process and with any number of threads.

    speakers: of normalize="speaker", the scale of each. redrawn: what the examples are instead in an epoch.
    """

    def __init__(
        self,
        recordings: Recordings,
        examples: list[Example],
        frames: Frames,
        batch: Callable[[list[Tensor], list[Example]], Any],
        speakers: Mapping[str, Scale],
        redrawn: Anew | None = None,
    ) -> None:
        self.recordings, self.examples, self.frames, self.batch = recordings, examples, frames, batch
        self.speakers, self.redrawn = speakers, redrawn

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        epoch, numbers = index if isinstance(index, tuple) else (None, index)
        if epoch is None or self.redrawn is None:
            examples = [self.examples[number] for number in numbers]
        else:
            seed = self.frames.seed
            examples = [self.redrawn.example(seed, epoch, int(number)) for number in numbers]
        with one_thread():
            frames = []
            for number, example in zip(numbers, examples, strict=True):
                sound, speaker = self.recordings.sound(example.pieces), self.speakers.get(example.speaker)
                if epoch is None:
                    frames.append(self.frames.of(sound, speaker))
                else:
                    frames.append(self.frames.changed(sound, epoch, int(number), speaker))
        return self.batch(frames, examples)
