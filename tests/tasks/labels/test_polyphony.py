"""Frames are scored once each, whatever is padded; a run trains, predicts and is exported."""

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.cli.main import main
from gatelab.core import GRU, FrameModel
from gatelab.data.labelled.examples import Sequences
from gatelab.data.polyphony.module import PolyphonyDataModule
from gatelab.data.polyphony.spec import FramesBatch, PolyphonySpec, key_name
from gatelab.tasks import FrameScores, PolyphonyTask
from gatelab.tasks.optimizers import adam

KEYS = 4


def pieces(*lengths, seed=0):
    draw = np.random.default_rng(seed)
    return Sequences.of([draw.integers(0, 2, (n, KEYS)).astype(np.uint8) for n in lengths])


def task_of(keys=KEYS):
    torch.manual_seed(0)
    spec = PolyphonySpec(keys, {}, {})
    net = PolyphonyTask.build_net(FrameModel, partial(GRU, hidden_size=5), spec).double()
    return PolyphonyTask(net, spec=spec, optimizer=partial(adam, lr=0.01))


def batch_of(sequences, index):
    frames, lengths = sequences.padded(np.array(index))
    return FramesBatch(frames.double(), lengths)


def test_a_padded_batch_is_its_single_pieces():
    task, some = task_of(), pieces(3, 7, 2)

    def nll_and_gradient(*index):
        task.zero_grad()
        _, nll, count = task.train_loss(batch_of(some, index))
        nll.backward()
        return nll.detach(), count, torch.cat([p.grad.flatten() for p in task.net.parameters()])

    together = nll_and_gradient(0, 1, 2)
    alone = [nll_and_gradient(i) for i in range(3)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, sum(parts), rtol=0, atol=1e-12)
    assert int(together[1]) == 2 + 6 + 1


def test_the_scores_are_those_of_a_written_out_computation():
    logits, truth = torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    metric = FrameScores()
    metric.update(logits, truth)
    p = [[1 / (1 + math.exp(-x)) for x in row] for row in logits.tolist()]
    nll = -math.log(p[0][0]) - math.log(p[0][1]) - math.log(1 - p[1][0]) - math.log(p[1][1])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx({"loss": nll / 2, "accuracy": 2 / 4, "frames": 2})


def test_keys_by_themselves_are_scored_by_their_frequencies():
    data = PolyphonyDataModule()
    data.pieces = {"train": pieces(50, 30), "valid": pieces(9, 4, seed=1)}
    data.splits = ("train", "valid")
    now = np.concatenate([p[1:] for p in np.split(data.pieces["train"].values, [50])])
    p = (now.sum(0) + 0.5) / (len(now) + 1)
    truth = np.concatenate([p[1:] for p in np.split(data.pieces["valid"].values, [9])])
    nll = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).sum() / len(truth)
    found = data.baselines("valid")
    assert found["key_by_key"]["loss"] == pytest.approx(nll)
    assert found["key_by_key"]["frames"] == 8 + 3
    data.pieces["valid"] = Sequences.of([np.tile(np.array([[1, 0, 1, 0]], np.uint8), (20, 1))])
    data.pieces["train"] = data.pieces["valid"]
    assert data.baselines("valid")["key_given_last"]["loss"] < 0.2


def test_a_core_that_sees_the_next_frame_is_refused():
    with pytest.raises(ValueError, match="would see the next frame"):
        FrameModel(4, partial(GRU, hidden_size=3, bidirectional=True))


def test_keys_have_the_names_of_a_piano():
    assert [key_name(key) for key in (0, 39, 48, 87)] == ["A0", "C4", "A4", "C8"]


def test_chorales_train_predict_and_are_exported(mirror, tmp_path, capsys):
    small = [
        "model.hidden_size=8",
        "trainer.max_steps=2",
        "callbacks=none",
        "threads=1",
        f"paths.root={tmp_path}",
    ]
    assert main(["train", "data=jsb", *small]) == 0
    (run,) = (file.parent for file in tmp_path.rglob("result.json"))
    found = json.loads((run / "result.json").read_text())["splits"]["test"]
    assert found["metrics"]["frames"] == 4725 - 77
    assert found["baselines"]["key_by_key"]["loss"] == pytest.approx(11.09, abs=0.01)
    (tmp_path / "frames.txt").write_text("60 64 67\n\n60\n")
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), "--input", f"{tmp_path}/frames.txt", "--output", str(out)]) == 0
    frame = pd.read_csv(out)
    assert frame["keys"].fillna("").tolist() == ["C4 E4 G4", "", "C4"]
    assert frame["nll"].notna().tolist() == [False, True, True]
    (tmp_path / "wrong.txt").write_text("60\n12 x\n")
    capsys.readouterr()
    assert (
        main(["predict", str(run), "--input", f"{tmp_path}/wrong.txt", "--output", f"{tmp_path}/o.csv"]) == 2
    )
    assert "line 2: '12' is no MIDI number from 21 to 108" in capsys.readouterr().err
    assert main(["export", str(run), "--format", "safetensors"]) == 0
    capsys.readouterr()
    assert main(["explain", str(run), "--json", "--ablations", "1"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["attribution"]["completeness_error"] <= 0.01
    assert "keys that sound" in explained["parts"][0]["probes"]
