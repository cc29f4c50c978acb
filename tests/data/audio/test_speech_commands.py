"""Speech Commands, on a small imitation of its archive; the rule of its split on names that were published."""

import io
import tarfile

import numpy as np
import pytest

from gatelab.data import SoundDataModule
from gatelab.data.audio.speech_commands import COMMANDS, speech_commands, split_of
from gatelab.data.fetch import SOURCES, Source, sha256_of

from .conftest import tone

PUBLISHED = {
    # the first speakers of the lists in the archive: testing_list.txt, validation_list.txt
    "test": ("bb05582b", "97f4c236", "f2e59fea", "fdb5155e", "dc75148d", "3f170018", "18f8afd5", "e1469561"),
    "valid": ("a69b9b3e", "439c84f4", "409c962a", "dbaf8fc6", "a6d586b7", "0e17f595", "ff2b842e", "7fd25f7c"),
}
SOUND = 0.1


@pytest.mark.parametrize("split", PUBLISHED)
def test_the_split_is_the_published_one(split):
    for speaker in PUBLISHED[split]:
        assert {split_of(f"right/{speaker}_nohash_{take}.wav") for take in range(5)} == {split}


def test_most_speakers_train():
    shares = [split_of(f"yes/{speaker:08x}_nohash_0.wav") for speaker in range(2000)]
    assert [round(shares.count(split) / 2000, 1) for split in ("train", "valid", "test")] == [0.8, 0.1, 0.1]


@pytest.fixture
def archive(write_wav, tmp_path):
    """Two speakers of each published split and four of training say each of ten commands and three other words."""
    path = tmp_path / "speech_commands" / "speech_commands_v0.02.tar.gz"
    path.parent.mkdir()
    raw = write_wav("word.wav", tone(440, SOUND, 16000), rate=16000).read_bytes()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 30000)
    background = write_wav("noise.wav", noise, rate=16000).read_bytes()
    speakers = [
        *PUBLISHED["test"][:2],
        *PUBLISHED["valid"][:2],
        "00000001",
        "00000003",
        "00000004",
        "00000005",
    ]
    with tarfile.open(path, "w:gz") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for word in (*COMMANDS, "bed", "cat", "dog"):
            for speaker in speakers:
                add(f"{word}/{speaker}_nohash_0.wav", raw)
        add("_background_noise_/hum.wav", background)
        add("validation_list.txt", b"not a sound")
    return path


def test_twelve_classes_with_unknown_and_silence(archive, tmp_path):
    source = Source("http://nowhere", sha256_of(archive))
    corpus = speech_commands(12, 0, str(tmp_path), str(tmp_path / "cache"), source)
    assert corpus.classes == ("silence", "unknown", *COMMANDS)
    assert {split: len(found) for split, found in corpus.examples.items()} == {
        "train": 40 + 4 + 4,
        "valid": 20 + 2 + 2,
        "test": 20 + 2 + 2,
    }
    for split, found in corpus.examples.items():
        assert {split_of(e.name) for e in found if e.text in COMMANDS} == {split}
        assert all(e.name.split("/")[-2] in ("bed", "cat", "dog") for e in found if e.text == "unknown")
        silence = [corpus.recordings.sound(e.pieces) for e in found if e.text == "silence"]
        assert all(len(sound) == 16000 and 0 < float(sound.abs().max()) <= 0.5 for sound in silence)
    again = speech_commands(12, 0, str(tmp_path), str(tmp_path / "cache"), source)
    assert again.examples == corpus.examples
    assert speech_commands(12, 1, str(tmp_path), str(tmp_path / "cache"), source).examples != corpus.examples
    assert [len(corpus.recordings.sound((piece,))) for piece in corpus.background] == [30000]


def test_all_words_as_classes_and_batches(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(
        SOURCES, "speech_commands/speech_commands_v0.02.tar.gz", Source("http://nowhere", sha256_of(archive))
    )
    places = {"mirror": str(tmp_path), "cache": str(tmp_path / "cache")}
    data = SoundDataModule("speech_commands", classes=35, noise=1.0, features="mfcc", high=7600, **places)
    data.setup()
    assert data.spec.classes == tuple(sorted((*COMMANDS, "bed", "cat", "dog")))
    assert data.spec.examples == {"train": 52, "valid": 26, "test": 26}
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (32, 1 + (1600 - 400) // 160, 13)
