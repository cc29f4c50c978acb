"""Speech Commands, version 2: 105,829 recordings of 35 words, one second at 16 kHz (Warden 2018, arXiv:1804.03209).

http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz, CC BY 4.0. The split is the published rule: the hash
of the speaker's part of a file's name decides, so that no speaker is in two splits and none moves when recordings are
added. With 12 classes they are ten commands, `unknown` (a tenth as many recordings as there are of commands, drawn from
the other 25 words) and `silence` (as many, of one second from the background recordings, at a drawn volume).
"""

import hashlib
import math
from typing import Final

import numpy as np

from gatelab.data.audio.recordings import Corpus, Example, Piece, Recordings, read_recordings, tar_files
from gatelab.data.fetch import Source, fetch
from gatelab.data.specs import SPLITS

ARCHIVE: Final = "speech_commands/speech_commands_v0.02.tar.gz"
COMMANDS: Final = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE, UNKNOWN = "silence", "unknown"
BACKGROUND: Final = "_background_noise_"
VALID_PERCENT, TEST_PERCENT = 10.0, 10.0
SHARE: Final = 0.1
"""Of `unknown` and `silence`, relative to the recordings of the ten commands in the split."""
MOST: Final = 2**27 - 1
"""Recordings of a class that the published rule has room for."""


def speaker_of(name: str) -> str:
    """The speaker of a recording called WORD/SPEAKER_nohash_N.wav."""
    return name.split("/")[-1].split("_nohash_")[0].removesuffix(".wav")


def split_of(name: str) -> str:
    """The split of a recording called WORD/SPEAKER_nohash_N.wav, by the published rule."""
    speaker = speaker_of(name)
    number = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percent = number % (MOST + 1) * (100.0 / MOST)
    if percent < VALID_PERCENT:
        return "valid"
    return "test" if percent < VALID_PERCENT + TEST_PERCENT else "train"


def speech_commands(
    classes: int, seed: int, mirror: str | None, cache: str | None, source: Source | None = None
) -> Corpus:
    """The corpus with 12 or 35 classes; `seed` draws silence and unknown. source: None: the published archive."""
    fetched = fetch(ARCHIVE, mirror=mirror, cache=cache, source=source)
    recordings = read_recordings(
        lambda: {"source": fetch(ARCHIVE, mirror=mirror, cache=cache, source=source).sha256},
        lambda: tar_files(fetched.path),
        dtype=np.int16,
        cache=cache,
    )
    words: dict[str, list[tuple[str, Example]]] = {}
    background = []
    for number, name in enumerate(recordings.names):
        word = name.split("/")[-2]
        if word == BACKGROUND:
            background.append(recordings.piece(number))
        else:
            example = Example(name, (recordings.piece(number),), word, speaker_of(name))
            words.setdefault(word, []).append((split_of(name), example))
    every = [pair for pairs in words.values() for pair in pairs]
    examples = {split: [example for where, example in every if where == split] for split in SPLITS}
    note = "Speech Commands 2: split by the hash of the file name"
    names = tuple(sorted(words))
    if classes == 12:
        for place, (split, found) in enumerate(examples.items()):
            draw = np.random.Generator(np.random.PCG64([seed, place]))
            examples[split] = _twelve(found, background, recordings, draw)
        names = (SILENCE, UNKNOWN, *COMMANDS)
        note += f"; silence and unknown drawn from data_seed {seed}"
    return Corpus(recordings, examples, {ARCHIVE: fetched.sha256}, [note], names, tuple(background))


def _twelve(
    examples: list[Example], background: list[Piece], recordings: Recordings, draw: np.random.Generator
) -> list[Example]:
    """The recordings of the ten commands, with as many of `unknown` and `silence` as their share is."""
    known = [example for example in examples if example.text in COMMANDS]
    others = [example for example in examples if example.text not in COMMANDS]
    count = math.ceil(SHARE * len(known))
    chosen = sorted(draw.permutation(len(others))[:count].tolist())
    unknown = [others[i]._replace(text=UNKNOWN) for i in chosen]
    silence = []
    for number in range(count if background else 0):
        whole = background[int(draw.integers(len(background)))]
        length = min(recordings.rate, whole.stop - whole.start)
        start = int(draw.integers(whole.start, whole.stop - length + 1))
        piece = Piece(start, start + length, gain=float(draw.random()))
        silence.append(Example(f"silence {number}", (piece,), SILENCE))
    return [*known, *unknown, *silence]
