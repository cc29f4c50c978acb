"""The base of every DataModule: loaders of fixed order, shares of ranks, resuming inside an epoch.

It knows nothing about text or series; the kinds fill in `setup` and `_dataset`. The order in which batches are
visited is a pure function of (seed, epoch), shared out over ranks; no item is repeated or dropped. The modules are
a skin over the pure parts of this ring and the only files that import Lightning.
"""

import signal
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any, TypedDict

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from gatelab.data.folds import check_folds
from gatelab.data.messages import DataError
from gatelab.data.stop_signals import STOP, blocked, unblock
from gatelab.data.text.tokenizer import Tokenizer


def batch_edges(items: int, batch_size: int, world_size: int) -> np.ndarray:
    """Return the borders `[n+1]` of the global batches of `items` items: `batch_size` each, fewer in the last.

    A last batch that could not give every rank an item is joined to the one before: all ranks always see the
    same number of batches, none of them empty (a rank without a batch would wait for ever in a collective
    call).
    """
    if items < world_size:
        raise DataError(f"{items} windows cannot be shared over {world_size} processes; use fewer devices")
    edges = np.append(np.arange(0, items, batch_size), items)
    if len(edges) > 2 and edges[-1] - edges[-2] < world_size:
        edges = np.delete(edges, -2)
    return edges


class BatchOrder(DistributedSampler):
    """Yields the item numbers of each of this rank's batches, for a `DataLoader` with `batch_size=None`.

    It is a `DistributedSampler` by name only, so that Lightning recognises that the sharing is done and
    leaves it be.

    tells_epoch: yield (epoch, item numbers) instead, for what is drawn anew in every epoch, by whatever worker.
    """

    tells_epoch = False

    def __init__(
        self, items: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.items, self.shuffle, self.seed = items, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.edges = batch_edges(items, batch_size, world_size)
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next pass takes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the batches of a whole epoch, also when the next pass starts later."""
        return len(self.edges) - 1

    def permutation(self) -> np.ndarray:
        """Return the order of all items `[items]` in the current epoch."""
        if not self.shuffle:
            return np.arange(self.items)
        # PCG64 gives the same numbers on every machine; SeedSequence hashes the pair, so no two overlap
        return np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(self.items)

    def __iter__(self) -> Iterator[Any]:
        """Yield item numbers batch by batch, from batch `start` on the first pass and from 0 ever after."""
        # a generator on purpose: a loader with workers asks for two iterators and draws from the second alone, so
        # `start` is used up by the first drawn batch, not by the asking
        start, self.start = self.start, 0
        order = self.permutation()
        for batch in range(start, len(self)):
            numbers = self._share(order, batch)
            yield (self.epoch, numbers) if self.tells_epoch else numbers

    def _share(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return this rank's part of a global batch: near-equal parts, in order."""
        return np.array_split(order[self.edges[batch] : self.edges[batch + 1]], self.world_size)[self.rank]


MOST_WORKERS = 256


def _leave_signals_to_the_run(worker: int) -> None:
    """Ignore, in a loader worker, what asks the run to stop: it still needs batches. Workers end with their run."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    unblock()


class Loader(DataLoader):
    """A DataLoader whose workers outlive the signals that ask a run to stop, from their first moment on."""

    def __iter__(self) -> Any:
        """Start the workers with the signals held back, until each of them ignores them."""
        with blocked():
            return super().__iter__()


class Loading(TypedDict, total=False):
    """Arguments of every DataModule that it hands on, see `GatelabDataModule`."""

    seed: int
    num_workers: int
    folds: int | None
    fold: int | None


class GatelabDataModule(pl.LightningDataModule):
    """The contract with tasks and the laboratory.

    After `prepare_data()` and `setup()`: `spec` (a `Spec`), `splits` (names in order),
    `fingerprint` (file -> sha256), `notes` (what was done to the data, in words), `baselines(split)`;
    `tokenizer` where there is text.

    skip_batches: batches of the first epoch that were trained before; set it before `train_dataloader()` is
        asked for and the first pass begins there. It is cleared once used.
    first_epoch: the epoch number whose order the first pass takes; None asks the trainer for the epoch it
        resumes.
    folds, fold: cross-validation (see folds.py): this is fold `fold` (from 0) of `folds`; both None: the ordinary
        split.
    """

    spec: Any
    tokenizer: Tokenizer | None = None
    splits: tuple[str, ...]

    def __init__(
        self,
        batch_size: int,
        eval_batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise DataError(f"data.{name}={value}: give at least 1")
        for name, value in (("num_workers", num_workers), ("seed", seed)):
            if value < 0:
                raise DataError(f"data.{name}={value}: give 0 or more")
        if num_workers > MOST_WORKERS:
            raise DataError(f"data.num_workers={num_workers}: give at most {MOST_WORKERS}; each is a process")
        check_folds(folds, fold)
        self.folds, self.fold = folds, fold
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed, self.num_workers = seed, num_workers
        self.skip_batches = 0
        self.first_epoch: int | None = None
        self.fingerprint: dict[str, str] = {}
        self.notes: list[str] = []

    @property
    def at_hand(self) -> bool:
        """Whether `setup` needs nothing but this machine's own files, so that it never downloads."""
        return False

    def data_files(self) -> Iterable[str | PathLike[str]]:
        """Name files, folders and patterns that this module reads with code of its own; none by default.

        It is asked once the data is set up. Their sha256 are recorded, and where one has changed, the run is neither
        continued nor reported.
        """
        return ()

    @abstractmethod
    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return name -> metrics of the trivial predictors, over exactly the positions of `split` that are scored."""

    @abstractmethod
    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        """Return the dataset of `split` and the order of its batches for one rank."""

    def dataloader(self, split: str) -> DataLoader:
        """Return the loader of `split` for this rank.

        Whole batches, in an order that only seed and epoch decide. They lie in pinned memory where they go to a GPU,
        so that it computes while they are copied.
        """
        self._known(split)
        rank, world_size = self._rank()
        if (size := self._batch_size(split)) % world_size:
            name = "batch_size" if split == "train" else "eval_batch_size"
            raise DataError(
                f"data.{name}={size} cannot be shared by {world_size} processes; give a multiple of it"
            )
        dataset, order = self._dataset(split, rank, world_size)
        if split == "train":
            self._resume(order)
        return Loader(
            dataset,
            batch_size=None,
            sampler=order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_leave_signals_to_the_run,
            pin_memory=self._feeds_gpu(),
        )

    def _order(
        self,
        split: str,
        items: Any,
        rank: int,
        world_size: int,
        kind: Any = BatchOrder,
        *more: Any,
        tells_epoch: bool = False,
    ) -> BatchOrder:
        """Return the order of the batches of `split`: by (seed, epoch) in training, else as they come.

        items, more: what a `kind` of other than `BatchOrder` takes first, and after the size of a batch.
        """
        shared = {"shuffle": split == "train", "seed": self.seed, "rank": rank, "world_size": world_size}
        order: BatchOrder = kind(items, self._batch_size(split), *more, **shared)
        order.tells_epoch = tells_epoch
        return order

    def _batch_size(self, split: str) -> int:
        return self.batch_size if split == "train" else self.eval_batch_size

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training split."""
        return self.dataloader("train")

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation split."""
        return self.dataloader("valid")

    def test_dataloader(self) -> DataLoader:
        """Return the loader of the test split."""
        return self.dataloader("test")

    def _known(self, split: str) -> None:
        """Raise `DataError` unless the data is set up and has `split`."""
        if not hasattr(self, "splits"):
            raise DataError(f"{type(self).__name__}: call prepare_data() and setup() first")
        if split not in self.splits:
            raise DataError(f"split {split!r}: this data has only {', '.join(self.splits)}")

    def _rank(self) -> tuple[int, int]:
        """Return (rank, world size) of the attached trainer; one process without one."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _feeds_gpu(self) -> bool:
        """Whether the attached trainer computes on a CUDA device."""
        device = getattr(getattr(self.trainer, "strategy", None), "root_device", None)
        return device is not None and device.type == "cuda"

    def _resume(self, order: BatchOrder) -> None:
        """Begin at the epoch and batch of an interrupted run."""
        if not 0 <= self.skip_batches <= len(order):
            raise DataError(f"skip_batches={self.skip_batches}: an epoch has {len(order)} batches")
        epoch, order.start = self._use_position()
        order.set_epoch(epoch)

    def _use_position(self) -> tuple[int, int]:
        """Return the epoch and the batch at which the first pass begins, and clear them.

        Lightning starts the workers before it names the epoch.
        """
        epoch, batch = self.first_epoch, self.skip_batches
        self.first_epoch, self.skip_batches = None, 0
        if epoch is None:
            loop = getattr(self.trainer, "fit_loop", None)
            epoch = loop.epoch_progress.current.processed if loop is not None else 0
        return epoch, batch
