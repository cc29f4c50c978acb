"""FSDD from the mirror: its official split, one speaker left out, connected digits of speakers apart."""

import pytest

from gatelab.data import DataError, SoundDataModule, SpeechDataModule
from gatelab.data.audio.fsdd import SPEAKERS, WORDS


def names(data):
    data.setup()
    return {split: [example.name for example in found] for split, found in data.corpus.examples.items()}


def test_the_official_split_and_one_speaker_left_out(mirror):
    official = names(SoundDataModule("fsdd", normalize="none", mirror=str(mirror)))
    assert {split: len(found) for split, found in official.items()} == {
        "train": 2400,
        "valid": 300,
        "test": 300,
    }
    assert {int(name.split("_")[2].split(".")[0]) for name in official["test"]} == set(range(5))
    data = SoundDataModule("fsdd", leave_out="theo", normalize="none", mirror=str(mirror))
    left = names(data)
    assert {split: len(found) for split, found in left.items()} == {"train": 2250, "valid": 250, "test": 500}
    assert {name.split("_")[1] for name in left["test"]} == {"theo"}
    assert "theo" not in {name.split("_")[1] for name in left["train"] + left["valid"]}
    assert data.baselines("test")["majority_class"]["accuracy"] == pytest.approx(0.1)
    batch = next(iter(data.dataloader("test")))
    assert batch.labels.tolist() == [int(name[0]) for name in left["test"][:100]]


def test_connected_digits_are_of_speakers_apart_and_of_a_seed(mirror):
    sizes = {
        "train_utterances": 40,
        "eval_utterances": 10,
        "level": "word",
        "normalize": "none",
        "mirror": str(mirror),
    }
    data = SpeechDataModule(**sizes)
    found = names(data)
    speakers = {split: {name.split(" of ")[1] for name in of_it} for split, of_it in found.items()}
    assert speakers["valid"] == {"theo"}
    assert speakers["test"] == {"yweweler"}
    assert speakers["train"] == set(SPEAKERS) - {"theo", "yweweler"}
    assert data.spec.symbols == WORDS
    example = data.corpus.examples["test"][0]
    assert len(example.pieces) == len(example.text.split()) + 1
    sound = data.corpus.recordings.sound(example.pieces)
    assert len(sound) == example.samples
    first = example.pieces[0]
    assert not sound[: first.before].any()
    assert sound[first.before : first.before + first.stop - first.start].any()
    again, other = SpeechDataModule(**sizes), SpeechDataModule(**sizes, data_seed=1)
    names(again), names(other)
    assert again.corpus.examples == data.corpus.examples != other.corpus.examples


def test_a_speaker_that_there_is_not_is_named(mirror):
    with pytest.raises(DataError, match=r"data.leave_out=teo: give one of .*Did you mean 'theo'"):
        SoundDataModule("fsdd", leave_out="teo", mirror=str(mirror)).setup()
    with pytest.raises(DataError, match=r"data.valid_speaker=theo: is the test speaker as well"):
        SpeechDataModule(test_speaker="theo", mirror=str(mirror)).setup()
