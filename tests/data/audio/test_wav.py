"""A sound file is read to the last bit, or refused with its name."""

import struct

import numpy as np
import pytest

from gatelab.data import DataError
from gatelab.data.audio.wav import read_sound, resample

SAMPLES = np.array([0.0, 0.25, -0.5, 0.75, -1.0, 1 - 1 / 128])


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_of_pcm_gives_the_samples(width, write_wav):
    path = write_wav("a.wav", SAMPLES, width=width)
    sound = read_sound(path.read_bytes(), path.name)
    assert sound.rate == 8000
    assert sound.samples.dtype == np.float32
    assert np.array_equal(sound.samples, SAMPLES.astype(np.float32))


def test_several_channels_are_refused_mixed_or_the_first_taken(write_wav):
    raw = write_wav("stereo.wav", np.stack([SAMPLES, SAMPLES[::-1]], 1)).read_bytes()
    with pytest.raises(DataError, match=r"stereo.wav: has 2 channels; give data.channels=mix or first"):
        read_sound(raw, "stereo.wav")
    assert np.allclose(read_sound(raw, "a.wav", "mix").samples, (SAMPLES + SAMPLES[::-1]) / 2)
    assert np.array_equal(read_sound(raw, "a.wav", "first").samples, SAMPLES.astype(np.float32))


def test_a_damaged_file_is_named(write_wav):
    raw = write_wav("a.wav", SAMPLES).read_bytes()
    with pytest.raises(DataError, match=r"x.wav: is cut off: its header says 6 samples, it holds 4"):
        read_sound(raw[:-4], "x.wav")
    for broken in (*(raw[:length] for length in range(44)), b"not a sound at all" * 9):
        with pytest.raises(
            DataError, match=r"x.wav: not a WAV file, or a damaged one \(\w.+\); copy it anew"
        ):
            read_sound(broken, "x.wav")
    with pytest.raises(DataError, match=r"x.wav: holds no sound"):
        read_sound(write_wav("none.wav", SAMPLES[:0]).read_bytes(), "x.wav")


def test_what_is_not_pcm_asks_for_the_extra(write_wav, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    raw = bytearray(write_wav("a.wav", SAMPLES, width=4).read_bytes())
    raw[20:22] = struct.pack("<H", 3)  # floats
    for name, content in (("a.wav", bytes(raw)), ("a.flac", b"fLaC")):
        with pytest.raises(DataError, match=rf"{name}: is not PCM in WAV; pip install 'gatelab\[audio\]'"):
            read_sound(content, name)


def test_resampling_keeps_a_tone():
    def sine(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)

    assert np.abs(resample(sine(8000), 8000, 16000) - sine(16000)).max() < 1e-4
    assert np.abs(resample(sine(16000), 16000, 8000) - sine(8000)).max() < 1e-4
    assert resample(sine(8000), 8000, 8000) is not None
