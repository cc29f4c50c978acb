"""The text DataModule: the loss of a model on it does not depend on windows, streams or processes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gatelab.data.batches import IGNORE
from gatelab.data.errors import DataError
from gatelab.data.text_module import TextDataModule

LINE = "the quick brown fox jumps over the lazy dog and says {} things\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "my.txt"
    file.write_text("".join(LINE.format(i * i % 97) for i in range(300)))
    return str(file)


def module(path, **options) -> TextDataModule:
    data = TextDataModule("text", "char", path=path, **options)
    data.setup()
    return data


class Model(nn.Module):
    """A small GRU language model that forgets within some hundred steps."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.gru = nn.Embedding(vocabulary, 8), nn.GRU(8, 8)
        self.head = nn.Linear(8, vocabulary)
        self.double()

    def mean_loss(self, loaders) -> tuple[float, int]:
        """Carry the state over the windows of each rank's loader; nats per token and tokens."""
        total, count = 0.0, 0
        for loader in loaders:
            state = None
            for inputs, targets, reset in loader:
                if state is not None:
                    state = torch.where(reset[:, None], 0.0, state)
                hidden, state = self.gru(self.embedding(inputs), state)
                logits = self.head(hidden).flatten(0, 1)
                loss = nn.functional.cross_entropy(
                    logits, targets.flatten(), ignore_index=IGNORE, reduction="sum"
                )
                total += float(loss)
                count += int((targets != IGNORE).sum())
        return total / count, count


@torch.no_grad()
@pytest.mark.parametrize(
    ("window", "streams", "world_size"), [(1, 1, 1), (7, 1, 1), (35, 10, 1), (None, 10, 1), (35, 10, 2)]
)
def test_loss_does_not_depend_on_window_streams_or_processes(path, window, streams, world_size):
    data = module(path, eval_batch_size=1, eval_window=None)
    model = Model(data.spec.vocabulary)
    expected = model.mean_loss([data.test_dataloader()])
    assert expected[1] == data.spec.tokens["test"]
    loaders = []
    for rank in range(world_size):
        other = module(path, eval_batch_size=streams, eval_window=window, burn_in=150)
        other.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
        loaders.append(other.test_dataloader())
    loss, tokens = model.mean_loss(loaders)
    assert tokens == expected[1]
    assert loss == pytest.approx(expected[0], rel=1e-6)


def test_training_streams_are_shared_out_over_ranks(path):
    alone = module(path, batch_size=6, window=20)
    shares = []
    for rank in range(2):
        data = module(path, batch_size=6, window=20)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        shares.append(list(data.train_dataloader()))
    for whole, left, right in zip(alone.train_dataloader(), *shares, strict=True):
        assert torch.equal(whole.inputs, torch.cat([left.inputs, right.inputs], dim=1))
        assert torch.equal(whole.targets, torch.cat([left.targets, right.targets], dim=1))


def test_batches_that_cannot_be_shared_are_refused(path):
    data = module(path, batch_size=5)
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)
    with pytest.raises(DataError, match=r"data\.batch_size=5 cannot be shared by 2 processes"):
        data.train_dataloader()


def test_vocabulary_comes_from_the_training_split_alone(tmp_path):
    (tmp_path / "train").write_text("abc\n" * 20)
    (tmp_path / "valid").write_text("abz\n")
    data = TextDataModule("text", "char", path=str(tmp_path / "train"), valid_path=str(tmp_path / "valid"))
    data.setup()
    assert data.splits == ("train", "valid")
    assert data.tokenizer.decode(data.tokens["valid"]) == "ab\ufffd\n"


def test_baselines_are_over_every_token(path):
    data = module(path)
    for split in data.splits:
        for metrics in data.baselines(split).values():
            assert metrics["tokens"] == data.spec.tokens[split]
            assert metrics["bpc"] == pytest.approx(metrics["loss"] / torch.log(torch.tensor(2.0)).item())


def test_unknown_splits_and_missing_setup_are_named(path):
    with pytest.raises(DataError, match=r"call prepare_data\(\) and setup\(\) first"):
        TextDataModule("text", "char", path=path).train_dataloader()
    with pytest.raises(DataError, match="split 'dev': this data has only train, valid, test"):
        module(path).baselines("dev")
