"""JSB chorales: 382 chorales by Bach as frames of 88 keys, a frame a quarter note (Boulanger-Lewandowski et al. 2012).

Dimensions: `n` pieces, `K` keys.
"""

from pathlib import Path
from typing import Final, Unpack

import numpy as np
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.fetch import fetch
from gatelab.data.folds import item_cuts
from gatelab.data.labelled.examples import Sequences
from gatelab.data.messages import DataError
from gatelab.data.orders import SimilarLengths
from gatelab.data.polyphony.spec import LOWEST, FramesBatch, PolyphonySpec
from gatelab.data.specs import SPLITS
from gatelab.data.text.text_files import lines_of

FILE: Final = "jsb/JSB_Chorales.mat"


def read_chorales(path: Path) -> dict[str, list[np.ndarray]]:
    """Return the pieces of each split, frames `[T, 88]` of 0 and 1, from the published MATLAB file."""
    from scipy.io import loadmat

    content = loadmat(path)
    return {split: [piece.astype(np.uint8) for piece in content[f"{split}data"][0]] for split in SPLITS}


def read_frames(path: Path, keys: int) -> np.ndarray:
    """Return frames `[T, K]` of a text file: a line each, the MIDI numbers of the keys that sound, empty for none."""
    lines = lines_of(path)
    frames = np.zeros((len(lines), keys), dtype=np.uint8)
    for number, line in enumerate(lines, 1):
        for word in line.split():
            key = int(word) - LOWEST if word.isdecimal() else -1
            if not 0 <= key < keys:
                raise DataError(
                    f"line {number}: {word!r} is no MIDI number from {LOWEST} to {LOWEST + keys - 1}"
                )
            frames[number - 1, key] = 1
    if not len(frames):
        raise DataError("the file holds no frame")
    return frames


class _Pieces(Dataset):
    """Pieces as padded batches; an array of numbers gives the batch of those."""

    def __init__(self, pieces: Sequences) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return len(self.pieces.lengths)

    def __getitem__(self, index: np.ndarray) -> FramesBatch:
        return FramesBatch(*self.pieces.padded(index))


class PolyphonyDataModule(GatelabDataModule):
    """The chorales in the published splits: 229, 76 and 77.

    A training batch holds pieces of similar length. folds, fold: validate on block `fold` (from 0) of `folds` of the
    train and valid pieces. mirror, cache: folders to look for files in before downloading (see fetch.py).
    """

    spec: PolyphonySpec

    def __init__(
        self,
        batch_size: int = 16,
        eval_batch_size: int = 80,
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        self.mirror, self.cache = mirror, cache
        self.pieces: dict[str, Sequences] = {}

    def prepare_data(self) -> None:
        """Fetch the file."""
        fetch(FILE, mirror=self.mirror, cache=self.cache)

    def setup(self, stage: str | None = None) -> None:
        """Read the file; a second call does nothing."""
        if self.pieces:
            return
        found = self.read()
        if self.folds is not None and self.fold is not None:
            pool = found["train"] + found["valid"]
            start, end = item_cuts(len(pool), self.folds)[self.fold : self.fold + 2]
            found |= {"train": pool[:start] + pool[end:], "valid": pool[start:end]}
            self.notes = [
                f"data.fold={self.fold} of data.folds={self.folds}: valid is pieces {start} to {end}"
            ]
        self.pieces = {split: Sequences.of(pieces) for split, pieces in found.items()}
        self.splits = tuple(self.pieces)
        lengths = {split: pieces.lengths for split, pieces in self.pieces.items()}
        self.spec = PolyphonySpec(
            keys=self.pieces["train"].values.shape[1],
            pieces={split: len(of) for split, of in lengths.items()},
            frames={split: int((of - 1).sum()) for split, of in lengths.items()},
        )

    def read(self) -> dict[str, list[np.ndarray]]:
        """Return the pieces of each split, frames `[T, K]` of 0 and 1."""
        fetched = fetch(FILE, mirror=self.mirror, cache=self.cache)
        self.fingerprint = {FILE: fetched.sha256}
        return read_chorales(fetched.path)

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the scores of keys that sound by themselves: as often as in training, and given their last frame."""
        self._known(split)
        (was, now), (before, truth) = (_pairs(self.pieces[name]) for name in ("train", split))

        def often(chosen: np.ndarray) -> np.ndarray:
            return ((now & chosen).sum(0) + 0.5) / (chosen.sum(0) + 1.0)  # [K], Krichevsky and Trofimov

        marginal = np.broadcast_to(often(np.ones_like(now)), truth.shape)
        given_last = np.where(before, often(was), often(~was))
        return {"key_by_key": _scores(marginal, truth), "key_given_last": _scores(given_last, truth)}

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        pieces = self.pieces[split]
        return _Pieces(pieces), self._order(split, pieces.lengths, rank, world_size, SimilarLengths)


def _pairs(pieces: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Return all frames that have one after them, and those after them, bool `[frames, K]`."""
    frames = pieces.values.astype(bool)
    last = np.zeros(len(frames), dtype=bool)
    last[pieces.starts[1:] - 1] = True
    return frames[:-1][~last[:-1]], frames[1:][~last[:-1]]


def _scores(p: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    nll = -np.log(np.where(truth, p, 1 - p)).sum()
    said = p >= 0.5
    return {
        "loss": float(nll / len(truth)),
        "accuracy": float((said & truth).sum() / (said | truth).sum()),
        "frames": float(len(truth)),
    }
