"""Sound files decoded once: their samples one after the other in a file of the cache that is mapped into memory.

An example is made of pieces of them: mostly one recording, for connected digits several with silence between.

Dimensions: `S` samples of all recordings together.
"""

import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gatelab.data.audio.wav import read_sound, resample
from gatelab.data.disk_cache import ArrayWriter, mapped
from gatelab.data.messages import DataError

SCALE = 1 << 15
"""Of a sample that is kept with 16 bits."""


class Recordings(NamedTuple):
    """Decoded sound files.

    samples: `[S]`, int16 (of full scale `SCALE`) or float32. names: of the files. edges: `[n+1]`, where each begins.
    rate: samples a second of all of them. sha256: of all this.
    """

    samples: np.ndarray
    names: list[str]
    edges: list[int]
    rate: int
    sha256: str

    def piece(self, number: int) -> "Piece":
        """All of one recording."""
        return Piece(self.edges[number], self.edges[number + 1])

    def sound(self, pieces: "tuple[Piece, ...]") -> Tensor:
        """Return the pieces as one sound, float32 in [-1, 1)."""
        total = sum(piece.before + piece.stop - piece.start for piece in pieces)
        sound, at = np.zeros(total, np.float32), 0
        for piece in pieces:
            at += piece.before
            part = self.samples[piece.start : piece.stop]
            scale = piece.gain / SCALE if part.dtype == np.int16 else piece.gain
            sound[at : at + len(part)] = part * np.float32(scale)
            at += len(part)
        return torch.from_numpy(sound)


class Piece(NamedTuple):
    """Samples `start` to `stop` of the recordings, times `gain`, after `before` samples of silence."""

    start: int
    stop: int
    before: int = 0
    gain: float = 1.0


class Example(NamedTuple):
    """A sound and what it is. name: of its file, for messages; text: its class, or its transcript; speaker: or ""."""

    name: str
    pieces: tuple[Piece, ...]
    text: str
    speaker: str = ""

    @property
    def samples(self) -> int:
        """How long it is."""
        return sum(piece.before + piece.stop - piece.start for piece in self.pieces)


class Anew(Protocol):
    """Training examples that are made anew in every epoch."""

    def example(self, seed: int, epoch: int, number: int) -> Example:
        """Training example `number` of an epoch, about as long as it is in `Corpus.examples`."""

    def tightest(self) -> list[Example]:
        """Examples among which are those with the least samples for their symbols that could be made."""


class Corpus(NamedTuple):
    """Recordings and the examples that are made of them.

    examples: of each split. classes: their names in order; empty: as they occur. background: recordings of noise, for
    augmentation. redrawn: what the training examples are instead in an epoch; None: the same in all.
    fingerprint, notes: see `GatelabDataModule`.
    """

    recordings: Recordings
    examples: dict[str, list[Example]]
    fingerprint: dict[str, str]
    notes: list[str]
    classes: tuple[str, ...] = ()
    background: tuple[Piece, ...] = ()
    redrawn: Anew | None = None


def read_recordings(
    key: Callable[[], Mapping[str, Any]],
    files: Callable[[], Iterator[tuple[str, bytes]]],
    *,
    dtype: type[np.generic] = np.float32,
    channels: str = "error",
    rate: int | None = None,
    cache: str | None = None,
) -> Recordings:
    """Decode sound files, or find them decoded in the cache.

    Args:
        key: see `mapped`; it names every file by its sha256.
        files: gives name and bytes of each.
        dtype: in which samples are kept; int16 where all files have 16 bits.
        channels: see `read_sound`.
        rate: files of another one are resampled; None: all must have the same.

    Raises:
        DataError: a file cannot be read, or has another rate.
    """

    def make(writer: ArrayWriter) -> dict[str, Any]:
        names: list[str] = []
        edges, found = [0], rate
        for name, raw in files():
            sound = read_sound(raw, name, channels)
            found = found or sound.rate
            samples = sound.samples
            if sound.rate != found and rate is None:
                raise DataError(
                    f"{name}: has {sound.rate:,} Hz, {names[0]} has {found:,} Hz; data.rate={min(found, sound.rate)} "
                    "brings all to one rate"
                )
            if sound.rate != found:
                samples = resample(samples, sound.rate, found)
            kept = (samples * SCALE).round().clip(-SCALE, SCALE - 1) if dtype is np.int16 else samples
            edges.append(edges[-1] + writer.add("samples", np.dtype(dtype), [kept]))
            names.append(name)
        return {"names": names, "edges": edges, "rate": found}

    entry = mapped(cache, lambda: {"what": "sounds", "channels": channels, "rate": rate, **key()}, make)
    return Recordings(entry.arrays["samples"], **entry.facts, sha256=entry.sha256)


def tar_files(path: Path, folder: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the WAV files in a tar archive, in its order, below its folder `folder`."""
    with tarfile.open(path) as archive:
        for member in archive:
            name = f"/{member.name.removeprefix('./')}"
            if member.isfile() and name.endswith(".wav") and folder in name:
                file = archive.extractfile(member)
                assert file is not None
                yield name.removeprefix("/"), file.read()
