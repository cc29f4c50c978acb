"""A training step never waits for a GPU: it reads no value of a tensor, and copies no number there.

Tensors of the meta device have no values, so whatever would wait for one (`item`, `if tensor`, indexing by a mask)
raises an error. What is left is one look of a recurrent layer at its `lengths`, which it takes for granted here.
"""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gatelab.core import GRU, SequenceClassifier, Translator
from gatelab.data.labelled.spec import LabelledBatch, LabelledSpec
from gatelab.data.pairs.spec import PairBatch, PairSpec
from gatelab.tasks import ClassificationTask, TranslationTask
from gatelab.tasks.optimizers import adam
from gatelab.tasks.resume import each

Make = Callable[..., Any]


def refuse(*args: Any, **kwargs: Any) -> None:
    """Stands for what makes a tensor of Python's numbers on the CPU and copies it."""
    raise AssertionError("a number is copied to the device; torch.full makes it there")


def step(task: Any, batch: Any) -> None:
    """One training step and its gradient, on a device that nobody can wait for."""
    batch = type(batch)(*(each(part, lambda part: part.to("meta")) for part in batch))
    task.to("meta").train()
    task._take_sums(torch.zeros(2, dtype=torch.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "tensor", refuse)
        patch.setattr(torch.Tensor, "new_tensor", refuse)
        task.training_step(batch, 0).backward()
    assert all(p.grad is not None for p in task.net.parameters() if p.requires_grad)


@pytest.mark.parametrize("output", ["point", "quantiles", "gaussian", "student_t"])
def test_a_forecaster(output: str, series_data: Make, make_task: Make) -> None:
    data = series_data()
    step(make_task(data, net={"output": output}), next(iter(data.train_dataloader())))


def test_a_language_model(text_data: Make, make_task: Make) -> None:
    data = text_data()
    task = make_task(data, temporal_regularization=1.0, activation_regularization=1.0)
    step(task, next(iter(data.train_dataloader())))


def plain(kind: Any, net: Any, spec: Any) -> Any:
    """A task around the network that the spec asks for."""
    core = functools.partial(GRU, hidden_size=6)
    return kind(kind.build_net(net, core, spec), spec=spec, optimizer=functools.partial(adam, lr=0.1))


def test_a_classifier() -> None:
    spec = LabelledSpec(("a", "b"), vocabulary=9, channels=0, examples={"train": 3})
    batch = LabelledBatch(
        torch.ones(3, 5, dtype=torch.int64), torch.tensor([5, 2, 3]), torch.tensor([0, 1, 1])
    )
    step(plain(ClassificationTask, SequenceClassifier, spec), batch)


def test_a_translator() -> None:
    spec = PairSpec(9, 0, "word", 0, -1, {"train": 3}, {"train": 9}, {}, "13a")
    tokens = torch.ones(4, 3, dtype=torch.int64)
    batch = PairBatch(tokens, torch.tensor([4, 2, 3]), tokens, tokens)
    step(plain(TranslationTask, functools.partial(Translator, embedding_size=6), spec), batch)
