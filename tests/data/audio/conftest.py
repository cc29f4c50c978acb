"""Sounds made by hand: sine tones as WAV files."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

RATE = 8000


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write samples [S] or [S, channels] in [-1, 1) as PCM below the test's folder."""

    def write(name: str, samples: np.ndarray, rate: int = RATE, width: int = 2) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = samples[:, None] if samples.ndim == 1 else samples
        whole = np.round(samples.astype(np.float64) * (1 << (8 * width - 1))).astype("<i8")
        whole = whole + 128 if width == 1 else whole
        raw = whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
        with wave.open(str(path), "wb") as file:
            file.setparams((samples.shape[1], width, rate, 0, "NONE", ""))
            file.writeframes(raw)
        return path

    return write


def tone(hertz: float, seconds: float = 0.2, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(write_wav, tmp_path) -> Path:
    """Twelve tones of each of two classes, of different lengths."""
    draw = np.random.default_rng(0)
    for hertz, name in ((400, "low"), (1600, "high")):
        for number in range(12):
            sound = tone(hertz + 10 * number, 0.1 + 0.02 * number)
            write_wav(f"tones/{name}/{number}.wav", sound + 0.02 * draw.standard_normal(len(sound)))
    return tmp_path / "tones"


@pytest.fixture
def manifest(write_wav, tmp_path) -> Callable[..., Path]:
    """Write a manifest of spoken tones: `manifest(["ab", "ba", ...], column)`, a tone of 0.2 s for each letter."""

    def write(texts: list[str], *more: str, column: str = "transcript") -> Path:
        lines = [",".join(["path", column, *(m.split("=")[0] for m in more)])]
        for number, text in enumerate(texts):
            parts = [tone(300 * (1 + ord(letter) % 7), 0.2) for letter in text]
            write_wav(f"clips/{number}.wav", np.concatenate(parts))
            values = [m.split("=")[1].split("/")[number] for m in more]
            lines.append(",".join([f"clips/{number}.wav", text, *values]))
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
