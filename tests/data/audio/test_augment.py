"""Augmentation does what it says, and what it draws depends on the draw alone."""

import numpy as np
import pytest
import torch

from gatelab.data import DataError
from gatelab.data.audio.augment import Augmentation, faster, shifted

RATE = 8000
NOTHING = np.zeros(0, np.float32)


def draw(seed=0):
    return np.random.default_rng(seed)


def sine(hertz, samples):
    return torch.sin(2 * torch.pi * hertz * torch.arange(samples) / RATE)


def test_a_faster_sound_is_shorter_and_higher():
    sound = faster(sine(400, 8000), 1.25)
    assert len(sound) == 6400
    assert int(torch.fft.rfft(sound).abs().argmax()) == round(500 * 6400 / RATE)


def test_a_shifted_sound_keeps_its_length_and_lets_silence_in():
    sound = torch.arange(1.0, 6.0)
    assert shifted(sound, 2).tolist() == [0, 0, 1, 2, 3]
    assert shifted(sound, -2).tolist() == [3, 4, 5, 0, 0]
    assert shifted(sound, 9).tolist() == shifted(sound, -9).tolist() == [0] * 5


@pytest.mark.parametrize("background", [NOTHING, draw(1).standard_normal(9000).astype(np.float32)])
def test_noise_has_the_ratio_that_was_asked_for(background):
    sound = sine(400, 8000)
    noisy = Augmentation(noise=1.0, snr=(10.0, 10.0)).sound(sound, RATE, draw(), background)
    ratio = sound.square().mean() / (noisy - sound).square().mean()
    assert 10 * float(ratio.log10()) == pytest.approx(10.0, abs=1e-3)


def test_masks_are_as_many_and_as_wide_as_allowed():
    augmentation = Augmentation(time_masks=1, time_mask=5, frequency_masks=2, frequency_mask=3)
    widest = [0, 0]
    for seed in range(50):
        frames = torch.ones(40, 20)
        masked = augmentation.frames(frames, draw(seed)) == 0
        assert bool((frames == 1).all())  # the frames themselves stay as they are
        rows, columns = int(masked.all(1).sum()), int(masked.all(0).sum())
        widest = [max(widest[0], rows), max(widest[1], columns)]
        assert rows <= 5
        assert columns <= 6
    assert widest == [5, 6]


def test_what_is_drawn_depends_on_the_draw_alone():
    augmentation = Augmentation(0.1, 20, 0.5, time_masks=2, time_mask=5)

    def made(seed):
        stream = draw(seed)
        sound = augmentation.sound(sine(400, 4000), RATE, stream, NOTHING)
        return augmentation.frames(sound[: len(sound) // 40 * 40].reshape(-1, 40), stream)

    assert torch.equal(made(3), made(3))
    assert made(3).shape != made(4).shape or not torch.equal(made(3), made(4))


def test_nothing_is_changed_unless_asked_for():
    sound, frames = sine(400, 800), torch.ones(5, 4)
    assert torch.equal(Augmentation().sound(sound, RATE, draw(), NOTHING), sound)
    assert torch.equal(Augmentation().frames(frames, draw()), frames)


@pytest.mark.parametrize(
    "options", [{"speed": 0.9}, {"noise": 2}, {"snr": (9, 3)}, {"time_mask": -1}, {"time_masks": 10**8}]
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(DataError, match=f"data.{next(iter(options))}"):
        Augmentation(**options)
