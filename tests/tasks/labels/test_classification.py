"""The scores are those of a written-out computation, and a run trains, goes on, predicts and is exported."""

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.cli.main import main
from gatelab.core import GRU, SequenceClassifier
from gatelab.data import LabelledTableDataModule
from gatelab.data.labelled.scores import BINS
from gatelab.tasks import Checkpoints, ClassificationScores, ClassificationTask
from gatelab.tasks.optimizers import adam

from ..kill_tools import KillAfter, Killed


def scores(logits, labels, parts=1):
    """The figures, from several metrics whose sums were added up as between processes."""
    metrics = [ClassificationScores(logits.shape[1]) for _ in range(parts)]
    for i, metric in enumerate(metrics):
        metric.update(logits[i::parts], labels[i::parts])
    whole = metrics[0]
    for name in ("counts", "bins", "nll"):
        setattr(whole, name, sum(getattr(metric, name) for metric in metrics))
    return {name: float(value) for name, value in whole.compute().items()}


def written_out(logits, labels):
    """Accuracy, macro-F1, loss and calibration error, example by example."""
    rows = [[math.exp(x) for x in row] for row in logits.double().tolist()]
    p = [[x / sum(row) for x in row] for row in rows]
    said = [row.index(max(row)) for row in p]
    truth = labels.tolist()
    pairs = list(zip(said, truth, strict=True))
    f1 = []
    for label in range(logits.shape[1]):
        hits = sum(s == t == label for s, t in pairs)
        if seen := said.count(label) + truth.count(label):
            f1.append(2 * hits / seen)
    gap = 0.0
    for k in range(BINS):
        own = [i for i, row in enumerate(p) if k / BINS < max(row) <= (k + 1) / BINS]
        gap += abs(sum(said[i] == truth[i] for i in own) - sum(max(p[i]) for i in own))
    return {
        "accuracy": sum(s == t for s, t in pairs) / len(pairs),
        "macro_f1": sum(f1) / len(f1),
        "loss": -sum(math.log(row[t]) for row, t in zip(p, truth, strict=True)) / len(truth),
        "ece": gap / len(truth),
        "examples": len(truth),
    }


@pytest.mark.parametrize("parts", [1, 3])
def test_the_scores_are_those_of_a_written_out_computation(parts):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(200, 5, generator=generator)
    logits[:, 4] = -9.0  # a class that nobody has and nobody says
    labels = torch.randint(4, (200,), generator=generator)
    assert scores(logits, labels, parts) == pytest.approx(written_out(logits, labels), rel=1e-12)


def test_a_known_calibration_error():
    # ten answers of probability 0.9, of which six are right; ten of 0.6, all right
    p = torch.tensor([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10, dtype=torch.float64)
    labels = torch.tensor([0] * 6 + [1] * 4 + [0] * 10)
    assert scores(p.log(), labels)["ece"] == pytest.approx((abs(6 - 9) + abs(10 - 6)) / 20)
    certain = torch.tensor([[50.0, 0.0]] * 4)
    assert scores(certain, torch.zeros(4, dtype=torch.int64))["ece"] == pytest.approx(0, abs=1e-12)


MOODS = ("glad", "sad")
OWN = ["data=labelled", "data.text=review", "data.label=mood", "data.min_count=1", "threads=1"]
SMALL = [
    "model.hidden_size=8",
    "trainer.max_epochs=3",
    "callbacks=none",
    "optim.lr=3e-2",
    "data.batch_size=8",
]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """A table of short reviews."""
    draw = np.random.default_rng(0)
    words = {"glad": ["fine", "lovely", "great"], "sad": ["dull", "poor", "weak"]}
    rows = []
    for i in range(120):
        mood = MOODS[i % 2]
        rows.append((" ".join(["a", *draw.choice(words[mood], draw.integers(1, 5)), "film", str(i)]), mood))
    path = tmp_path_factory.mktemp("reviews") / "my.csv"
    pd.DataFrame(rows, columns=["review", "mood"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(reviews):
    """A trained run."""
    root = reviews.parent / "root"
    assert main(["train", *OWN, f"data.path={reviews}", *SMALL, f"paths.root={root}"]) == 0
    (directory,) = (file.parent for file in root.rglob("result.json"))
    return directory


def test_it_learns_and_stands_beside_its_baselines(run):
    result = json.loads((run / "result.json").read_text())
    found = result["splits"]["test"]
    assert found["metrics"]["accuracy"] > 0.9
    assert found["baselines"]["majority_class"]["accuracy"] == 0.5
    assert set(found["baselines"]) == {"majority_class", "bag_of_n_grams"}


def test_it_predicts_texts_of_a_table_and_lines_of_a_file(run, tmp_path, capsys):
    (tmp_path / "new.txt").write_text("a great film\na dull film\n")
    pd.DataFrame({"review": ["a great film", "a dull film"], "n": [1, 2]}).to_csv(
        tmp_path / "new.csv", index=False
    )
    frames = []
    for name in ("new.txt", "new.csv"):
        out = tmp_path / f"{name}.out.csv"
        assert main(["predict", str(run), "--input", str(tmp_path / name), "--output", str(out)]) == 0
        frames.append(pd.read_csv(out))
    assert frames[0].equals(frames[1])
    assert list(frames[0].columns) == ["review", "label", "probability"]
    assert list(frames[0]["label"]) == ["glad", "sad"]
    assert frames[0]["probability"].between(0.5, 1).all()
    (tmp_path / "empty.txt").write_text("a great film\n\n")
    capsys.readouterr()
    assert (
        main(["predict", str(run), "--input", f"{tmp_path}/empty.txt", "--output", f"{tmp_path}/o.csv"]) == 2
    )
    assert "line 2: the text is empty" in capsys.readouterr().err
    absent = f"{tmp_path}/absent.txt"
    assert main(["predict", str(run), "--input", absent, "--output", f"{tmp_path}/o.csv"]) == 2
    assert f"--input {absent}: No such file or directory" in capsys.readouterr().err
    lines = tmp_path / "labels.txt"
    assert main(["predict", str(run), "--input", f"{tmp_path}/new.txt", "--output", str(lines)]) == 2
    assert "here the numbers of 'probability'; write .csv" in capsys.readouterr().err
    assert not lines.exists()


def test_the_report_shows_the_confusion_matrix(run, tmp_path):
    assert main(["report", str(run), "--output", f"{tmp_path}/report.html"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "a row for each true class" in page
    assert ">glad<" in page
    assert '"ticktext":["glad","sad"]' in page  # the picture's axis


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "onnx", "torch-export"])
def test_it_is_exported(kind, run, tmp_path, capsys):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    assert main(["export", str(run), "--format", kind, "--output", f"{tmp_path}/model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"] <= 1e-5


@pytest.mark.parametrize("batching", ["similar", "random"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(batching, reviews, make_trainer, tmp_path):
    def train(folder, *callbacks, resume=False):
        data = LabelledTableDataModule(
            str(reviews), "mood", "review", batching=batching, batch_size=8, seed=4
        )
        data.setup()
        torch.manual_seed(0)
        net = partial(SequenceClassifier, dropout=0.3, embedding_dropout=0.1, embedding_size=6)
        net = ClassificationTask.build_net(net, partial(GRU, hidden_size=6), data.spec)
        task = ClassificationTask(
            net, spec=data.spec, optimizer=partial(adam, lr=0.01), monitor="val/accuracy", mode="max"
        )
        trainer = make_trainer(callbacks=[Checkpoints(str(tmp_path / folder), every_n_steps=1), *callbacks])
        last = str(tmp_path / folder / "last.ckpt") if resume else None
        trainer.fit(task, datamodule=data, ckpt_path=last)
        return torch.cat([p.detach().flatten() for p in task.parameters()])

    whole = train("whole")
    with pytest.raises(Killed):
        train("killed", KillAfter(15))
    assert torch.equal(train("killed", resume=True), whole)


def test_it_is_explained_with_the_words_of_the_first_example(run, reviews, tmp_path, capsys):
    assert main(["explain", str(run), "--json", "--ablations", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["attribution"]["completeness_error"] <= 0.01
    assert found["parts"][0]["steps"][0][0] == "a "
    assert found["context"]["rise"][0] > found["context"]["rise"][-1]
    (tmp_path / "new.txt").write_text("a lovely film 1\na poor film 2\n")
    assert main(["explain", str(run), "--json", "--ablations", "1", "--input", f"{tmp_path}/new.txt"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"] == 2
