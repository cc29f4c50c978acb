"""Reads one sound file: PCM in WAV by the standard library, anything else (FLAC, Ogg, float WAV) by `soundfile`.

Dimensions: `S` samples, one channel.
"""

import importlib
import io
import wave
from typing import Any, Final, NamedTuple

import numpy as np

from gatelab.data.file_kinds import SOUND, kind_of
from gatelab.data.messages import DataError

ENDINGS: Final = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")
"""What a sound file's name ends in; all but the first need `soundfile`."""


class Sound(NamedTuple):
    """samples: `[S]` float32 in [-1, 1); rate: samples a second."""

    samples: np.ndarray
    rate: int


def read_sound(raw: bytes, name: str, channels: str = "error") -> Sound:
    """Return the sound in the bytes of a file.

    name: of the file, for messages; one that is called .wav is read as nothing else. channels: of a file with several,
    "mix" takes their mean and "first" the first; "error" refuses it.

    Raises:
        DataError: the file is damaged, cut short, empty, needs `soundfile`, or has several channels.
    """
    if (kind := kind_of(raw[:100])) is not None and kind.what != SOUND:
        raise DataError(f"{name}: is {kind.what} and no sound; get the file itself, or leave it out")
    wav = raw[:4] == b"RIFF" or ".wav" in name.lower()
    samples, rate = _pcm(raw, name) if wav else _by_soundfile(raw, name)
    count = samples.shape[1]
    if count > 1 and channels == "error":
        raise DataError(
            f"{name}: has {count} channels; give data.channels=mix or first, or files with one channel"
        )
    if not len(samples):
        raise DataError(f"{name}: holds no sound (0 samples); remove it")
    one = samples.mean(1) if channels == "mix" else samples[:, 0]
    if not np.isfinite(one).all():
        raise DataError(f"{name}: holds samples that are not numbers; make it anew")
    return Sound(one.astype(np.float32), rate)


def _pcm(raw: bytes, name: str) -> tuple[np.ndarray, int]:
    """The samples `[S, channels]` of PCM with 8 (unsigned), 16, 24 or 32 bits, and the rate."""
    try:
        with wave.open(io.BytesIO(raw)) as file:
            count, width, channels, rate = (
                file.getnframes(),
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
            )
            data = file.readframes(count)
    except (wave.Error, EOFError, RuntimeError) as error:
        if "unknown format" in str(error):
            return _by_soundfile(raw, name)
        raise DataError(
            f"{name}: not a WAV file, or a damaged one ({str(error) or 'it ends too early'}); copy it anew"
        ) from None
    if not (1 <= width <= 4 and channels >= 1 and rate >= 1):
        raise DataError(f"{name}: a damaged WAV file ({8 * width} bits, {channels} channels, {rate} Hz)")
    if (found := len(data) // (width * channels)) < count:
        raise DataError(
            f"{name}: is cut off: its header says {count:,} samples, it holds {found:,}; copy it anew"
        )
    # the bytes are the highest ones of 32 bits, so that every width has one scale
    wide = np.zeros((found * channels, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    if width == 1:
        wide[:, 3] ^= 0x80  # 8 bits are unsigned
    return wide.view("<i4").reshape(found, channels) / np.float32(1 << 31), rate


def _by_soundfile(raw: bytes, name: str) -> tuple[np.ndarray, int]:
    try:
        soundfile: Any = importlib.import_module("soundfile")
    except ImportError:
        raise DataError(
            f"{name}: is not PCM in WAV; pip install 'gatelab[audio]' reads other kinds, or convert it to 16-bit WAV"
        ) from None
    try:
        samples, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    except Exception as error:  # its errors are of several classes
        raise DataError(f"{name}: cannot be read ({error})") from None
    return samples, int(rate)


HIGHEST_RATE = 384_000
"""Hz that sounds are brought to, the most that converters take."""


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return `samples [S]` at another rate, by its spectrum: what both rates can hold is kept as it was."""
    count = max(1, round(len(samples) * wanted / rate))
    if count == len(samples):
        return samples
    return (np.fft.irfft(np.fft.rfft(samples), count) * (count / len(samples))).astype(np.float32)
