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


def check_apart(valid_speaker: str | None, test_key: str, test_speaker: str | None) -> None:
    """Raise `DataError` unless both are speakers, or None, and not one and the same."""
    check_speaker(test_key, test_speaker)
    check_speaker("data.valid_speaker", valid_speaker)
    if valid_speaker is not None and valid_speaker == test_speaker:
        raise DataError(f"data.valid_speaker={valid_speaker}: is the test speaker as well; give another")


def single_digits(
    leave_out: str | None, valid_speaker: str | None, mirror: str | None, cache: str | None
) -> Corpus:
    """Single digits. leave_out: the test split is all recordings of that speaker instead of the official one.

    The validation split is all other recordings of `valid_speaker`, or, where that is None, takes 5 to 9 of every digit
    and speaker; of the speakers that are left, takes 0 to 4.
    """
    recordings, takes, fingerprint = read_fsdd(mirror, cache)
    examples: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
    first = 0 if leave_out else TEST_TAKES
    for take in takes:
        test = take.speaker == leave_out if leave_out else take.take < TEST_TAKES
        valid = take.speaker == valid_speaker if valid_speaker else take.take < first + VALID_TAKES
        split = "test" if test else "valid" if valid else "train"
        piece = recordings.piece(take.number)
        name = recordings.names[take.number]
        examples[split].append(Example(name, (piece,), str(take.digit), take.speaker))
    which = f"all recordings of {leave_out}" if leave_out else "the official split, takes 0 to 4"
    valid_takes = f"takes {first} to {first + VALID_TAKES - 1} of the others"
    note = f"FSDD: test is {which}; valid is {f'{valid_speaker}, apart from it' if valid_speaker else valid_takes}"
    return Corpus(recordings, examples, fingerprint, [note], tuple(map(str, range(10))))


class Speech(NamedTuple):
    """What utterances of a split are made of.

    takes: the recordings of each speaker and digit. speakers: whom an utterance may be of.
    """

    recordings: Recordings
    takes: dict[tuple[str, int], list[int]]
    speakers: list[str]

    def utterances(self, count: int, draw: np.random.Generator) -> list[Example]:
        """So many utterances: speaker, number of digits, digits, takes and gaps are drawn."""
        made = []
        for number in range(count):
            speaker = self.speakers[int(draw.integers(len(self.speakers)))]
            digits = int(draw.integers(DIGITS[0], DIGITS[1] + 1))
            made.append(self.utterance(f"utterance {number} of {speaker}", speaker, digits, draw))
        return made

    def utterance(self, name: str, speaker: str, count: int, draw: np.random.Generator) -> Example:
        """One utterance of `count` digits: the digits, their takes and the gaps are drawn."""
        digits = [int(d) for d in draw.integers(10, size=count)]
        pieces: list[Piece] = []
        for digit in digits:
            pool = self.takes[speaker, digit]
            gap = int(draw.uniform(*GAP) * self.recordings.rate)
            pieces.append(self.recordings.piece(pool[int(draw.integers(len(pool)))])._replace(before=gap))
        pieces.append(Piece(0, 0, int(draw.uniform(*GAP) * self.recordings.rate)))
        return Example(name, tuple(pieces), " ".join(WORDS[digit] for digit in digits), speaker)


class Redrawn(NamedTuple):
    """Training utterances that are put together anew in every epoch, each of the speaker and as long as at first.

    So it stays among those of similar length. What is drawn depends on (seed, epoch, number) alone.
    """

    speech: Speech
    first: list[Example]

    def example(self, seed: int, epoch: int, number: int) -> Example:
        """Training utterance `number` of an epoch."""
        name, pieces, _, speaker = self.first[number]
        draw = np.random.Generator(np.random.PCG64([seed, epoch, number, 1]))  # Frames takes the first three
        return self.speech.utterance(name, speaker, len(pieces) - 1, draw)

    def tightest(self) -> list[Example]:
        """Of each training speaker and digit, the shortest that could be drawn: that digit again and again."""
        found = []
        for speaker, digit in self.speech.takes:
            if speaker in self.speech.speakers:
                pieces = map(self.speech.recordings.piece, self.speech.takes[speaker, digit])
                piece = min(pieces, key=lambda piece: piece.stop - piece.start)
                gap = int(GAP[0] * self.speech.recordings.rate)
                text = " ".join([WORDS[digit]] * DIGITS[1])
                whole = (*[piece._replace(before=gap)] * DIGITS[1], Piece(0, 0, gap))
                found.append(
                    Example(f"the shortest {WORDS[digit]} of {speaker}, {DIGITS[1]} times", whole, text)
                )
        return found


def connected_digits(
    valid_speaker: str | None,
    test_speaker: str,
    utterances: dict[str, int],
    redraw: bool,
    seed: int,
    mirror: str | None,
    cache: str | None,
) -> Corpus:
    """So many utterances of each split: one speaker, 3 to 7 digits, takes and gaps drawn from (seed, split).

    valid_speaker: whom validation is of, and training not; None: of the training speakers, of takes 0 to 4, which
    training then lacks. redraw: the training utterances are put together anew in every epoch.
    """
    recordings, takes, fingerprint = read_fsdd(mirror, cache)
    others = [speaker for speaker in SPEAKERS if speaker not in (valid_speaker, test_speaker)]
    speakers = {
        "train": others,
        "valid": [valid_speaker] if valid_speaker else others,
        "test": [test_speaker],
    }
    speech: dict[str, Speech] = {}
    for split, whom in speakers.items():
        pools: dict[tuple[str, int], list[int]] = {}
        for take in takes:
            early = take.take < VALID_TAKES
            if take.speaker in whom and (valid_speaker or split == "test" or early == (split == "valid")):
                pools.setdefault((take.speaker, take.digit), []).append(take.number)
        speech[split] = Speech(recordings, pools, whom)
    examples = {
        split: speech[split].utterances(count, np.random.Generator(np.random.PCG64([seed, place])))
        for place, (split, count) in enumerate(utterances.items())
    }
    valid = valid_speaker or f"takes 0 to {VALID_TAKES - 1} of the training speakers"
    note = (
        f"connected digits from FSDD, drawn from data_seed {seed}: test is {test_speaker}, valid {valid}, "
        f"train {counted(len(others), 'other speaker')}"
    )
    redrawn = Redrawn(speech["train"], examples["train"]) if redraw else None
    return Corpus(recordings, examples, fingerprint, [note], WORDS, redrawn=redrawn)
