"""Changes of a training sound, drawn anew in every epoch; what is drawn depends on (seed, epoch, example) alone.

    speed       the sound read faster or slower, by linear interpolation: tempo, pitch and formants move together
                (Ko et al. 2015, "Audio augmentation for speech recognition")
    shift       the sound later or earlier, silence coming in (Warden 2018, arXiv:1804.03209)
    noise       white noise, or a piece of the data's own background recordings, at a drawn signal-to-noise ratio
                (Hannun et al. 2014, arXiv:1412.5567)
    vtlp        vocal tract length perturbation: the axis of frequency stretched or pressed together under the mel
                bands, as a shorter or longer vocal tract does, while tempo and pitch stay (Jaitly and Hinton 2013,
                "Vocal tract length perturbation improves speech recognition", equation 1). F the knee, S half the rate:
                    G(f) = f a                                          f <= F min(a, 1) / a
                    G(f) = S - (S - F min(a, 1)) / (S - F min(a, 1) / a) (S - f)    above
    filter      another microphone and room: gains in dB, drawn at the ends of two to five bands and between them along
                lines (FilterAugment, linear; Nam, Kim and Park 2022, arXiv:2110.03282)
    masks       SpecAugment: some bands of channels and some stretches of time are set to the mean, which is 0 after
                normalisation (Park et al. 2019, arXiv:1904.08779; without its warping of time)

Dimensions: `S` samples, `T` frames, `C` channels, `M` mel bands, `N` points of the transform.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.data.audio.features import Features, triangles
from gatelab.data.messages import DataError

KNEE: Final = 0.85
"""Of vocal tract length perturbation, as a share of half the rate: 4,800 Hz of 16 kHz, rounded for other rates."""
BANDS: Final = (2, 5)
"""Least and most bands of a filter; a gain is drawn at each of their ends."""
MOST_GAIN: Final = 60.0
"""Of a filter, in dB: more than the range of speech."""
MOST_MASKS: Final = 1000
"""Of a sound along one axis; SpecAugment takes two."""


@dataclass(frozen=True)
class Augmentation:
    """How much a training sound is changed; all of it is off by default.

    speed: the factor is drawn from 1 - speed to 1 + speed. shift: at most so many milliseconds, either way. noise: the
    share of sounds that get noise; snr: its signal-to-noise ratio, drawn between the two, in dB.
    time_masks, time_mask: how many stretches of at most how many frames (and at most half of the sound).
    frequency_masks, frequency_mask: the same of channels.
    vtlp: the factor of frequency is drawn from 1 - vtlp to 1 + vtlp. filter: gains are drawn from -filter to filter,
    in dB.
    """

    speed: float = 0.0
    shift: float = 0.0
    noise: float = 0.0
    snr: tuple[float, float] = (5.0, 30.0)
    time_masks: int = 0
    time_mask: int = 0
    frequency_masks: int = 0
    frequency_mask: int = 0
    vtlp: float = 0.0
    filter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= 0.5 or not 0 <= self.noise <= 1:
            raise DataError(
                f"data.speed={self.speed}, data.noise={self.noise}: give speed 0 to 0.5, noise 0 to 1"
            )
        if not 0 <= self.vtlp <= 0.5 or not 0 <= self.filter <= MOST_GAIN:
            raise DataError(
                f"data.vtlp={self.vtlp}, data.filter={self.filter}: give vtlp 0 to 0.5, filter 0 to {MOST_GAIN:g} dB"
            )
        if len(self.snr) != 2 or self.snr[0] > self.snr[1]:
            raise DataError(f"data.snr={list(self.snr)}: give [lowest, highest] in dB")
        for field in fields(self):
            if field.name != "snr" and getattr(self, field.name) < 0:
                raise DataError(f"data.{field.name}={getattr(self, field.name)}: give 0 or more")
            if field.name.endswith("masks") and getattr(self, field.name) > MOST_MASKS:
                raise DataError(f"data.{field.name}={getattr(self, field.name)}: give at most {MOST_MASKS}")

    @property
    def fastest(self) -> float:
        """The largest factor of speed: a sound may become shorter by it."""
        return 1.0 + self.speed

    def sound(self, samples: Tensor, rate: int, draw: np.random.Generator, background: np.ndarray) -> Tensor:
        """Return `samples [S]` changed; `background [n]`: recordings of noise, or nothing, which is white noise."""
        if self.speed:
            samples = faster(samples, draw.uniform(1 - self.speed, 1 + self.speed))
        if self.shift:
            samples = shifted(samples, round(draw.uniform(-self.shift, self.shift) * rate / 1000))
        if self.noise and draw.random() < self.noise:
            samples = samples + self._noise(samples, draw, background)
        return samples

    def _noise(self, samples: Tensor, draw: np.random.Generator, background: np.ndarray) -> Tensor:
        count = len(samples)
        if len(background) > count:
            start = int(draw.integers(len(background) - count))
            noise = torch.from_numpy(background[start : start + count].astype(np.float32))
        else:
            noise = torch.from_numpy(draw.standard_normal(count, dtype=np.float32))
        power = samples.square().mean() / 10 ** (draw.uniform(*self.snr) / 10)
        return noise * (power / noise.square().mean().clamp(min=1e-12)).sqrt()

    def bands(self, features: Features, rate: int, draw: np.random.Generator) -> Tensor | None:
        """Return the mel matrix `[N/2 + 1, M]` of a changed sound, or None where it stays as it is."""
        bands = None
        if self.vtlp:
            points, top = features.points(rate), rate / 2
            frequency = torch.arange(points // 2 + 1, dtype=torch.float64) * (rate / points)
            frequency = warped(frequency, draw.uniform(1 - self.vtlp, 1 + self.vtlp), top)
            high = top if features.high is None else features.high
            bands = triangles(frequency, features.mels, features.low, high)
        if self.filter:
            bands = features.bands(rate) if bands is None else bands
            bands = bands * self._gains(features.mels, draw)
        return bands

    def _gains(self, mels: int, draw: np.random.Generator) -> Tensor:
        """What a filter multiplies the energy of each band by `[M]`."""
        inner = 1 + draw.permutation(mels - 2)[: int(draw.integers(BANDS[0], BANDS[1] + 1)) - 1]
        places = np.sort(np.concatenate([[0, mels - 1], inner]))
        decibels = np.interp(np.arange(mels), places, draw.uniform(-self.filter, self.filter, len(places)))
        return torch.from_numpy(10 ** (decibels / 10))

    def frames(self, frames: Tensor, draw: np.random.Generator) -> Tensor:
        """Return normalised `frames [T, C]` with masks."""
        steps, channels = frames.shape
        stretches = [(0, steps, min(self.time_mask, steps // 2))] * self.time_masks
        stretches += [(1, channels, min(self.frequency_mask, channels // 2))] * self.frequency_masks
        if stretches:
            frames = frames.clone()
        for axis, size, most in stretches:
            width = int(draw.integers(most + 1))
            frames.narrow(axis, int(draw.integers(size - width + 1)), width).zero_()
        return frames


def faster(samples: Tensor, factor: float) -> Tensor:
    """Return `samples [S]` read `factor` times as fast: `[S / factor]`, at least one sample."""
    count = max(1, round(len(samples) / factor))
    return F.interpolate(samples[None, None], count, mode="linear", align_corners=False)[0, 0]


def warped(frequency: Tensor, factor: float, top: float) -> Tensor:
    """Return G of the module's docstring `[n]`, for `frequency [n]` and a = `factor`; `top` is S, in Hz."""
    lower = KNEE * top * min(factor, 1.0)
    slope = (top - lower) / (top - lower / factor)
    return torch.where(frequency <= lower / factor, frequency * factor, top - slope * (top - frequency))


def shifted(samples: Tensor, by: int) -> Tensor:
    """Return `samples [S]` later by `by` samples (earlier if negative), as long as before, filled up with silence."""
    by = max(-len(samples), min(len(samples), by))
    return F.pad(samples[: len(samples) - by], (by, 0)) if by >= 0 else F.pad(samples[-by:], (0, -by))
