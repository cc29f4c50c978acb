"""FSDD from the mirror: its official split, one speaker left out, connected digits of speakers apart."""

from itertools import pairwise

import pytest
import torch

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


def test_a_speaker_may_validate_and_trains_not(mirror):
    data = SoundDataModule(
        "fsdd", leave_out="theo", valid_speaker="lucas", normalize="none", mirror=str(mirror)
    )
    found = {split: {name.split("_")[1] for name in of_it} for split, of_it in names(data).items()}
    assert found == {"train": set(SPEAKERS) - {"theo", "lucas"}, "valid": {"lucas"}, "test": {"theo"}}
    assert data.spec.examples == {"train": 2000, "valid": 500, "test": 500}
    official = SoundDataModule("fsdd", valid_speaker="lucas", normalize="none", mirror=str(mirror))
    official.setup()
    assert official.spec.examples == {"train": 2250, "valid": 450, "test": 300}


def takes_of(data, examples):
    recordings = data.corpus.recordings
    at = dict(zip(recordings.edges[:-1], recordings.names, strict=True))
    return [[at[piece.start] for piece in example.pieces[:-1]] for example in examples]


def test_connected_digits_may_be_validated_with_takes_of_the_training_speakers(mirror):
    sizes = {"train_utterances": 60, "eval_utterances": 30, "level": "word", "normalize": "none"}
    data = SpeechDataModule(valid_speaker=None, **sizes, mirror=str(mirror))
    data.setup()
    takes = {
        split: [name.removesuffix(".wav").split("_") for names in takes_of(data, of_it) for name in names]
        for split, of_it in data.corpus.examples.items()
    }
    assert {int(take) for _, _, take in takes["valid"]} == set(range(5))
    assert min(int(take) for _, _, take in takes["train"]) == 5
    assert min(int(take) for _, _, take in takes["test"]) < 5
    trained = set(SPEAKERS) - {"yweweler"}
    for split, speakers in (("train", trained), ("valid", trained), ("test", {"yweweler"})):
        assert {speaker for _, speaker, _ in takes[split]} == speakers


@pytest.mark.ci
def test_redrawn_utterances_depend_on_seed_epoch_and_number_alone(mirror):
    sizes = {"train_utterances": 40, "eval_utterances": 4, "level": "word", "normalize": "none"}

    def epoch(number, skip=0, **options):
        data = SpeechDataModule(
            **{**sizes, "redraw": True, "mirror": str(mirror), "batch_size": 8, **options}
        )
        data.setup()
        data.first_epoch, data.skip_batches = number, skip
        return list(data.train_dataloader())

    def same(some, others):
        return len(some) == len(others) and all(
            all(map(torch.equal, a, b)) for a, b in zip(some, others, strict=True)
        )

    whole = epoch(2)
    assert same(whole, epoch(2))
    assert same(whole[3:], epoch(2, skip=3))  # a run that goes on inside an epoch sees the same
    assert same(whole, epoch(2, num_workers=1))
    for other in (epoch(1), epoch(2, seed=1), epoch(2, redraw=False)):
        assert not same(whole, other)


def test_a_redrawn_utterance_keeps_its_speaker_and_its_number_of_digits(mirror):
    sizes = {"train_utterances": 40, "eval_utterances": 4, "level": "word", "normalize": "none"}
    data = SpeechDataModule(**sizes, redraw=True, mirror=str(mirror))
    data.setup()
    first, anew = data.corpus.examples["train"], data.corpus.redrawn
    assert anew is not None
    texts = set()
    for number, example in enumerate(first):
        for epoch in range(3):
            other = anew.example(0, epoch, number)
            assert (other.name, len(other.pieces)) == (example.name, len(example.pieces))
            speakers = {take.split("_")[1] for take in takes_of(data, [other])[0]}
            assert speakers == {example.name.split(" of ")[1]}
            said = [WORDS[int(take.split("_")[0])] for take in takes_of(data, [other])[0]]
            assert other.text == " ".join(said)
            texts.add(other.text)
    assert len(texts) > 100  # of 120
    # what could be drawn is never tighter than what the stride is checked with
    shortest = min(example.samples / (2 * 7 - 1) for example in anew.tightest())
    for epoch in range(3):
        for number in range(40):
            other = anew.example(0, epoch, number)
            words = other.text.split()
            needed = len(words) + sum(a == b for a, b in pairwise(words))
            assert other.samples / needed >= shortest
    fixed = SpeechDataModule(**sizes, mirror=str(mirror))
    fixed.setup()
    assert data.spec.most_stride <= fixed.spec.most_stride


def test_a_speaker_that_there_is_not_is_named(mirror):
    with pytest.raises(DataError, match=r"data.leave_out=teo: give one of .*Did you mean 'theo'"):
        SoundDataModule("fsdd", leave_out="teo", mirror=str(mirror)).setup()
    with pytest.raises(DataError, match=r"data.valid_speaker=theo: is the test speaker as well"):
        SoundDataModule("fsdd", leave_out="theo", valid_speaker="theo", mirror=str(mirror)).setup()
    with pytest.raises(DataError, match=r"data.valid_speaker=lucs: give one of .*Did you mean 'lucas'"):
        SoundDataModule("fsdd", valid_speaker="lucs", mirror=str(mirror)).setup()
    with pytest.raises(DataError, match=r"data.valid_speaker=theo: is the test speaker as well"):
        SpeechDataModule(test_speaker="theo", mirror=str(mirror)).setup()
