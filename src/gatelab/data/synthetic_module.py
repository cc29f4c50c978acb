"""DataModules of the two memory problems in synthetic.py. Items are drawn at `setup` and kept in memory.

`data_seed` decides the items and `seed` the order of training, so runs with other seeds still solve the same
problem. Of `data.folds`, fold k validates on the k-th block of the train and valid items (see folds.py).

Dimensions: `B` batch, `T` steps.
"""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.folds import item_cuts
from gatelab.data.messages import DataError
from gatelab.data.specs import SeriesBatch, SeriesSpec, TextSpec, TokenBatch
from gatelab.data.synthetic import MEMORY, SYMBOLS, adding, copy_memory, generator

Arrays = tuple[np.ndarray, np.ndarray]
MOST_NUMBERS = 100_000_000
"""Steps of a split, which are drawn into memory; three times those of Bai et al.'s adding problem."""


class _Items(Dataset):
    """Items as two arrays with `n` in front; `batch` makes a batch of some of them.

    An array of numbers gives those items, a plain number k the k-th batch.
    """

    def __init__(self, arrays: Arrays, batch_size: int, batch: Callable[[Tensor, Tensor], Any]) -> None:
        self.first, self.second = (torch.from_numpy(array) for array in arrays)
        self.batch_size, self.batch = batch_size, batch

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: int | np.ndarray) -> Any:
        where: slice | Tensor
        if isinstance(index, np.ndarray):
            where = torch.from_numpy(index)
        else:
            where = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.batch(self.first[where], self.second[where])


def _token_batch(inputs: Tensor, targets: Tensor) -> TokenBatch:
    """Return items `[n, T]` as a batch in which every item starts from zero."""
    return TokenBatch(
        inputs.T.contiguous(), targets.T.contiguous(), torch.ones(len(inputs), dtype=torch.bool)
    )


class Items(Loading, total=False):
    """Arguments of both problems."""

    train_items: int
    eval_items: int
    batch_size: int
    eval_batch_size: int
    data_seed: int


class _SyntheticDataModule(GatelabDataModule):
    """The base of both problems: three splits of drawn items."""

    problem: ClassVar[str]
    batch: ClassVar[Any]  # makes a batch of the two arrays

    def __init__(
        self,
        train_items: int = 10_000,
        eval_items: int = 1000,
        batch_size: int = 32,
        eval_batch_size: int = 250,
        data_seed: int = 0,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        if min(train_items, eval_items) < 1:
            raise DataError(f"data.train_items={train_items}, data.eval_items={eval_items}: give at least 1")
        if data_seed < 0:
            raise DataError(f"data.data_seed={data_seed}: give 0 or more")
        self.train_items, self.eval_items, self.data_seed = train_items, eval_items, data_seed
        self.arrays: dict[str, Arrays] = {}

    at_hand = True

    def _check_size(self, steps: int) -> None:
        if max(self.train_items, self.eval_items) * steps > MOST_NUMBERS:
            raise DataError(
                f"data.train_items={self.train_items}, data.eval_items={self.eval_items}: at most {MOST_NUMBERS:,} "
                f"steps in all, and each item has {steps:,}"
            )

    @abstractmethod
    def _draw(self, items: int, draw: np.random.Generator) -> Arrays:
        """Return the two arrays of `items` items."""

    @abstractmethod
    def _spec(self, counts: Mapping[str, int]) -> TextSpec | SeriesSpec:
        """Return the spec for so many items in each split."""

    def setup(self, stage: str | None = None) -> None:
        """Draw the items; a second call does nothing."""
        if self.arrays:
            return
        counts = {"train": self.train_items, "valid": self.eval_items, "test": self.eval_items}
        for split, count in counts.items():
            self.arrays[split] = self._draw(count, generator(self.data_seed, split))
            digest = hashlib.sha256(b"".join(array.tobytes() for array in self.arrays[split]))
            self.fingerprint[f"{self.problem}/{split}"] = digest.hexdigest()
        self.splits = tuple(counts)
        self.notes = [f"synthetic: drawn from data_seed {self.data_seed}"]
        if self.folds is not None and self.fold is not None:
            self._take_fold(self.folds, self.fold)
        self.spec = self._spec({split: len(arrays[0]) for split, arrays in self.arrays.items()})

    def _take_fold(self, folds: int, fold: int) -> None:
        """Put the fold's items in the place of the train and valid items."""
        pool = [np.concatenate(pair) for pair in zip(self.arrays["train"], self.arrays["valid"], strict=True)]
        cuts = item_cuts(len(pool[0]), folds)
        block = slice(cuts[fold], cuts[fold + 1])
        self.arrays["train"] = (np.delete(pool[0], block, axis=0), np.delete(pool[1], block, axis=0))
        self.arrays["valid"] = (pool[0][block], pool[1][block])
        self.notes.append(
            f"data.fold={fold} of data.folds={folds}: valid is items {block.start:,} to {block.stop:,} of the "
            f"{len(pool[0]):,} of train and valid"
        )

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        items = _Items(self.arrays[split], self._batch_size(split) // world_size, type(self).batch)
        return items, self._order(split, len(items), rank, world_size)


class AddingDataModule(_SyntheticDataModule):
    """The adding problem: past `[B, steps, 2]` -> future `[B, 1, 1]`; nothing is standardised (mean 0, std 1
    in the spec).

    The spec's `mase_scale` is the absolute error of always answering 1, so MASE below 1 means that something
    was learnt.
    """

    problem, batch = "adding", SeriesBatch

    def __init__(self, steps: int = 200, **items: Unpack[Items]) -> None:
        super().__init__(**items)
        if steps < 2:
            raise DataError(f"data.steps={steps}: the adding problem needs at least 2")
        self.steps = steps
        self._check_size(steps)

    def _draw(self, items: int, draw: np.random.Generator) -> Arrays:
        return adding(items, self.steps, draw)

    def _spec(self, counts: Mapping[str, int]) -> SeriesSpec:
        return SeriesSpec(
            channels=("value", "marker"),
            targets=("sum",),
            target_index=(0,),
            lookback=self.steps,
            horizon=1,
            season=1,
            frequency="",
            mean=(0.0, 0.0),
            std=(1.0, 1.0),
            mase_scale=(1 / 3,),
            windows=dict(counts),
        )

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the errors of always answering 1 on `split`."""
        self._known(split)
        future = self.arrays[split][1].astype(np.float64)
        mse, mae = float(np.square(future - 1).mean()), float(np.abs(future - 1).mean())
        smape = float((200 * np.abs(future - 1) / (future + 1)).mean())
        errors = {
            "mse": mse,
            "mae": mae,
            "mse_original": mse,
            "mae_original": mae,
            "mase": 3 * mae,
            "smape": smape,
        }
        return {"constant": errors | {"windows": len(future)}}


class CopyMemoryDataModule(_SyntheticDataModule):
    """The copy problem: `TokenBatch` of `[delay + 20, B]`; only the last ten steps are scored.

    Every batch starts from zero.
    """

    problem, batch = "copy_memory", staticmethod(_token_batch)

    def __init__(self, delay: int = 100, **items: Unpack[Items]) -> None:
        super().__init__(**items)
        if delay < 1:
            raise DataError(f"data.delay={delay}: give at least 1 step")
        self.delay = delay
        self._check_size(delay + 2 * MEMORY)

    def _draw(self, items: int, draw: np.random.Generator) -> Arrays:
        return copy_memory(items, self.delay, draw)

    def _spec(self, counts: Mapping[str, int]) -> TextSpec:
        return TextSpec(
            vocabulary=SYMBOLS + 2,
            level="symbol",
            seed_token=0,
            tokens={split: MEMORY * count for split, count in counts.items()},
            characters=dict.fromkeys(counts, 0),
        )

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the loss of guessing each symbol, ln 8 nats."""
        self._known(split)
        guess = {"loss": math.log(SYMBOLS), "ppl": float(SYMBOLS), "bpc": math.log2(SYMBOLS)}
        return {"guess": guess | {"tokens": self.spec.tokens[split]}}
