"""The Free Spoken Digit Dataset: ten digits, six speakers, fifty takes of each, 8 kHz (Jackson et al. 2016).

https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0; version 1.0.10 has the 3,000 recordings. Its
official test split is takes 0 to 4 of every digit and speaker. A recording is called DIGIT_SPEAKER_TAKE.wav.

Connected digits are made from it: three to seven digits of one speaker with gaps between them, and no speaker in two
splits.
"""

from typing import Final, NamedTuple

import numpy as np

from gatelab.data.audio.recordings import Corpus, Example, Piece, Recordings, read_recordings, tar_files
from gatelab.data.fetch import fetch
from gatelab.data.messages import DataError, counted, did_you_mean

ARCHIVE: Final = "fsdd/recordings.tar.gz"
SPEAKERS: Final = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
WORDS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES: Final = 5
VALID_TAKES: Final = 5
DIGITS: Final = (3, 7)
"""Least and most digits of an utterance."""
GAP: Final = (0.02, 0.4)
"""Shortest and longest silence before a digit, in seconds."""


class Take(NamedTuple):
    """What a recording's name says, and its place among the recordings."""

    number: int
    digit: int
    speaker: str
    take: int


def read_fsdd(mirror: str | None, cache: str | None) -> tuple[Recordings, list[Take], dict[str, str]]:
    """Return the recordings, what they are, and their fingerprint."""
    fetched = fetch(ARCHIVE, mirror=mirror, cache=cache)
    recordings = read_recordings(
        lambda: {"source": fetch(ARCHIVE, mirror=mirror, cache=cache).sha256},
        # the archives that there are have other orders and outer folders
        lambda: iter(
            sorted((name.split("/")[-1], raw) for name, raw in tar_files(fetched.path, "/recordings/"))
        ),
        dtype=np.int16,
        cache=cache,
    )
    takes = []
    for number, name in enumerate(recordings.names):
        digit, speaker, take = name.removesuffix(".wav").split("_")
        takes.append(Take(number, int(digit), speaker, int(take)))
    return recordings, takes, {ARCHIVE: fetched.sha256}


def check_speaker(key: str, speaker: str | None) -> None:
    """Raise `DataError` unless `speaker` is one of the six, or None."""
    if speaker is not None and speaker not in SPEAKERS:
        raise DataError(
            f"{key}={speaker}: give one of {', '.join(SPEAKERS)}.{did_you_mean(speaker, SPEAKERS)}"
        )


def single_digits(leave_out: str | None, mirror: str | None, cache: str | None) -> Corpus:
    """Single digits. leave_out: the test split is all recordings of that speaker instead of the official one.

    The validation split is takes 5 to 9 of every digit and speaker; of the speakers that are left, takes 0 to 4.
    """
    check_speaker("data.leave_out", leave_out)
    recordings, takes, fingerprint = read_fsdd(mirror, cache)
    examples: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
    first = 0 if leave_out else TEST_TAKES
    for take in takes:
        test = take.speaker == leave_out if leave_out else take.take < TEST_TAKES
        split = "test" if test else "valid" if take.take < first + VALID_TAKES else "train"
        piece = recordings.piece(take.number)
        examples[split].append(Example(recordings.names[take.number], (piece,), str(take.digit)))
    which = f"all recordings of {leave_out}" if leave_out else "the official split, takes 0 to 4"
    note = f"FSDD: test is {which}; valid is takes {first} to {first + VALID_TAKES - 1} of the others"
    return Corpus(recordings, examples, fingerprint, [note], tuple(map(str, range(10))))


def connected_digits(
    valid_speaker: str,
    test_speaker: str,
    utterances: dict[str, int],
    seed: int,
    mirror: str | None,
    cache: str | None,
) -> Corpus:
    """So many utterances of each split: one speaker, 3 to 7 digits, takes and gaps drawn from (seed, split)."""
    for key, speaker in (("data.valid_speaker", valid_speaker), ("data.test_speaker", test_speaker)):
        check_speaker(key, speaker)
    if valid_speaker == test_speaker:
        raise DataError(f"data.valid_speaker={valid_speaker}: is the test speaker as well; give another")
    recordings, takes, fingerprint = read_fsdd(mirror, cache)
    pools: dict[tuple[str, int], list[int]] = {}
    for take in takes:
        pools.setdefault((take.speaker, take.digit), []).append(take.number)
    others = [speaker for speaker in SPEAKERS if speaker not in (valid_speaker, test_speaker)]
    speakers = {"train": others, "valid": [valid_speaker], "test": [test_speaker]}
    examples = {
        split: _utterances(
            recordings, pools, speakers[split], count, np.random.Generator(np.random.PCG64([seed, place]))
        )
        for place, (split, count) in enumerate(utterances.items())
    }
    note = (
        f"connected digits from FSDD, drawn from data_seed {seed}: test is {test_speaker}, valid {valid_speaker}, "
        f"train {counted(len(others), 'other speaker')}"
    )
    return Corpus(recordings, examples, fingerprint, [note], WORDS)


def _utterances(
    recordings: Recordings,
    pools: dict[tuple[str, int], list[int]],
    speakers: list[str],
    count: int,
    draw: np.random.Generator,
) -> list[Example]:
    made = []
    for number in range(count):
        speaker = speakers[int(draw.integers(len(speakers)))]
        digits = [int(d) for d in draw.integers(10, size=int(draw.integers(DIGITS[0], DIGITS[1] + 1)))]
        pieces: list[Piece] = []
        for digit in digits:
            pool = pools[speaker, digit]
            gap = int(draw.uniform(*GAP) * recordings.rate)
            pieces.append(recordings.piece(pool[int(draw.integers(len(pool)))])._replace(before=gap))
        pieces.append(Piece(0, 0, int(draw.uniform(*GAP) * recordings.rate)))
        text = " ".join(WORDS[digit] for digit in digits)
        made.append(Example(f"utterance {number} of {speaker}", tuple(pieces), text))
    return made
