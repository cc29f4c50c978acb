"""The base of DataModules of labelled sequences that fit into memory: splits, batches, baselines.

A kind says how its examples are read (`_read`); the splits, their checks and all that a task asks for are here.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.disk_cache import CacheEntry, cached, sha256_of_array
from gatelab.data.labelled.baselines import Part, label_baselines
from gatelab.data.labelled.examples import Examples, Labelled, Sequences
from gatelab.data.labelled.spec import Inputs, LabelledSpec
from gatelab.data.messages import DataError
from gatelab.data.orders import SimilarLengths
from gatelab.data.specs import SPLITS, check_fractions
from gatelab.data.text.tokenizer import tokenizer_from_dict

Batching = Literal["similar", "random"]


class LabelledOptions(Loading, total=False):
    """Arguments of every kind, see `LabelledDataModule`."""

    split: list[float] | None
    data_seed: int
    train_examples: int | None
    batching: Batching
    batch_size: int
    eval_batch_size: int
    mirror: str | None
    cache: str | None


class LabelledDataModule(GatelabDataModule):
    """Batches of sequences of different lengths, padded, each with its class.

    split: fractions [train, valid, test] of data that come without splits, [train, valid] of the training examples
        where a test split is given, None: 0.8, 0.1, 0.1 or 0.9, 0.1. Each class is shared out by itself.
    data_seed: of that sharing; runs with other seeds train on the same examples.
    train_examples: train on so many only, drawn by data_seed, of each class in proportion; None: all.
    batching: "similar": a training batch holds sequences of similar length (see `SimilarLengths`); "random": any.
    folds, fold: validate on fold `fold` (from 0) of `folds` of the examples that do not test.
    mirror, cache: folders to look for files in before downloading (see fetch.py).
    """

    spec: LabelledSpec
    inputs: ClassVar[Inputs | None] = None  # where the class alone decides it

    def __init__(
        self,
        split: list[float] | None = None,
        data_seed: int = 0,
        train_examples: int | None = None,
        batching: Batching = "similar",
        batch_size: int = 32,
        eval_batch_size: int = 256,
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        if data_seed < 0:
            raise DataError(f"data.data_seed={data_seed}: give 0 or more")
        if split is not None:
            check_fractions(list(split))
        if batching not in ("similar", "random"):
            raise DataError(f"data.batching={batching}: give similar or random")
        self.split, self.data_seed, self.batching = split, data_seed, batching
        self.train_examples = train_examples
        self.mirror, self.cache = mirror, cache
        self.parts: dict[str, Part] = {}

    @abstractmethod
    def _read(self) -> Labelled:
        """Return the examples; `DataError` or `FetchError` say what is missing or wrong."""

    def prepare_data(self) -> None:
        """Set up here: the other processes of the machine then find what was worked out."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read and share out; a second call does nothing."""
        if self.parts:
            return
        data = self._read()
        for number, split in enumerate(SPLITS):
            index = np.flatnonzero(data.parts == number)
            if len(index):
                self.parts[split] = Part(data.sequences.take(index), data.labels[index])
        self.splits = tuple(self.parts)
        self.fingerprint, self.notes = data.fingerprint, data.notes
        self.tokenizer = None if data.tokenizer is None else tokenizer_from_dict(data.tokenizer)
        self.level = data.level
        channels = 0 if data.sequences.values.ndim == 1 else data.sequences.values.shape[1]
        self.spec = LabelledSpec(
            classes=tuple(data.classes),
            vocabulary=0 if channels else self.tokenizer.size if self.tokenizer else 0,
            channels=channels,
            examples={split: len(part.labels) for split, part in self.parts.items()},
            names=tuple(data.channels),
            mean=tuple(data.mean),
            std=tuple(data.std),
        )

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the scores of the most frequent class and of a linear model that knows no order of steps."""
        self._known(split)
        options: dict[str, Any] = {"level": self.level, "mean": self.spec.mean, "std": self.spec.std}
        train, scored = self.parts["train"], self.parts[split]

        def key() -> dict[str, Any]:
            arrays = [array for part in (train, scored) for array in (*part.sequences, part.labels)]
            return {"what": "label baselines", "arrays": [*map(sha256_of_array, arrays)], **options}

        def make() -> CacheEntry:
            return CacheEntry({}, label_baselines(train, scored, len(self.spec.classes), **options))

        return cached(self.cache, key, make).facts

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        part = self.parts[split]
        examples = Examples(*part, self.spec.mean, self.spec.std)
        if self.batching == "random" and split == "train":
            return examples, self._order(split, len(examples), rank, world_size)
        return examples, self._order(split, part.sequences.lengths, rank, world_size, SimilarLengths)

    def new_examples(self, file: Path, spec: LabelledSpec, tokenizer: Any) -> tuple[dict[str, Any], Any]:
        """Read new input as training reads its own: what each example is, as columns; and `LabelledBatch`es of them.

        The labels of the batches mean nothing. spec, tokenizer: of the run. What was done to the file is added to
        `notes`.
        """
        raise DataError(f"{type(self).__name__} reads no new examples")

    def _batches(self, sequences: Sequences, spec: LabelledSpec) -> Any:
        examples = Examples(sequences, np.zeros(len(sequences.lengths), np.int64), spec.mean, spec.std)
        numbers = np.arange(len(examples))
        return (
            examples[some]
            for some in np.split(numbers, range(self.eval_batch_size, len(numbers), self.eval_batch_size))
        )
