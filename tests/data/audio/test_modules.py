"""The DataModules of sounds: batches, augmentation that resumes exactly, splits, and what is wrong with own files."""

import pytest
import torch

from gatelab.data import DataError, SoundDataModule, SpeechDataModule
from gatelab.data.audio.wav import read_sound

from .conftest import tone

CHANGES = {"speed": 0.1, "shift": 10.0, "noise": 0.5, "time_masks": 1, "time_mask": 3, "frequency_masks": 1}


def sounds(path, **options):
    data = SoundDataModule("files", str(path), **{"mels": 20, "batch_size": 4, **options})
    data.prepare_data()
    data.setup()
    return data


def speech(path, **options):
    data = SpeechDataModule("files", str(path), **{"mels": 20, "batch_size": 4, **options})
    data.setup()
    return data


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_folder_gives_classes_splits_and_batches(folder):
    data = sounds(folder, normalize="utterance")
    assert data.spec.classes == ("high", "low")
    assert data.spec.examples == {"train": 20, "valid": 2, "test": 2}
    assert (data.spec.channels, data.spec.vocabulary, data.spec.rate) == (20, 0, 8000)
    batch = next(iter(data.dataloader("valid")))
    assert batch.inputs.shape == (2, int(batch.lengths.max()), 20)
    assert sorted(batch.labels.tolist()) == [0, 1]
    for row, length in zip(batch.inputs, batch.lengths, strict=True):
        assert bool((row[length:] == 0).all())
        assert row[:length].mean(0).abs().max() < 1e-4  # normalised over the utterance alone
        alone = data.frames.of(data.corpus.recordings.sound(data.corpus.examples["valid"][0].pieces))
    assert torch.allclose(batch.inputs[0, : batch.lengths[0]], alone, atol=1e-5)


def test_every_split_has_a_part_of_every_class_and_the_draw_is_seeded(folder):
    def names(**options):
        corpus = sounds(folder, **options).corpus
        return {split: [example.name for example in found] for split, found in corpus.examples.items()}

    first = names(split=[0.5, 0.25, 0.25])
    assert {split: sum(name.startswith("low") for name in found) for split, found in first.items()} == {
        "train": 6,
        "valid": 3,
        "test": 3,
    }
    assert first == names(split=[0.5, 0.25, 0.25]) != names(split=[0.5, 0.25, 0.25], data_seed=1)
    assert set(names(split=[0.75, 0.25])) == {"train", "valid"}


def test_augmentation_depends_on_seed_epoch_and_example_alone(folder):
    def epoch(number, skip=0, **options):
        data = sounds(
            folder, **{"seed": 3, "frequency_mask": 3, "vtlp": 0.1, "filter": 6.0, **CHANGES, **options}
        )
        data.first_epoch, data.skip_batches = number, skip
        return list(data.train_dataloader())

    whole = epoch(2)
    resumed = epoch(2, skip=3)
    assert len(whole) == 5
    assert len(resumed) == 2
    assert all(same(a, b) for a, b in zip(whole[3:], resumed, strict=True))
    frames = {tuple(sorted(batch.lengths.tolist())) for batch in (whole[0], epoch(1)[0], epoch(2, seed=4)[0])}
    assert len(frames) == 3
    plain = sounds(folder, **CHANGES).dataloader("valid")
    assert same(
        next(iter(plain)), next(iter(sounds(folder).dataloader("valid")))
    )  # training alone is changed


def test_a_batch_does_not_depend_on_the_number_of_threads(folder):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            data = sounds(folder, normalize="utterance", vtlp=0.1, filter=6.0, **CHANGES)
            found.append([*data.train_dataloader(), *data.dataloader("valid")])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(same(a, b) for a, b in zip(found[0], other, strict=True))


def test_workers_draw_the_same(folder):
    one, two = (sounds(folder, **CHANGES, num_workers=n).train_dataloader() for n in (0, 1))
    two.sampler.set_epoch(0)
    for _ in range(2):
        assert all(same(a, b) for a, b in zip(one, two, strict=True))
        one.sampler.set_epoch(1)
        two.sampler.set_epoch(1)


def test_global_normalisation_is_that_of_the_training_frames(folder):
    data = sounds(folder, normalize="global")
    rows = [pair for b in data.train_dataloader() for pair in zip(b.inputs, b.lengths, strict=True)]
    frames = torch.cat([row[:n] for row, n in rows])
    assert frames.mean(0).abs().max() < 1e-4
    assert (frames.std(0, correction=0) - 1).abs().max() < 1e-3
    assert len(data.spec.mean) == 20


def test_folds_share_out_the_examples_of_train_and_valid(folder):
    seen = []
    for fold in range(2):
        data = sounds(folder, folds=2, fold=fold)
        assert data.spec.examples == {"train": 11, "valid": 11, "test": 2}
        seen += [example.name for example in data.corpus.examples["valid"]]
    assert len(set(seen)) == 22


def test_folds_keep_speakers_whole_where_the_splits_do(manifest):
    speakers = "speaker=" + "/".join("uvwxy"[n % 5] for n in range(20))
    path, heard = manifest(["ab"] * 20, speakers), []
    for fold in range(3):
        data = speech(path, split=[0.6, 0.2, 0.2], folds=3, fold=fold)
        who = {split: {e.speaker for e in found} for split, found in data.corpus.examples.items()}
        assert not who["train"] & who["valid"]
        assert "whole speakers" in data.notes[-1]
        heard += who["valid"]
    assert len(heard) == len(set(heard)) == 4
    with pytest.raises(DataError, match=r"data.folds=5: there are only 4 speakers; give fewer folds"):
        speech(path, split=[0.6, 0.2, 0.2], folds=5, fold=0)


@pytest.mark.parametrize("options", [{"valid_speaker": None}, {"redraw": True}])
def test_folds_whose_digits_would_be_in_several_are_refused(options):
    with pytest.raises(DataError, match=r"a recording would be in several; give data.valid_speaker=NAME"):
        SpeechDataModule(folds=4, fold=0, **options)


def test_the_commonest_class_is_the_baseline(folder, write_wav):
    for number in range(12, 24):
        write_wav(f"tones/low/{number}.wav", tone(500))
    scores = sounds(folder, split=[0.5, 0.25, 0.25]).baselines("test")["majority_class"]
    assert scores["accuracy"] == pytest.approx(6 / 9)
    assert scores["macro_f1"] == pytest.approx((2 * 6 / (9 + 6)) / 2)


def test_connected_letters_are_read_from_a_manifest(manifest):
    texts = ["ab", "ba", "aab", "b a", "abab", "a", "b", "bb", "ab a", "aa"]
    data = speech(manifest(texts))
    assert data.spec.symbols == (" ", "a", "b")
    batch = next(iter(data.train_dataloader()))
    rows = zip(batch.targets.tolist(), batch.target_lengths.tolist(), strict=True)
    assert {data.spec.text(row[:n]) for row, n in rows} <= set(texts)
    assert data.spec.most_stride == 38 // 3  # "aa" and "bb" need three of their 38 frames
    assert data.spec.tightest in ("manifest.csv, line 9 (clips/7.wav)", "manifest.csv, line 11 (clips/9.wav)")
    words = speech(manifest(["one two", "two one", "one one", "two two", "two", "one"] * 2), level="word")
    assert words.spec.symbols == ("one", "two")
    assert words.spec.text([2, 1]) == "two one"


def test_speakers_are_not_in_two_splits(manifest):
    data = speech(manifest(["ab"] * 12, "speaker=" + "/".join("uvw"[n % 3] for n in range(12))))
    examples = data.corpus.examples.values()
    speakers = [{int(e.name.split("line ")[1].split()[0]) % 3 for e in found} for found in examples]
    assert sorted(map(tuple, speakers)) == [(0,), (1,), (2,)]


def test_an_unknown_character_is_named_with_its_row(manifest):
    splits = "split=" + "/".join(["train"] * 3 + ["valid"] * 3)
    with pytest.raises(
        DataError, match=r"line 6 \(clips/4.wav\): its transcript has 'x', which no transcript of the tr"
    ):
        speech(manifest(["ab", "ba", "aa", "ab", "ax", "b"], splits))


def test_a_transcript_too_long_for_its_frames_is_named(manifest, write_wav):
    path = manifest(["ab"] * 6, "split=" + "/".join(["train"] * 3 + ["valid"] * 3))
    write_wav("clips/1.wav", tone(500, 0.03))
    with pytest.raises(
        DataError, match=r"line 3 \(clips/1.wav\): its transcript needs 2 frames and the sound has 1"
    ):
        speech(path)


def test_a_manifest_that_does_not_fit_is_refused(manifest, tmp_path):
    for texts, more, message in (
        (["ab", ""], (), r"manifest.csv, line 3 \(clips/1.wav\): its transcript is empty"),
        (["ab", "a"], ("split=train/vali",), r"line 3 .*: split 'vali'; .*Did you mean 'valid'"),
        (["ab", "a"], (), r"only 2 examples .* each of train, valid, test needs one"),
        (
            ["ab", "a"],
            ("split=train/train",),
            r"no sound is in the split valid; say valid of some in the column `split`",
        ),
    ):
        with pytest.raises(DataError, match=message):
            speech(manifest(texts, *more) if "" not in texts else _with_empty(manifest(["ab", "b"])))
    path = manifest(["ab", "a"])
    with pytest.raises(DataError, match=r"has no column label .*; take data=transcribed"):
        sounds(path)
    path.write_text("path,transcript\nclips/9.wav,ab\n")
    with pytest.raises(DataError, match=r"line 2 \(clips/9.wav\): there is no such file"):
        speech(path)
    with pytest.raises(DataError, match=r"transcripts stand in a manifest"):
        speech(tmp_path / "clips")
    with pytest.raises(DataError, match=r"no such folder"):
        sounds(tmp_path / "nowhere")


def _with_empty(path):
    path.write_text(path.read_text().replace(",b\n", ",\n"))
    return path


def test_a_rate_that_differs_is_refused_or_brought_to_one(folder, write_wav):
    write_wav("tones/low/3.wav", tone(400, 0.2, 16000), rate=16000)
    with pytest.raises(
        DataError, match=r"low/3.wav: has 16,000 Hz, high/0.wav has 8,000 Hz; data.rate=8000 brings"
    ):
        sounds(folder)
    data = sounds(folder, rate=8000)
    for rate in (0, -1, 10**8):
        with pytest.raises(DataError, match=f"data.rate={rate}: give 1 to 384000 Hz"):
            sounds(folder, rate=rate)
    place = data.corpus.recordings.names.index("low/3.wav")
    piece = data.corpus.recordings.piece(place)
    assert piece.stop - piece.start == 1600


def test_a_class_with_too_few_examples_is_named(folder, write_wav):
    write_wav("tones/one/0.wav", tone(500))
    with pytest.raises(
        DataError, match=r"one/0.wav: only 1 example of 'one', and each of train, valid, test"
    ):
        sounds(folder)


def test_a_class_that_training_lacks_is_named(manifest):
    path = manifest(["a", "b", "c", "a"], "split=train/train/valid/valid", column="label")
    with pytest.raises(DataError, match=r"line 4 .*: the class 'c' is in the split valid and not in train"):
        sounds(path)


def test_a_class_that_training_lacks_is_named_where_training_has_one_class(manifest):
    path = manifest(["a", "a", "b"], "split=train/train/valid", column="label")
    with pytest.raises(DataError, match=r"line 4 .*: the class 'b' is in the split valid and not in train"):
        sounds(path)


def test_files_of_a_folder_that_are_no_sounds_are_told(folder):
    (folder / "third").mkdir()
    for number in range(4):
        (folder / f"third/{number}.m4a").write_bytes(b"ftyp")
    (note,) = [note for note in sounds(folder).notes if "left out" in note]
    assert note.startswith("4 files ")
    assert note.endswith("third/0.m4a, third/1.m4a, third/2.m4a and 1 more")


def test_a_sound_that_stands_in_two_rows_is_read_once_and_told(manifest):
    path = manifest(["a", "b"] * 5, column="label")
    once = sounds(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[2], *lines[4:], lines[1]]) + "\n")
    twice = sounds(path)
    assert twice.spec == once.spec
    (note,) = [note for note in twice.notes if "dropped" in note]
    assert note.startswith("2 rows that repeat another one exactly were dropped")
    assert "line 5 (clips/1.wav)" in note


def test_a_short_sound_is_told_and_a_damaged_one_refused(folder, write_wav):
    write_wav("tones/low/3.wav", tone(400, 0.01))
    data = sounds(folder)
    assert data.notes[-1] == "1 sound shorter than a window of 25 ms, filled up with silence: low/3.wav"
    raw = (folder / "low/4.wav").read_bytes()
    (folder / "low/4.wav").write_bytes(raw[:-10])
    with pytest.raises(DataError, match=r"low/4.wav: is cut off"):
        sounds(folder)


def test_new_sounds_are_read_as_their_own_and_another_rate_is_refused(folder, write_wav, tmp_path):
    data = sounds(folder, eval_batch_size=2)
    named, batches = data.new_examples(folder / "low", data.spec)
    assert len(named["path"]) == 12
    frames = [row[:n] for b in batches for row, n in zip(b.inputs, b.lengths, strict=True)]
    sound = read_sound((folder / "low/0.wav").read_bytes(), "0.wav")
    assert torch.allclose(frames[0], data.frames.of(torch.from_numpy(sound.samples)), atol=1e-6)
    other = write_wav("new.wav", tone(400), rate=16000)
    with pytest.raises(
        DataError, match=r"new.wav: has 16,000 Hz, the sounds .* have 8,000 Hz; bring it to that rate"
    ):
        list(data.new_examples(other, data.spec)[1])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (SoundDataModule, {"normalize": "all"}, "data.normalize=all"),
        (SoundDataModule, {"split": [0.5, 0.2]}, "data.split"),
        (SoundDataModule, {"speed": 0.7}, "data.speed=0.7"),
        (SpeechDataModule, {"train_utterances": 0}, "data.train_utterances=0"),
    ],
)
def test_an_option_out_of_range_is_named(kind, options, message):
    with pytest.raises(DataError, match=message):
        kind(**options)
