"""Features equal their definition, written out: the DFT as a sum, triangles on the mel scale, the DCT as a sum."""

import math

import numpy as np
import pytest
import torch

from gatelab.data import DataError
from gatelab.data.audio.features import FLOOR, Features

RATE = 8000
SOUND = np.random.default_rng(0).standard_normal(700) * np.repeat([1.0, 0.01, 0.3], [300, 250, 150])


def by_definition(samples, features: Features) -> np.ndarray:
    window, hop = round(features.window * RATE / 1000), round(features.hop * RATE / 1000)
    points = 1
    while points < window:
        points *= 2
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / (window - 1)) for n in range(window)]
    high = features.high or RATE / 2

    def mel(hertz):
        return 1127 * math.log(1 + hertz / 700)

    step = (mel(high) - mel(features.low)) / (features.mels + 1)
    n = np.arange(window)
    every = []
    for start in range(0, len(samples) - window + 1, hop):
        frame = samples[start : start + window] * hann
        power = [
            abs(np.sum(frame * np.exp(-2j * np.pi * k * n / points))) ** 2 for k in range(points // 2 + 1)
        ]
        energies = []
        for band in range(features.mels):
            left = mel(features.low) + band * step
            weights = [1 - abs(mel(k * RATE / points) - left - step) / step for k in range(points // 2 + 1)]
            energies.append(sum(max(0.0, w) * p for w, p in zip(weights, power, strict=True)))
        every.append(energies)
    limit = 0.0 if features.top_db is None else max(map(max, every)) / 10 ** (features.top_db / 10)
    logs = [[math.log(max(energy, FLOOR, limit)) for energy in energies] for energies in every]
    return np.array(logs if features.kind == "log_mel" else [dct(row)[: features.cepstra] for row in logs])


def dct(values) -> list[float]:
    count = len(values)
    return [
        math.sqrt((1 if k == 0 else 2) / count)
        * sum(v * math.cos(math.pi / count * (i + 0.5) * k) for i, v in enumerate(values))
        for k in range(count)
    ]


@pytest.mark.parametrize(
    "features",
    [
        Features(mels=20),
        Features(mels=20, top_db=25.0),
        Features("mfcc", window=20, hop=7, mels=18, low=60, high=3800, cepstra=10),
        Features("mfcc", mels=18, top_db=30.0),
    ],
)
def test_features_equal_their_definition(features):
    expected = by_definition(SOUND, features)
    found = features(torch.from_numpy(SOUND), RATE)
    assert found.shape == expected.shape == (features.count(len(SOUND), RATE), features.channels)
    assert np.abs(found.numpy() - expected).max() < 1e-9
    single = features(torch.from_numpy(SOUND.astype(np.float32)), RATE)
    assert np.abs(single.numpy() - expected).max() < 1e-3


def test_features_equal_those_of_kaldi():
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = RATE, 0.0
    options.frame_opts.preemph_coeff, options.frame_opts.remove_dc_offset = 0.0, False
    options.frame_opts.window_type, options.mel_opts.num_bins = "hanning", 20
    options.mel_opts.low_freq = 20
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(RATE, SOUND.tolist())
    fbank.input_finished()
    theirs = np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])
    ours = Features(mels=20)(torch.from_numpy(SOUND.astype(np.float32)), RATE)
    assert np.abs(ours.numpy() - theirs).max() < 1e-3


def test_a_batch_of_sounds_gives_what_each_gives():
    features = Features(mels=20)
    sounds = torch.from_numpy(SOUND).reshape(2, -1)
    assert torch.allclose(features(sounds, RATE)[1], features(sounds[1], RATE), atol=1e-9)


def test_a_sound_shorter_than_a_window_has_one_frame():
    features = Features(mels=20)
    short = torch.from_numpy(SOUND[:50])
    assert features.count(50, RATE) == 1
    filled = torch.cat((short, torch.zeros(150, dtype=torch.float64)))
    assert torch.equal(features(short, RATE), features(filled, RATE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "fft"}, "data.features=fft"),
        ({"hop": 30}, "data.window=25, data.hop=30"),
        ({"window": 1e7}, r"data.window=1e\+07, data.hop=10: give 0 < hop <= window <= 10000, in ms"),
        ({"mels": 1}, "data.mels=1"),
        ({"cepstra": 41}, "data.cepstra=41"),
        ({"low": 5000, "high": 4000}, "data.low=5000"),
        ({"high": 7600}, "sounds of 8000 Hz hold up to 4000 Hz"),
        ({"mels": 120}, "data.mels=120: .* bands lie between two points"),
        ({"mels": 10**8}, "data.mels=100000000: a window of 200 samples"),
        ({"hop": 0.01}, "fewer than one sample at 8000 Hz"),
    ],
)
def test_options_that_make_no_features_are_named(options, message):
    with pytest.raises(DataError, match=message):
        Features(**options)(torch.zeros(400), RATE)


def test_the_limit_of_range_is_each_sounds_own():
    features = Features(mels=20, top_db=20.0)
    sounds = torch.from_numpy(np.stack([SOUND, 0.1 * SOUND]))
    both = features(sounds, RATE)
    for one, sound in zip(both, sounds, strict=True):
        torch.testing.assert_close(one, features(sound, RATE))
        assert float(one.max() - one.min()) == pytest.approx(20 * math.log(10) / 10)
    assert float(Features(mels=20)(sounds[0], RATE).min()) < float(both[0].min()) - 1


@pytest.mark.parametrize("top_db", [0.0, -3.0, math.nan])
def test_a_limit_of_range_that_is_none_is_refused(top_db):
    with pytest.raises(DataError, match=r"data\.top_db=.*more than 0, in dB"):
        Features(top_db=top_db)
