"""Sounds normalised by their speaker: over all that a split has of each, and over nobody else's."""

import numpy as np
import pytest
import torch

from gatelab.data import DataError, FetchError, SoundDataModule, SpeechDataModule
from gatelab.data.audio.frames import SMALLEST
from gatelab.tasks.speech.streaming import StreamingRecognizer

from .conftest import tone

LOUD = {"ann": 1.0, "ben": 0.3, "cem": 0.1, "dan": 0.6}


@pytest.fixture
def spoken(write_wav, tmp_path):
    """Eight tones of four speakers, each as loud as it is: a manifest with `speaker` and, if given, `split`."""

    def write(split=True, speaker=True, changed=""):
        draw = np.random.default_rng(0)
        lines = ["path,label" + ",speaker" * speaker + ",split" * split]
        for name, loud in LOUD.items():
            for number in range(8):
                sound = tone(400 + 800 * (number % 2), 0.1 + 0.02 * number)
                sound = loud * (sound + 0.05 * draw.standard_normal(len(sound)))
                write_wav(f"clips/{name}{number}.wav", sound[::-1] / 2 if name == changed else sound)
                where = {"cem": "valid", "dan": "test"}.get(name, "train")
                cells = [f"clips/{name}{number}.wav", ["low", "high"][number % 2]]
                lines.append(",".join([*cells, *[name] * speaker, *[where] * split]))
        path = tmp_path / "spoken.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def sounds(path, **options):
    given = {"mels": 20, "batch_size": 4, "normalize": "speaker", **options}
    data = SoundDataModule("files", str(path), **given)
    data.setup()
    return data


def frames_of(data, split):
    """The frames of each sound of a split, by its name."""
    loaded = [row[:n] for b in data.dataloader(split) for row, n in zip(b.inputs, b.lengths, strict=True)]
    return dict(zip([example.name for example in data.corpus.examples[split]], loaded, strict=True))


def test_a_speakers_frames_have_mean_0_and_deviation_1_in_each_split(spoken):
    data = sounds(spoken())
    for split in ("valid", "test"):
        every = torch.cat(list(frames_of(data, split).values()))
        torch.testing.assert_close(every.mean(0), torch.zeros(20), rtol=0, atol=1e-4)
        torch.testing.assert_close(every.std(0, correction=0), torch.ones(20), rtol=0, atol=1e-3)
    scales = data._speakers(data.corpus, "train")
    assert set(scales) == {"ann", "ben"}
    louder = np.array(scales["ann"].mean) - np.array(scales["ben"].mean)
    assert louder == pytest.approx(2 * np.log(1 / 0.3), abs=0.3)  # features are logarithms of power
    assert min(scales["ann"].std) >= SMALLEST


def test_nobody_elses_sounds_and_no_label_have_a_part_in_it(spoken):
    before = frames_of(sounds(spoken()), "valid")
    path = spoken(changed="ann")
    after = frames_of(sounds(path), "valid")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    path.write_text(
        path.read_text().replace(",low,", ",X,").replace(",high,", ",low,").replace(",X,", ",high,")
    )
    swapped = frames_of(sounds(path), "valid")
    assert all(torch.equal(before[name], swapped[name]) for name in before)
    changed = frames_of(sounds(spoken(changed="cem")), "valid")
    assert not all(torch.equal(before[name], changed[name]) for name in before)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.quick(1, rest="ci")
def test_an_epoch_that_goes_on_sees_the_same(redraw):
    options = {
        "train_utterances": 24,
        "eval_utterances": 2,
        "level": "word",
        "batch_size": 4,
        "redraw": redraw,
    }

    def epoch(skip=0):
        data = SpeechDataModule(
            "connected_digits", normalize="speaker", speed=0.1, vtlp=0.1, noise=0.5, seed=3, **options
        )
        try:
            data.setup()
        except FetchError:
            pytest.skip("FSDD is not at hand")
        data.first_epoch, data.skip_batches = 2, skip
        return list(data.train_dataloader())

    whole, resumed = epoch(), epoch(4)
    assert len(resumed) == 2
    for a, b in zip(whole[4:], resumed, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_new_sounds_of_a_speaker_are_read_as_a_split_of_them_is(spoken, tmp_path):
    data = sounds(spoken(), eval_batch_size=3)
    new = tmp_path / "new.csv"
    rows = [f"clips/{name}{number}.wav,{name}" for number in range(8) for name in ("cem", "dan")]
    new.write_text("\n".join(["path,speaker", *rows]) + "\n")
    named, batches = data.new_examples(new, data.spec)
    read = [row[:n] for b in batches for row, n in zip(b.inputs, b.lengths, strict=True)]
    known = {**frames_of(data, "valid"), **frames_of(data, "test")}
    by_file = {name.split("(")[1].rstrip(")"): frames for name, frames in known.items()}
    assert len(read) == len(by_file) == 16
    for path, frames in zip(named["path"], read, strict=True):
        torch.testing.assert_close(frames, by_file["clips/" + path.split("/")[-1]], rtol=0, atol=1e-5)


def test_who_speaks_must_be_known(spoken, folder, tmp_path):
    with pytest.raises(
        DataError, match=r"data.normalize=speaker: nothing says who speaks in .*column `speaker`"
    ):
        sounds(spoken(speaker=False))
    with pytest.raises(DataError, match="nothing says who speaks in high/"):
        sounds(folder)
    data = sounds(spoken())
    for new in (tmp_path / "clips", tmp_path / "clips/ann0.wav"):
        with pytest.raises(
            DataError, match=r"the run normalises by speaker .* with the columns path,speaker"
        ):
            data.new_examples(new, data.spec)


def test_it_cannot_stream():
    class Task:
        net = type("Net", (), {"streams": True})
        spec = None

    with pytest.raises(ValueError, match=r"data.top_db needs a sound's loudest moment.*top_db=null"):
        StreamingRecognizer(Task(), SpeechDataModule("connected_digits", top_db=50))
    reader = SpeechDataModule("connected_digits", normalize="speaker")
    with pytest.raises(
        ValueError, match=r"data.normalize=speaker needs all sounds of a speaker.*normalize=global"
    ):
        StreamingRecognizer(Task(), reader)
