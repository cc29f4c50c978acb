"""Loaders under Lightning: the order survives workers, epochs, resuming, and Lightning's own samplers."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from gatelab.data.messages import DataError
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.synthetic_module import AddingDataModule

# about Lightning's own habits, not about the data
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        ".*does not have many workers",
        ".*LeafSpec",
        ".*smaller than the logging",
        "You requested to overfit",
    )
]


def module(num_workers: int = 0, **options) -> AddingDataModule:
    data = AddingDataModule(
        steps=4, train_items=45, eval_items=10, batch_size=8, num_workers=num_workers, **options
    )
    data.setup()
    return data


def firsts(loader) -> list[list[float]]:
    """What tells the items of each batch apart: their first value."""
    return [batch.past[:, 0, 0].tolist() for batch in loader]


class Recorder(pl.LightningModule):
    """Writes down the batches of every epoch; trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[list[float]]] = {}

    def training_step(self, batch, index):
        self.seen.setdefault(self.current_epoch, []).append(batch.past[:, 0, 0].tolist())
        return self.weight * 0

    def validation_step(self, batch, index):
        """Nothing: Lightning warns where it is missing."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: pl.LightningDataModule, **options) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2} | options,
    )
    trainer.fit(recorder, data)
    return recorder


def order_of(epoch: int, **options) -> list[list[float]]:
    data = module(**options)
    data.first_epoch = epoch
    return firsts(data.train_dataloader())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lightning_sees_the_order_of_each_epoch(num_workers):
    seen = fit(module(num_workers)).seen
    assert seen == {0: order_of(0), 1: order_of(1)}
    assert seen[0] != seen[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skip_batches_is_exact_and_used_once(num_workers):
    data = module(num_workers)
    data.skip_batches, data.first_epoch = 4, 3
    loader = data.train_dataloader()
    assert (data.skip_batches, data.first_epoch) == (0, None)
    assert len(loader) == 6
    assert firsts(loader) == order_of(3)[4:]
    assert firsts(loader) == order_of(3)
    assert firsts(data.train_dataloader()) == order_of(0)


def test_skipping_more_than_an_epoch_is_refused():
    data = module()
    data.skip_batches = 7
    with pytest.raises(DataError, match="skip_batches=7: an epoch has 6 batches"):
        data.train_dataloader()


def test_overfitting_repeats_whole_batches():
    seen = fit(module(), overfit_batches=2).seen
    assert seen[0] == seen[1]
    assert [len(batch) for batch in seen[0]] == [8, 8]


def test_lightning_leaves_our_sampler_alone_under_ddp():
    data = SeriesDataModule("embedded_series", lookback=8, horizon=4, batch_size=10)
    data.setup()
    trainer = pl.Trainer(
        accelerator="cpu", strategy="ddp_spawn", devices=2, logger=False, enable_checkpointing=False
    )
    loader = data.train_dataloader()
    assert trainer._data_connector._prepare_dataloader(loader, shuffle=True, mode=None) is loader


def test_setup_twice_changes_nothing():
    data = module()
    before = data.arrays["train"][0]
    data.setup()
    assert data.arrays["train"][0] is before


@pytest.mark.parametrize(("device", "pinned"), [("cuda:1", True), ("cpu", False)])
def test_batches_are_pinned_where_they_go_to_a_gpu(device: str, pinned: bool) -> None:
    data = module()
    assert not data.train_dataloader().pin_memory  # no trainer: read on the CPU
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy)
    for split in data.splits:
        assert data.dataloader(split).pin_memory is pinned
