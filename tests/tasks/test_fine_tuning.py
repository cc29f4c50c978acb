"""Frozen parts keep every bit; groups are trained from the epoch on that says so, each at its own rate."""

import functools
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from gatelab.core.weights.transfer import part_of
from gatelab.tasks.callbacks import ExponentialAveraging
from gatelab.tasks.fine_tuning import FineTuning
from gatelab.tasks.optimizers import adamw
from gatelab.tasks.schedules import slanted


class Weights(pl.Callback):
    """Keeps the weights of each epoch's end."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.seen.append({name: p.detach().clone() for name, p in pl_module.net.named_parameters()})

    def changed(self, epoch: int) -> set[str]:
        """The parts of which a tensor changed in an epoch."""
        before, after = self.seen[epoch : epoch + 2]
        return {part_of(name) for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture
def trained(text_data: Any, make_task: Any, make_trainer: Any) -> Any:
    def train(epochs: int, callbacks: Any = (), **how: Any) -> tuple[Weights, Any, Any]:
        data = text_data()
        optimizer = functools.partial(adamw, lr=0.01, weight_decay=0.1)
        task = make_task(data, net={"tied": False, "weight_drop": 0.2}, optimizer=optimizer, schedule=slanted)
        task.fine_tuning = FineTuning(task.net, **how)
        weights = Weights()
        trainer = make_trainer(max_epochs=epochs, limit_train_batches=3, callbacks=[weights, *callbacks])
        trainer.fit(task, datamodule=data)
        return weights, task, trainer

    return train


@pytest.mark.parametrize("averaging", [[], [ExponentialAveraging(decay=0.9)]], ids=["", "averaging"])
def test_frozen_parts_keep_every_bit_and_the_others_do_not(trained: Any, averaging: Any) -> None:
    weights, task, _ = trained(2, averaging, freeze=["embedding", "core.0"])
    assert weights.changed(0) == weights.changed(1) == {"core.1", "head"}
    for name, parameter in task.net.named_parameters():  # with averaging, the averages
        frozen = part_of(name) in ("embedding", "core.0")
        assert torch.equal(parameter, weights.seen[0][name]) == frozen, name


def test_one_more_group_is_trained_after_every_so_many_epochs(trained: Any) -> None:
    weights, _, _ = trained(4, freeze=["embedding"], unfreeze=1)
    assert [weights.changed(epoch) for epoch in range(4)] == [
        {"head"},
        {"head", "core.1"},
        {"head", "core.1", "core.0"},
        {"head", "core.1", "core.0"},
    ]


def test_the_rate_of_each_lower_group_is_divided_and_follows_the_schedule(trained: Any) -> None:
    _, task, trainer = trained(1, decay=2.0)
    groups = trainer.optimizers[0].param_groups
    rates: dict[str, set[float]] = {}
    for group in groups:
        for parameter in group["params"]:
            name = next(n for n, p in task.net.named_parameters() if p is parameter)
            rates.setdefault(part_of(name), set()).add(group["lr"] / groups[0]["lr"])
    assert rates == {"head": {1.0}, "core.1": {0.5}, "core.0": {0.25}, "embedding": {0.125}}
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}  # those of the optimiser stay apart


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"freeze": ["encoder"]}, "the network has no part 'encoder'; its parts are embedding, core.0, core.1, head"),
        ({"freeze": ["embedding", "core", "head"]}, "nothing is left to train"),
        ({"unfreeze": 0}, "transfer.unfreeze=0: give at least 1 epoch"),
        ({"decay": 0.5}, "transfer.decay=0.5: give at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(how: Any, said: str, text_data: Any, make_task: Any) -> None:
    with pytest.raises(ValueError, match=said):
        FineTuning(make_task(text_data()).net, **how)
