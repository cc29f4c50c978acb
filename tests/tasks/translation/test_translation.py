"""Translation trains, is scored over every sentence whatever the batches, predicts, and resumes exactly."""

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from gatelab.core import GRU, Translator
from gatelab.data import PairsDataModule
from gatelab.data.specs import IGNORE
from gatelab.tasks import Checkpoints, TranslationTask
from gatelab.tasks.contract import Remark
from gatelab.tasks.explanation.measure import explain
from gatelab.tasks.optimizers import adam

from ..kill_tools import KillAfter, Killed

WORDS = {"a": "one", "b": "two", "c": "three", "d": "four", "e": "five", "f": "six"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Rows of letters, and the same as numbers in words."""
    folder = tmp_path_factory.mktemp("pairs")
    torch.manual_seed(0)
    rows = [[list(WORDS)[i] for i in torch.randint(6, (1 + n % 6,))] for n in range(120)]
    (folder / "letters.txt").write_text("\n".join(" ".join(row) for row in rows))
    (folder / "numbers.txt").write_text("\n".join(" ".join(WORDS[x] for x in row) for row in rows))
    return {"source": f"{folder}/letters.txt", "target": f"{folder}/numbers.txt", "split": [0.8, 0.2]}


@pytest.fixture
def make_data(files):
    def make(**options: Any) -> PairsDataModule:
        sizes = {"batch_size": 8, "batch_tokens": 40, "eval_batch_size": 10, "seed": 5}
        data = PairsDataModule(corpus="pairs", **{**files, **sizes, **options})
        data.prepare_data()
        data.setup()
        return data

    return make


def make(data: Any, dropout: float = 0.0, **options: Any) -> TranslationTask:
    torch.manual_seed(0)
    net = functools.partial(Translator, embedding_size=32, dropout=dropout)
    core = functools.partial(GRU, hidden_size=32)
    built = TranslationTask.build_net(net, core, data.spec)
    return TranslationTask(
        built, spec=data.spec, optimizer=functools.partial(adam, lr=0.01), mode="max", seed=3, **options
    )


class Run:
    """What a task is asked about."""

    def __init__(self, data: Any) -> None:
        self.data = self.reader = data
        self.tokenizer = data.tokenizer


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """A task that has learnt the numbers, and its data."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(tmp_path_factory.mktemp("trained"))
        warnings.simplefilter("ignore")  # Lightning's advice
        data = PairsDataModule(corpus="pairs", batch_size=8, eval_batch_size=10, **files)
        data.setup()
        task = make(data, beam=2)
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=24,
            check_val_every_n_epoch=24,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            log_every_n_steps=4,
            **options,
        )
        trainer.fit(task, datamodule=data)
    return task.eval(), data


def test_it_learns_to_translate(trained):
    task, data = trained
    assert task.results["val"]["bleu"] > 45, task.results
    assert task.results["val"]["bleu"] > data.baselines("valid")["copy"]["bleu"]
    assert task.results["val"]["sentences"] == 24
    assert "unknown" not in task.results["val"]


def test_no_score_depends_on_the_batches(trained, make_data, make_trainer):
    task, _ = trained
    found = []
    for size in (1, 7, 24):
        data = make_data(eval_batch_size=size)
        make_trainer().validate(task, dataloaders=data.dataloader("valid"), verbose=False)
        found.append(task.results["val"])
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-6)


def test_loss_is_that_of_every_target_token_with_its_end(trained, make_trainer):
    task, data = trained
    make_trainer().validate(task, dataloaders=data.dataloader("valid"), verbose=False)
    nll, count = 0.0, 0
    with torch.no_grad():
        for n in range(24):
            batch = data.batch("valid", [n])
            log = task.net(batch.source, batch.lengths, batch.inputs)[:, 0].double().log_softmax(-1)
            nll -= float(log.gather(1, batch.targets).sum())
            count += len(batch.targets)
    assert task.results["val"]["tokens"] == count == data.spec.tokens["valid"]
    assert task.results["val"]["loss"] == pytest.approx(nll / count, rel=1e-6)
    assert task.results["val"]["ppl"] == pytest.approx(torch.tensor(nll / count).exp().item(), rel=1e-6)


def test_label_smoothing_is_in_the_objective_alone(make_data):
    data = make_data()
    batch = data.batch("train", range(8))
    plain, smooth = make(data).train_loss(batch), make(data, label_smoothing=0.2).train_loss(batch)
    logits = make(data).net(batch.source, batch.lengths, batch.inputs).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), label_smoothing=0.2)
    torch.testing.assert_close(smooth[0], expected)
    torch.testing.assert_close(smooth[1], plain[1])
    torch.testing.assert_close(plain[0], plain[1] / plain[2])


def test_it_learns_its_teachers_probability_of_each_word(make_data):
    data = make_data()
    teacher = make(data)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    task, batch = (
        make(data, teacher=teacher, distill_weight=0.4, temperature=3.0),
        data.batch("train", range(8)),
    )
    objective, nll, count = task.train_loss(batch)
    v, u = (one.net(batch.source, batch.lengths, batch.inputs) for one in (task, teacher))
    p, q = (F.softmax(logits.double() / 3, -1) for logits in (v, u))
    soft = (9 * (q * (q.log() - p.log())).sum(-1))[batch.targets != IGNORE].sum()
    assert float(soft.detach()) > 0.1
    assert torch.allclose(objective.double(), (0.6 * nll + 0.4 * soft) / count, rtol=1e-5)


def test_a_row_of_another_beam_is_scored(trained):
    task, data = trained
    ticks: list[int] = []

    def progress(*_: Any) -> Any:
        return ticks.append

    row = task.score_row("beam", {"width": [3], "length_penalty": [0.5]}, data, "valid", progress)
    assert row.parameters == {"width": 3, "length_penalty": 0.5}
    assert row.metrics["sentences"] == sum(ticks) == 24
    with pytest.raises(ValueError, match="one width at a time"):
        task.score_row("beam", {"width": [3, 4], "length_penalty": [1.0]}, data, "valid", progress)


def test_it_predicts_line_by_line_and_tells_what_it_cannot_read(trained, tmp_path):
    task, data = trained
    file = tmp_path / "in.txt"
    file.write_text("a b c\nf\nd d\n")
    frame = task.predict(Run(data), file)
    assert list(frame["source"]) == ["a b c", "f", "d d"]
    assert list(frame["translation"]) == [
        task.translate(data.tokenizer, [line])[0] for line in frame["source"]
    ]
    for empty in ("", " ", "\u200b"):
        file.write_text(f"a b c\n{empty}\nd\n")
        with pytest.raises(ValueError, match="line 2 is empty"):
            task.predict(Run(data), file)
    file.write_text("a xyz\n")
    with pytest.warns(Remark, match="read as unknown: xyz"):
        task.predict(Run(data), file)
    for name, content, said in (
        ("in.tsv", "de\ten\na\tb\n", "is a table; write its sentences into a text file"),
        ("in.html", "<!DOCTYPE html>\n<p>a", "is a web page or XML"),
        ("in.json", '{"de": "a"}\n', "is JSON"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=said):
            task.predict(Run(data), tmp_path / name)


def test_the_sample_shows_sentences_and_what_each_word_attends_to(trained):
    task, data = trained
    table = task.sample(Run(data))
    assert table.columns == ("source", "translation", "reference", "attention")
    assert len(table.rows) == 6
    source, said, reference, attention = table.rows[0]
    assert (source, reference) == (data.pairs["valid"].sources[0], data.pairs["valid"].targets[0])
    assert [pair.partition("←")[0] for pair in attention.split()] == said.split()
    assert {pair.partition("←")[2] for pair in attention.split()} <= {*source.split(), "end"}
    _, first, _ = task.samples(Run(data))
    assert [word.strip() for word in first.rows] == [*said.split(), "(end)"]
    assert [word.strip() for word in first.columns] == [*source.split(), "(end)"]
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in first.values)


def test_what_is_said_of_the_scores_is_recorded(trained):
    told = trained[0].describe()
    assert "tok:13a" in told["signatures"]["bleu"]
    assert told["metrics"][0]["better"] == "max"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beam": 0}, "beam"),
        ({"length_penalty": -1.0}, "length_penalty"),
        ({"label_smoothing": 1.0}, "label"),
    ],
)
def test_options_out_of_range_are_refused(make_data, options, said):
    with pytest.raises(ValueError, match=said):
        make(make_data(), **options)


def test_resume_inside_an_epoch_is_bitwise_equal(make_data, make_trainer, tmp_path: Path):
    steps = len(make_data().train_dataloader())
    kill = steps + 5

    def fit(folder: str, *callbacks: Any, resume: bool = False) -> TranslationTask:
        data = make_data()
        task = make(data, dropout=0.3)
        saver = Checkpoints(str(tmp_path / folder), every_n_steps=3)
        path = str(tmp_path / folder / "last.ckpt") if resume else None
        make_trainer(callbacks=[saver, *callbacks]).fit(task, datamodule=data, ckpt_path=path)
        return task

    whole = fit("whole")
    with pytest.raises(Killed):
        fit("killed", KillAfter(kill))
    again = fit("killed", resume=True)
    assert whole.steps == again.steps == 2 * steps
    assert whole.results == again.results
    for (name, ours), theirs in zip(again.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.ci
def test_it_is_explained_with_its_attention(trained, tmp_path):
    task, data = trained
    reading = task.reading(Run(data))
    found = explain(reading, ablations=2)
    batch = data.batch("valid", range(task.spec.pairs["valid"]))
    assert found["losses"] == int((batch.targets != IGNORE).sum())
    assert [part["name"] for part in found["parts"]] == ["encoder", "decoder"]
    assert found["attribution"]["completeness_error"] <= 0.01
    for row in found["maps"][0]["values"]:
        assert sum(row) == pytest.approx(1, abs=1e-3)
    file = tmp_path / "in.txt"
    file.write_text("a b c\nd d\n")
    own = task.reading(Run(data), file)
    assert len(own.losses()) == sum(
        len(words.split()) + 1 for words in task.translate(data.tokenizer, ["a b c", "d d"])
    )
    assert own.parts[0].steps[1] == ["d ", "d ", "(end)"]
