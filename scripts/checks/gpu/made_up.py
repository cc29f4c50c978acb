"""Small data to train on where there are no published files: each holds something that a network can learn."""

from __future__ import annotations

import math
import random
import struct
import wave
from pathlib import Path

import numpy as np

from gatelab.data import PolyphonyDataModule

RATE = 8000  # Hz
NUMBERS = ("one", "two", "three", "four", "five", "six")


def text(path: Path, tokens: int, vocabulary: int, seed: int = 0) -> None:
    """Lines of words `w0`, `w1`, ... by Zipf's law; about every second word follows from the one before it."""
    draw = np.random.default_rng(seed)
    words = np.minimum(draw.zipf(1.3, tokens) - 1, vocabulary - 1)
    words[:vocabulary] = np.arange(vocabulary)  # all are there
    follows = draw.random(tokens - 1) < 0.5
    words[1:][follows] = (words[:-1][follows] * 7 + 1) % vocabulary
    lines = (" ".join(f"w{word}" for word in words[i : i + 20]) for i in range(0, tokens, 20))
    path.write_text("\n".join(lines) + "\n")


def pairs(source: Path, target: Path, count: int, seed: int = 0) -> None:
    """Sentences of three to nine words, and each word by word in another language."""
    draw = random.Random(seed)
    lines = [[draw.randrange(40) for _ in range(draw.randint(3, 9))] for _ in range(count)]
    source.write_text("".join(" ".join(f"ein{n}" for n in line) + "\n" for line in lines))
    target.write_text("".join(" ".join(f"one{n}" for n in line) + "\n" for line in lines))


def messages(path: Path, count: int, seed: int = 0) -> None:
    """Texts of three departments, which some of their words tell."""
    draw = random.Random(seed)
    rows = ["message,department\n"]
    for _ in range(count):
        kind = draw.randrange(3)
        words = [f"{('invoice', 'parcel', 'password')[kind]}{draw.randrange(5)}"]
        words += [f"word{draw.randrange(50)}" for _ in range(draw.randint(2, 12))]
        draw.shuffle(words)
        rows.append(f"{' '.join(words)},{('billing', 'delivery', 'support')[kind]}\n")
    path.write_text("".join(rows))


def speech(folder: Path, count: int, seed: int = 0) -> Path:
    """Sounds of two to four tones, each of which stands for a number; the manifest of what is said."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    rows = ["path,transcript\n"]
    for number in range(count):
        said = [draw.randrange(len(NUMBERS)) for _ in range(draw.randint(2, 4))]
        tone(folder / f"{number}.wav", [300 * 1.35**n for n in said], draw)
        rows.append(f"{number}.wav,{' '.join(NUMBERS[n] for n in said)}\n")
    (manifest := folder / "manifest.csv").write_text("".join(rows))
    return manifest


def tone(path: Path, pitches: list[float], draw: random.Random) -> None:
    """A WAV file of tones of a quarter of a second (pitches in Hz) with a little noise."""
    samples = [
        8000 * math.sin(2 * math.pi * pitch * i / RATE) + draw.gauss(0, 200)
        for pitch in pitches
        for i in range(RATE // 4)
    ]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{len(samples)}h", *map(int, samples)))


class Chorales(PolyphonyDataModule):
    """Made-up pieces of 88 keys in place of the published ones: chords of three keys that move up step by step."""

    def prepare_data(self) -> None:
        """Nothing has to be fetched."""

    def read(self) -> dict[str, list[np.ndarray]]:
        """Pieces of 20 to 59 frames."""
        draw = np.random.default_rng(0)
        self.fingerprint = {"made-up pieces": "0"}
        return {
            split: [self._piece(draw) for _ in range(count)]
            for split, count in (("train", 96), ("valid", 16), ("test", 16))
        }

    def _piece(self, draw: np.random.Generator) -> np.ndarray:
        frames = np.zeros((int(draw.integers(20, 60)), 88), dtype=np.uint8)
        start = int(draw.integers(80))
        for t, frame in enumerate(frames):
            frame[[(start + t) % 80, (start + t) % 80 + 4, (start + t) % 80 + 7]] = 1
        return frames
