"""A LightningDataModule that knows nothing of Gatelab, with what it lacks beside it: the spec, written by hand.

    data:
      _target_: gatelab.data.PlainDataModule
      module: {_target_: my_data.MyDataModule, batch_size: 8}
      spec: {kind: forecasting, channels: [load], targets: [load], target_index: [0], lookback: 8, horizon: 4, ...}

Its loaders give the batches of the task: a `SeriesBatch` or `TokenBatch`, or plain tuples of the same tensors.
"""

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain, islice
from os import PathLike
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.data.base_module import GatelabDataModule
from gatelab.data.messages import DataError, counted
from gatelab.data.specs import SPLITS, SeriesBatch, SeriesSpec, Spec, TextSpec, TokenBatch

KINDS: dict[str, tuple[type[Spec], Any]] = {
    SeriesSpec.kind: (SeriesSpec, SeriesBatch),
    TextSpec.kind: (TextSpec, TokenBatch),
}


class Passes:
    """A loader whose pass over epoch n draws what (seed, n) decides, and may begin inside the first epoch."""

    def __init__(self, loader: Any, batch: Any, seed: int, epoch: int, skip: int) -> None:
        self.loader, self.batch = loader, batch
        self.seed, self.epoch, self.skip = seed, epoch, skip

    def __len__(self) -> int:
        """Return the batches of a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches, as the task's kind of batch where they are plain tuples."""
        (epoch, self.epoch), (skip, self.skip) = (self.epoch, self.epoch + 1), (self.skip, 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1_000_003 * epoch)  # what a shuffling loader draws from
            batches = iter(self.loader)
            first = next(batches, None)
        if first is None:
            return
        yield from islice((self._as_batch(item) for item in chain([first], batches)), skip, None)

    def _as_batch(self, item: Any) -> Any:
        if self.batch is None or not isinstance(item, list | tuple) or hasattr(item, "_fields"):
            return item
        least, most = len(self.batch._fields) - len(self.batch._field_defaults), len(self.batch._fields)
        if not least <= len(item) <= most:
            raise DataError(
                f"data.module: a batch of {counted(len(item), 'tensor')}; a {self.batch.__name__} is "
                f"({', '.join(self.batch._fields)}), of which the first {least} are needed"
            )
        return self.batch(*item)


class PlainDataModule(GatelabDataModule):
    """Hand on the loaders of another DataModule.

    Its files are those that its configuration names, and what its `data_files()`, if it has one, returns; a change of
    others is not noticed. It has no baselines.

    Args:
        module: the DataModule. Its `val_dataloader` must visit the windows in the same order each time.
        spec: `kind` (forecasting, language_model) and the fields of that spec, or a spec of one's own kind.
        seed: of the order in which a shuffling training loader visits its items.
    """

    def __init__(self, module: pl.LightningDataModule, spec: Mapping[str, Any] | Spec, seed: int = 0) -> None:
        super().__init__(batch_size=1, eval_batch_size=1, seed=seed)
        if not isinstance(module, pl.LightningDataModule):
            raise DataError(
                f"data.module: {type(module).__name__} is not a pytorch_lightning.LightningDataModule"
            )
        kind, batch = (
            KINDS.get(spec.get("kind", ""), (None, None)) if isinstance(spec, Mapping) else (None, None)
        )
        if isinstance(spec, Mapping) and kind is None:
            raise DataError(f"data.spec.kind={spec.get('kind')}: give one of {', '.join(KINDS)}")
        self.module, self.batch = module, batch
        self.spec = kind.from_dict(spec) if kind is not None else spec  # type: ignore[arg-type]
        self.notes = [f"{type(module).__name__}: it has no baselines"]
        if not hasattr(module, "data_files"):
            self.notes[0] += ", and of its files only those that the configuration names are recorded"

    def prepare_data(self) -> None:
        """Let the module prepare its data."""
        self.module.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Let the module set up all of its splits."""
        for each in ("fit", "test") if self._tests else ("fit",):
            self.module.setup(each)
        self.splits = SPLITS if self._tests else SPLITS[:2]

    def data_files(self) -> Iterable[str | PathLike[str]]:
        """Return what the module says that it reads, if it says so."""
        return getattr(self.module, "data_files", tuple)()

    @property
    def _tests(self) -> bool:
        return type(self.module).test_dataloader is not pl.LightningDataModule.test_dataloader

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return nothing: what its trivial predictors are is not known."""
        return {}

    def dataloader(self, split: str) -> Any:
        """Return the module's loader of `split`."""
        self._known(split)
        if self._rank()[1] > 1:
            raise DataError("data: PlainDataModule trains in one process; trainer.devices=1")
        self.module.trainer = self.trainer
        name = {"train": "train_dataloader", "valid": "val_dataloader", "test": "test_dataloader"}[split]
        loader: Any = getattr(self.module, name)()
        if not isinstance(loader, Sized):
            raise DataError(
                f"data.module: {name} returns a {type(loader).__name__}; give one loader that has a length"
            )
        if not len(loader):
            raise DataError(
                f"data.module: {name} gives no batch; a run needs some to train on and to validate"
            )
        epoch, skip = self._use_position() if split == "train" else (0, 0)
        return Passes(loader, self.batch, self.seed, epoch, skip)

    def _dataset(self, split: str, rank: int, world_size: int) -> Any:
        """Never asked for: the loaders are the module's."""
        raise NotImplementedError
