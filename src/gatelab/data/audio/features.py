"""Features of a sound: a spectrum every few milliseconds, its energy in mel bands, their logarithm, or its cosines.

    frames          x_t[n] = x[t hop + n] w[n],  0 <= n < window      (w: Hann, 0.5 - 0.5 cos(2 pi n / (window - 1)))
    power           P_t[k] = |sum_n x_t[n] exp(-2 pi i k n / N)|^2    (N: the next power of 2 at or above the window)
    mel             m(f) = 1127 ln(1 + f / 700);  E_t[b] = sum_k W[b, k] P_t[k], triangles of equal width in m
    log_mel         ln max(E_t[b], FLOOR); with `top_db` ln max(E_t[b], FLOOR, 10^(-top_db / 10) max_{t,b} E_t[b])
    mfcc            orthonormal DCT-II of log_mel over b, the first `cepstra` of them (Davis and Mermelstein 1980)

These are the conventions of Kaldi without dither, pre-emphasis and removal of the mean: a frame where a whole window
fits, none at the edges.

Dimensions: `S` samples, `T` frames, `C` channels of a frame, `M` mel bands, `N` points of the transform.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.data.messages import DataError

FLOOR: Final = 1e-6
"""Least energy of a band: 60 dB or more below speech, a little above what rounding to 16 bits leaves of silence."""
LONGEST_WINDOW: Final = 10_000
"""Milliseconds: four hundred times what speech has; a longer one could take more memory than there is."""


@dataclass(frozen=True)
class Features:
    """What a frame is; `features(samples, rate)` gives the frames of a sound.

    kind: "log_mel" or "mfcc". window, hop: milliseconds. mels: bands between `low` and `high` Hz (high None: half of
    the rate). cepstra: of "mfcc", how many are kept. top_db: energies lower than so many decibels below a sound's
    highest are raised to that; None: as they are. (So do librosa and Whisper; it hides how quiet the background is.)
    """

    kind: Literal["log_mel", "mfcc"] = "log_mel"
    window: float = 25.0
    hop: float = 10.0
    mels: int = 40
    low: float = 20.0
    high: float | None = None
    cepstra: int = 13
    top_db: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("log_mel", "mfcc"):
            raise DataError(f"data.features={self.kind}: give log_mel or mfcc")
        if not 0 < self.hop <= self.window <= LONGEST_WINDOW:
            raise DataError(
                f"data.window={self.window:g}, data.hop={self.hop:g}: give 0 < hop <= window <= {LONGEST_WINDOW}, in ms"
            )
        if self.mels < 2 or not 1 <= self.cepstra <= self.mels:
            raise DataError(
                f"data.mels={self.mels}, data.cepstra={self.cepstra}: give at least 2 bands, and 1 to that many cepstra"
            )
        if not 0 <= self.low < (self.high or math.inf):
            raise DataError(f"data.low={self.low:g}, data.high={self.high}: give 0 <= low < high, in Hz")
        if self.top_db is not None and not self.top_db > 0:
            raise DataError(f"data.top_db={self.top_db:g}: give more than 0, in dB, or null: no limit")

    @property
    def channels(self) -> int:
        """C, the numbers of a frame."""
        return self.mels if self.kind == "log_mel" else self.cepstra

    def sizes(self, rate: int) -> tuple[int, int]:
        """The samples of a window and of a hop at a rate.

        Raises `DataError` where a hop is less than one sample, or some of the bands must be empty.
        """
        window, hop = round(self.window * rate / 1000), round(self.hop * rate / 1000)
        if hop < 1 or window < 2:
            raise DataError(
                f"data.window={self.window:g}, data.hop={self.hop:g} ms are fewer than one sample at {rate} Hz"
            )
        if self.mels > 2 * window:  # a point lies in two triangles at most
            raise DataError(
                f"data.mels={self.mels}: a window of {window} samples tells no more than {2 * window} bands apart"
            )
        return window, hop

    def count(self, samples: int, rate: int) -> int:
        """T of a sound of so many samples, at least 1: one that is shorter than a window is filled up with silence."""
        window, hop = self.sizes(rate)
        return 1 + max(0, samples - window) // hop

    def points(self, rate: int) -> int:
        """N, the points of the transform at a rate."""
        return 1 << (self.sizes(rate)[0] - 1).bit_length()

    def bands(self, rate: int) -> Tensor:
        """W `[N/2 + 1, M]` at a rate; see `mel_matrix` for what it raises."""
        return mel_matrix(self.mels, self.points(rate), rate, self.low, self.high)

    def __call__(self, samples: Tensor, rate: int, bands: Tensor | None = None) -> Tensor:
        """Return the frames `[T, C]` of `samples [S]`, or `[B, T, C]` of `[B, S]`.

        bands: another W `[N/2 + 1, M]`, of augmentation; None: that of the equations.
        """
        window, hop = self.sizes(rate)
        points = self.points(rate)
        # torch.stft puts the window in the middle of N points: with this padding it begins at sample t hop
        left = (points - window) // 2
        missing = max(0, window - samples.shape[-1])
        padded = F.pad(samples, (left, points - window - left + missing))
        hann = _window(window).to(samples)
        spectrum = torch.stft(padded, points, hop, window, hann, center=False, return_complex=True)
        power = (spectrum.real.square() + spectrum.imag.square()).mT
        energy = power @ (self.bands(rate) if bands is None else bands).to(samples)
        if self.top_db is not None:
            energy = energy.maximum(energy.amax((-2, -1), keepdim=True) * 10 ** (-self.top_db / 10))
        log_mel = energy.clamp(min=FLOOR).log()
        return log_mel if self.kind == "log_mel" else log_mel @ cosines(self.mels, self.cepstra).to(samples)


@cache
def _window(length: int) -> Tensor:
    return torch.hann_window(length, periodic=False, dtype=torch.float64)


@cache
def mel_matrix(mels: int, points: int, rate: int, low: float, high: float | None) -> Tensor:
    """Return W `[N/2 + 1, M]` float64: the triangles, each from its left neighbour's centre to its right one's.

    Raises `DataError` where `high` is more than half of the rate, or a band holds no point of the transform.
    """
    high = rate / 2 if high is None else high
    if high > rate / 2 or high <= low:
        raise DataError(
            f"data.low={low:g}, data.high={high:g}: sounds of {rate} Hz hold up to {rate / 2:g} Hz"
        )
    matrix = triangles(torch.arange(points // 2 + 1, dtype=torch.float64) * (rate / points), mels, low, high)
    if (empty := int((matrix.sum(0) == 0).sum())) > 0:
        raise DataError(
            f"data.mels={mels}: {empty} bands lie between two points of the transform ({rate / points:g} Hz apart); "
            "give fewer bands or a longer data.window"
        )
    return matrix


def triangles(frequency: Tensor, mels: int, low: float, high: float) -> Tensor:
    """Return W `[n, M]` float64 of points at `frequency [n]` Hz float64, for `mels` bands from `low` to `high` Hz."""
    ends = torch.tensor([low, high], dtype=torch.float64)
    mel, (first, last) = (1127.0 * torch.log1p(hertz / 700.0) for hertz in (frequency, ends))
    edges = torch.linspace(float(first), float(last), mels + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel[:, None] - left) / (centre - left)
    falling = (right - mel[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


@cache
def cosines(mels: int, cepstra: int) -> Tensor:
    """Return the orthonormal DCT-II `[M, cepstra]` float64."""
    band = torch.arange(mels, dtype=torch.float64)[:, None] + 0.5
    matrix = torch.cos(math.pi / mels * band * torch.arange(cepstra, dtype=torch.float64))
    matrix *= math.sqrt(2.0 / mels)
    matrix[:, 0] *= math.sqrt(0.5)
    return matrix
