"""Augmentation does what it says, and what it draws depends on the draw alone."""

import numpy as np
import pytest
import torch

from gatelab.data import DataError
from gatelab.data.audio.augment import KNEE, Augmentation, faster, shifted, warped
from gatelab.data.audio.features import Features, triangles

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


@pytest.mark.parametrize("factor", [0.8, 0.95, 1.0, 1.1, 1.3])
@pytest.mark.parametrize("top", [4000.0, 8000.0])
def test_frequencies_are_warped_as_the_paper_says(factor, top):
    """Jaitly and Hinton 2013, equation 1, point by point in plain Python."""
    knee = KNEE * top

    def by_hand(f):
        if f <= knee * min(factor, 1) / factor:
            return f * factor
        edge = knee * min(factor, 1)
        return top - (top - edge) / (top - edge / factor) * (top - f)

    frequency = torch.linspace(0, top, 41, dtype=torch.float64)
    found = warped(frequency, factor, top)
    assert found.tolist() == pytest.approx([by_hand(f) for f in frequency.tolist()], abs=1e-9)
    assert float(found[-1]) == pytest.approx(top)  # nothing leaves the spectrum
    assert bool((found.diff() > 0).all())  # and nothing is folded


def test_vtlp_moves_the_peak_of_a_tone_and_not_its_length():
    """A tone of 1000 Hz lies in the bands of a 1200 Hz, and of 800 Hz, in as many frames."""
    features, augmentation = Features(mels=30), Augmentation(vtlp=0.2)

    class Ends:
        def __init__(self, end):
            self.end = end

        def uniform(self, low, high):
            return (low, high)[self.end]

    for end, hertz in ((0, 800), (1, 1200)):
        bands = augmentation.bands(features, RATE, Ends(end))
        found, plain = features(sine(1000, 4000), RATE, bands), features(sine(hertz, 4000), RATE)
        assert found.shape == plain.shape
        assert abs(int(found.mean(0).argmax()) - int(plain.mean(0).argmax())) <= 1


def test_a_filter_is_a_line_of_decibels_between_its_bands():
    features, augmentation = Features(mels=24), Augmentation(filter=6.0)
    kinks = set()
    for seed in range(60):
        bands = augmentation.bands(features, RATE, draw(seed))
        ratio = bands.sum(0) / features.bands(RATE).sum(0)
        decibels = 10 * ratio.log10()
        assert decibels.abs().max() <= 6.0 + 1e-9
        kinks.add(int((decibels.diff().diff().abs() > 1e-9).sum()))
        # every point of a band is multiplied by the same, so a frame's log energy moves by a constant
        sound = torch.randn(4000, generator=torch.Generator().manual_seed(seed))
        moved = features(sound, RATE, bands) - features(sound, RATE)
        assert torch.allclose(moved, ratio.log().float().expand_as(moved), atol=1e-4)
    assert kinks == {1, 2, 3, 4}  # inner ends of two to five bands


def test_a_filter_has_a_gain_at_every_band_where_there_are_few():
    for seed in range(20):
        bands = Augmentation(filter=6.0).bands(Features(mels=2, cepstra=2), RATE, draw(seed))
        assert bands.shape == (129, 2)


def test_warped_bands_are_those_of_the_warped_points():
    features = Features(mels=24, low=100, high=3800)
    stream = draw(5)
    factor = draw(5).uniform(0.9, 1.1)
    points = torch.arange(129, dtype=torch.float64) * (RATE / 256)
    expected = triangles(warped(points, factor, RATE / 2), 24, 100, 3800)
    assert torch.equal(Augmentation(vtlp=0.1).bands(features, RATE, stream), expected)
    assert torch.equal(triangles(warped(points, 1.0, RATE / 2), 24, 100, 3800), features.bands(RATE))


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
    assert Augmentation().bands(Features(), RATE, draw()) is None


@pytest.mark.parametrize(
    "options",
    [
        *({"speed": 0.9}, {"noise": 2}, {"snr": (9, 3)}, {"time_mask": -1}, {"time_masks": 10**8}),
        *({"vtlp": 0.6}, {"vtlp": -0.1}, {"vtlp": float("nan")}, {"filter": -1.0}, {"filter": 61.0}),
    ],
)
def test_options_out_of_range_are_named(options):
    with pytest.raises(DataError, match=f"data.{next(iter(options))}="):
        Augmentation(**options)
