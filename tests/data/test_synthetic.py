"""The memory problems: solvable by their rule, drawn from the seed alone, with splits that share nothing."""

import math

import numpy as np
import pytest
import torch

from gatelab.data.messages import DataError
from gatelab.data.specs import IGNORE
from gatelab.data.synthetic import adding, copy_memory, generator
from gatelab.data.synthetic_module import AddingDataModule, CopyMemoryDataModule


def test_adding_is_the_sum_of_the_two_marked_values():
    past, future = adding(50, 20, generator(0, "train"))
    assert np.allclose((past[:, :, 0] * past[:, :, 1]).sum(axis=1), future[:, 0, 0])
    assert (past[:, :10, 1].sum(axis=1) == 1).all()
    assert (past[:, 10:, 1].sum(axis=1) == 1).all()


def test_copy_memory_asks_for_the_first_ten_symbols():
    inputs, targets = copy_memory(50, 30, generator(0, "train"))
    assert inputs.shape == targets.shape == (50, 50)
    assert (targets[:, -10:] == inputs[:, :10]).all()
    assert (targets[:, :-10] == IGNORE).all()
    assert (inputs[:, 39] == 9).all()
    assert set(np.unique(inputs)) == set(range(10))


@pytest.mark.parametrize("kind", [AddingDataModule, CopyMemoryDataModule])
def test_items_depend_on_the_data_seed_only(kind):
    def fingerprint(**options) -> dict[str, str]:
        data = kind(train_items=20, eval_items=10, **options)
        data.setup()
        return data.fingerprint

    assert fingerprint(seed=1) == fingerprint(seed=2)
    assert fingerprint(data_seed=1) != fingerprint(data_seed=2)
    assert len(set(fingerprint().values())) == 3


def test_adding_module():
    data = AddingDataModule(steps=30, train_items=70, eval_items=2000, batch_size=32)
    data.setup()
    batches = list(data.train_dataloader())
    assert [len(batch.past) for batch in batches] == [32, 32, 6]
    assert batches[0].past.shape == (32, 30, 2)
    assert batches[0].future.shape == (32, 1, 1)
    assert batches[0].past.dtype == batches[0].future.dtype == torch.float32
    assert data.spec.windows == {"train": 70, "valid": 2000, "test": 2000}
    constant = data.baselines("test")["constant"]
    assert constant["mse"] == pytest.approx(1 / 6, abs=0.01)
    assert constant["mase"] == pytest.approx(1, abs=0.05)


def test_copy_memory_module():
    data = CopyMemoryDataModule(delay=12, train_items=40, eval_items=15, batch_size=8, eval_batch_size=10)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == batch.targets.shape == (32, 8)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert batch.reset.all()
    scored = sum(int((b.targets != IGNORE).sum()) for b in data.test_dataloader())
    assert scored == data.spec.tokens["test"] == 150
    assert data.spec.vocabulary == 10
    assert data.spec.characters_per_token("test") == 1.0
    assert data.tokenizer is None
    assert data.baselines("valid")["guess"]["loss"] == math.log(8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AddingDataModule(steps=1), r"data\.steps=1"),
        (lambda: CopyMemoryDataModule(delay=0), r"data\.delay=0"),
        (lambda: AddingDataModule(train_items=0), r"data\.train_items=0"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize("kind", [AddingDataModule, CopyMemoryDataModule])
def test_folds_share_out_the_train_and_valid_items(kind):
    def items(split, **options) -> np.ndarray:
        data = kind(train_items=20, eval_items=6, batch_size=4, eval_batch_size=4, **options)
        data.setup()
        assert data.spec == data._spec({name: len(arrays[0]) for name, arrays in data.arrays.items()})
        return data.arrays[split][0]

    pool = np.concatenate([items("train"), items("valid")])
    blocks = [items("valid", folds=4, fold=fold) for fold in range(4)]
    assert [len(block) for block in blocks] == [7, 7, 6, 6]
    assert np.array_equal(np.concatenate(blocks), pool)
    for fold in range(4):
        others = np.concatenate(blocks[:fold] + blocks[fold + 1 :])
        assert np.array_equal(items("train", folds=4, fold=fold), others)
        assert np.array_equal(items("test", folds=4, fold=fold), items("test"))
    with pytest.raises(DataError, match=r"data\.folds=27: there are only 26 items"):
        items("valid", folds=27, fold=0)
