"""A kind of work that Gatelab does not have: sorting short lists of digits. A network, a DataModule and a task.

Gatelab finds them by the names in `conf/`: `python -m gatelab train --config-dir conf data=sorting` in this folder, or
anywhere with PYTHONPATH=<this folder>. Nothing in `src/` knows of them.

Letters: B lists, T numbers a list, H hidden; the network reads a list and then answers for T more steps.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule
from gatelab.data.specs import Spec
from gatelab.tasks import Task
from gatelab.tasks.contract import GraphInterface, Metric, RunSource, TableSample
from gatelab.tasks.explanation.reading import Part, Reading

DIGITS = 10


@dataclass(frozen=True)
class SortingSpec(Spec):
    """length: T, the numbers of a list; lists: how many each split has."""

    kind: ClassVar[str] = "sorting"
    sizes: ClassVar[tuple[str, ...]] = ("length",)  # what a checkpoint is made for: other data are refused

    length: int
    lists: dict[str, int]


class SortingNet(nn.Module):
    """Numbers [B, T] to logits [B, T, 10] over the number in each place of the sorted list."""

    def __init__(self, length: int, core: Callable[..., nn.Module], embedding_size: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(DIGITS, embedding_size)
        self.questions = nn.Parameter(torch.randn(length, 1, embedding_size))
        self.core: Any = core(input_size=embedding_size)
        self.head = nn.Linear(self.core.hidden_size, DIGITS)

    def forward(self, numbers: Tensor) -> Tensor:
        """Read all numbers, then answer place by place."""
        read = self.embedding(numbers.T)
        asked = self.questions.expand(-1, read.shape[1], -1)
        states, _ = self.core(torch.cat([read, asked]))
        logits: Tensor = self.head(states[len(read) :]).transpose(0, 1)
        return logits


class Lists(Dataset):
    """Lists [N, T]; an array of numbers gives those lists."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: np.ndarray) -> Tensor:
        return self.numbers[torch.from_numpy(index)]


class SortingDataModule(GatelabDataModule):
    """Lists of `length` digits, drawn by `data_seed`."""

    def __init__(
        self,
        length: int = 4,
        train_lists: int = 2000,
        eval_lists: int = 200,
        batch_size: int = 20,
        eval_batch_size: int = 100,
        seed: int = 0,
        data_seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, num_workers=num_workers
        )
        self.length, self.data_seed = length, data_seed
        self.lists = {"train": train_lists, "valid": eval_lists, "test": eval_lists}
        self.numbers: dict[str, Tensor] = {}

    def setup(self, stage: str | None = None) -> None:
        """Draw the lists."""
        draw = np.random.default_rng(self.data_seed)
        for split, count in self.lists.items():
            numbers = draw.integers(0, DIGITS, (count, self.length))
            self.numbers[split] = torch.from_numpy(numbers)
            self.fingerprint[f"sorting/{split}"] = hashlib.sha256(numbers.tobytes()).hexdigest()
        self.splits = tuple(self.lists)
        self.spec = SortingSpec(self.length, self.lists)

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Leaving the lists as they are."""
        numbers = self.numbers[split]
        right = (numbers == numbers.sort(1).values).double().mean()
        return {"as_it_is": {"accuracy": float(right), "numbers": float(numbers.numel())}}

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        train = split == "train"
        size = self.batch_size if train else self.eval_batch_size
        numbers = self.numbers[split]
        order = BatchOrder(
            len(numbers), size, shuffle=train, seed=self.seed, rank=rank, world_size=world_size
        )
        return Lists(numbers), order


class RightNumbers(torchmetrics.Metric):
    """Sums of right numbers and of the loss, divided once."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("right", "nll", "numbers"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, expected: Tensor) -> None:
        """Add logits [B, T, 10] and the sorted lists [B, T]."""
        self.right += (logits.argmax(-1) == expected).sum()
        self.nll += F.cross_entropy(logits.flatten(0, 1), expected.flatten(), reduction="sum")
        self.numbers += expected.numel()

    def compute(self) -> dict[str, Tensor]:
        """The task's figures."""
        share = {"accuracy": self.right / self.numbers, "loss": self.nll / self.numbers}
        return {**share, "numbers": self.numbers}


class SortingTask(Task):
    """Say the sorted list."""

    spec_type: ClassVar[type[SortingSpec]] = SortingSpec
    unit: ClassVar[str] = "lists"
    figures = (
        Metric("accuracy", "right numbers", "share", better="max"),
        Metric("loss", unit="nats per number"),
        Metric("numbers", better=None),
    )
    metric: RightNumbers

    def __init__(self, net: nn.Module, *, monitor: str = "val/accuracy", mode: str = "max", **options: Any):
        super().__init__(net, monitor=monitor, mode=mode, **options)
        self.metric = RightNumbers()

    @classmethod
    def build_net(
        cls, net: Callable[..., nn.Module], core: Callable[..., nn.Module], spec: SortingSpec
    ) -> nn.Module:
        """The network for lists of the data's length."""
        return net(length=spec.length, core=core)

    def count(self, batch: Tensor) -> int:
        """The batch's lists."""
        return len(batch)

    def train_loss(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean NLL, its sum and the number of numbers."""
        expected = batch.sort(1).values
        nll = F.cross_entropy(self.net(batch).flatten(0, 1), expected.flatten(), reduction="sum")
        count = torch.full((), batch.numel(), device=nll.device)
        return nll / self.mean_count(count), nll, count

    def eval_step(self, batch: Tensor) -> None:
        """Score a batch."""
        self.metric.update(self.net(batch), batch.sort(1).values)

    def commands(self) -> list[str]:
        """Lists can be sorted."""
        return ["predict RUN --input lists.txt --output sorted.csv"]

    def said(self, numbers: Tensor) -> list[str]:
        """What the network makes of lists [B, T], in words."""
        with torch.inference_mode():
            return [_words(row) for row in self.net(numbers).argmax(-1)]

    def sample(self, run: RunSource) -> TableSample:
        """The first five lists of the validation split."""
        numbers = run.data.numbers["valid"][:5]
        rows = zip(map(_words, numbers), map(_words, numbers.sort(1).values), self.said(numbers), strict=True)
        note = "The first lists of the validation split."
        return TableSample(note, ("list", "sorted", "said"), tuple(rows))

    def reading(self, run: RunSource, file: Path | None = None) -> Reading:
        """The lists of the validation split: T numbers are read, then T questions are answered."""
        numbers = run.data.numbers["valid"]
        expected = numbers.sort(1).values.flatten()

        def losses() -> Tensor:
            return F.cross_entropy(self.net(numbers).flatten(0, 1), expected, reduction="none")

        steps = [[f"{number} " for number in row] + ["? "] * len(row) for row in numbers[:4].tolist()]
        place = np.tile(np.arange(2.0 * self.spec.length), (len(numbers), 1))
        part = Part("core", self.net.core, steps, "text", probes={"step": place})
        return Reading("The lists of the validation split.", "nats per number", losses, [part])

    def predict(self, run: RunSource, file: Path) -> pd.DataFrame:
        """Sort the lists of a text file, one a line."""
        lists = [[int(word) for word in line.split()] for line in file.read_text().splitlines()]
        if wrong := [row for row in lists if len(row) != self.spec.length]:
            raise ValueError(f"{len(wrong[0])} numbers in a line; the run sorts {self.spec.length}")
        numbers = torch.tensor(lists)
        return pd.DataFrame({"list": list(map(_words, numbers)), "said": self.said(numbers)})

    def graph(self) -> GraphInterface:
        """Numbers in, logits out."""
        length = self.spec.length
        return GraphInterface({"numbers": ("batch", length)}, {"logits": ("batch", length, DIGITS)})

    def example_input(self, batch: int, steps: int) -> tuple[Tensor, ...]:
        """Random lists; their length is the data's."""
        generator = torch.Generator().manual_seed(batch)
        return (torch.randint(DIGITS, (batch, self.spec.length), generator=generator),)


def _words(numbers: Tensor) -> str:
    return " ".join(map(str, numbers.tolist()))
