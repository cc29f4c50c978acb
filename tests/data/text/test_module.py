"""The text DataModule: the loss of a model on it does not depend on windows, streams or processes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gatelab.data.messages import DataError
from gatelab.data.specs import IGNORE
from gatelab.data.text.baselines import text_baselines
from gatelab.data.text.module import TextDataModule

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


def folds_of(path, folds, **options) -> list[TextDataModule]:
    return [module(path, folds=folds, fold=fold, **options) for fold in range(folds)]


def test_every_character_before_the_test_split_is_validated_on_by_exactly_one_fold(path):
    plain, folds = module(path), folds_of(path, 4)
    text = plain.tokenizer.decode(torch.cat([plain.tokens["train"], plain.tokens["valid"]]))
    blocks = [data.tokenizer.decode(data.tokens["valid"]) for data in folds]
    assert "".join(blocks) == text
    for fold, data in enumerate(folds):
        assert data.tokenizer.decode(data.tokens["train"]) == "".join(blocks[:fold] + blocks[fold + 1 :])
        assert data.boundaries == ((len("".join(blocks[:fold])),) if fold in (1, 2) else ())
        assert data.tokenizer.decode(data.tokens["test"]) == plain.tokenizer.decode(plain.tokens["test"])
        assert data.spec.tokens == data.spec.characters == {s: len(t) for s, t in data.tokens.items()}
        assert data.fingerprint == plain.fingerprint
        assert all(block.endswith("\n") for block in blocks)


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_no_training_window_of_a_fold_reads_across_the_gap(tmp_path, level):
    # every line names its own number, so a token that leaked would be recognised
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"line {chr(0x4E00 + i)}\n" for i in range(600)))
    size = 400 if level == "bpe" else None
    options = {"path": str(file), "folds": 3, "fold": 1, "vocabulary_size": size}
    data = TextDataModule("text", level, batch_size=4, window=16, **options)
    data.setup()
    seed, (gap,) = data.spec.seed_token, data.boundaries
    tokens, column_length = data.tokens["train"], -(-len(data.tokens["train"]) // 4)
    stream, step = divmod(gap, column_length)
    batches = list(data.train_dataloader())
    inputs, targets = (torch.cat([getattr(b, name) for b in batches]) for name in ("inputs", "targets"))
    assert inputs[step, stream] == seed
    assert targets[step, stream] == int(tokens[gap])
    starts = torch.tensor([0, *(len(b.inputs) for b in batches[:-1])]).cumsum(0).tolist()
    reset = {(start, i) for start, b in zip(starts, batches, strict=True) for i in range(4) if b.reset[i]}
    assert reset == {*((0, i) for i in range(4)), (step, stream)}


def test_a_fold_has_the_vocabulary_and_baselines_of_its_own_training_text(tmp_path):
    file = tmp_path / "three.txt"
    file.write_text("aaa\n" * 100 + "bbb\n" * 100 + "ccc\n" * 100)
    data = TextDataModule("text", "char", path=str(file), split=[0.5, 0.5], folds=3, fold=1)
    data.setup()
    assert set(data.tokenizer.symbols) == {"a", "c", "\n", "\ufffd"}
    assert set(data.tokenizer.decode(data.tokens["valid"])) == {"\ufffd", "\n"}
    for metrics in data.baselines("valid").values():
        assert metrics["tokens"] == data.spec.tokens["valid"] == 400


def test_the_bigram_of_a_fold_counts_no_pair_across_the_gap(tmp_path):
    (tmp_path / "digits.txt").write_text("".join(f"{i}\n" for i in range(100, 1000)))
    data = module(str(tmp_path / "digits.txt"), folds=3, fold=1)
    train, valid = (data.tokens[split].numpy() for split in ("train", "valid"))
    options = {
        "vocabulary": data.spec.vocabulary,
        "seed_token": data.spec.seed_token,
        "characters": len(valid),
    }
    assert data.baselines("valid") == text_baselines(train, valid, boundaries=data.boundaries, **options)
    assert data.baselines("valid") != text_baselines(train, valid, **options)


@pytest.mark.ci
def test_published_vocabularies_stay_in_every_fold(mirror):
    plain = TextDataModule("ptb_word", mirror=str(mirror))
    plain.setup()
    text = torch.cat([plain.tokens["train"], plain.tokens["valid"]])
    for fold in range(3):
        data = TextDataModule("ptb_word", mirror=str(mirror), folds=3, fold=fold)
        data.setup()
        assert data.tokenizer.symbols == plain.tokenizer.symbols
        assert torch.equal(data.tokens["test"], plain.tokens["test"])
        place = data.boundaries[0] if data.boundaries else (0 if fold == 0 else len(data.tokens["train"]))
        parts = [data.tokens["train"][:place], data.tokens["valid"], data.tokens["train"][place:]]
        assert torch.equal(torch.cat(parts), text)
        # words that this fold never trains on are smoothed, not infinite
        assert all(metrics["ppl"] < 1000 for metrics in data.baselines("valid").values())


@pytest.mark.parametrize(("ending", "noted"), [("", True), ("\n", False)])
def test_files_of_their_own_are_joined_at_a_line_end(tmp_path, ending, noted):
    (tmp_path / "train").write_text("one two\n" * 40 + "one two" + ending)
    (tmp_path / "valid").write_text("three four\n" * 10)
    paths = {"path": str(tmp_path / "train"), "valid_path": str(tmp_path / "valid")}
    data = TextDataModule("text", "word", folds=2, fold=0, **paths)
    data.setup()
    words = data.tokenizer.decode(torch.cat([data.tokens["valid"], data.tokens["train"]])).split()
    assert len(words) == 2 * 51
    assert any("newline" in note for note in data.notes) == noted


def test_notes_say_what_the_fold_is_and_only_then(path):
    (note,) = [n for n in module(path, folds=3, fold=1).notes if "data.fold=1 of data.folds=3" in n]
    assert "nothing is carried over the gap" in note
    assert not any("fold" in n for n in module(path).notes)
    assert module(path, folds=None, fold=None).notes == module(path).notes


def test_a_resumed_pass_goes_on_behind_the_gap(path):
    options = {"folds": 3, "fold": 1, "batch_size": 4, "window": 50}
    whole = list(module(path, **options).train_dataloader())
    for start in range(1, len(whole), 7):
        data = module(path, **options)
        data.skip_batches, data.first_epoch = start, 0
        rest = list(data.train_dataloader())
        for expected, found in zip(whole[start:], rest, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_bad_folds_of_text_are_named(path, tmp_path):
    with pytest.raises(DataError, match=r"data\.folds=3 without data\.fold"):
        module(path, folds=3)
    (tmp_path / "short.txt").write_text("a\nb\n" * 10)
    with pytest.raises(DataError, match=r"data\.folds=10: 38 characters before the test split are too few"):
        module(str(tmp_path / "short.txt"), folds=10, fold=0)
    (tmp_path / "blank.txt").write_text("words and words " * 20 + " " * 320 + "words and words " * 10)
    with pytest.raises(DataError, match=r"data\.fold=1 of data\.folds=2: the valid part holds no token"):
        TextDataModule(
            "text", "word", path=str(tmp_path / "blank.txt"), split=[0.4, 0.4, 0.2], folds=2, fold=1
        ).setup()
