"""A run asked for with more epochs has the bits of a run of that length from the start, however it comes to them."""

import json
from pathlib import Path

import pytest

from gatelab.run.config import compose
from gatelab.run.extend import _same_rates
from gatelab.run.record.directory import RunDirectory
from gatelab.run.train import train

pytestmark = pytest.mark.ci

SMALL = [
    *("data=lorenz", "data.lookback=8", "data.horizon=4", "data.batch_size=512", "name=small"),
    *("trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1"),
    *("model.hidden_size=4", "model.num_layers=2", "model.dropout=0.2", "test=false"),
    *("callbacks.progress=null", "callbacks.throughput=null", "callbacks.memory=null"),
]
GOES_ON = {
    "a constant rate and a limit of steps that is not reached": ["trainer.max_steps=1000"],
    "a warm-up in steps and accumulated gradients": [
        "schedule.warmup=3",
        "trainer.accumulate_grad_batches=2",
    ],
    "two validations an epoch": ["schedule=step", "schedule.every=2", "trainer.val_check_interval=1"],
    "a validation every second epoch": ["schedule=plateau", "trainer.check_val_every_n_epoch=2"],
}
RATES = {
    "linear": ["schedule=linear"],
    "onecycle": ["schedule=onecycle"],
    "a warm-up as a share": ["schedule.warmup=0.5"],
    "steps of the rate as a share": ["schedule=step"],
}
FROM_THE_START = {
    "cosine": (["schedule=cosine"], "learning rate depends"),
    "no validation at its end": (["trainer.check_val_every_n_epoch=4"], "did not end with a validation"),
    "stopped by the steps": (["trainer.max_steps=5"], "did not end by trainer.max_epochs"),
    "a callback of Lightning": (
        [
            "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping",
            "+callbacks.stop.monitor=val/mse",
        ],
        "callbacks: pytorch_lightning.callbacks.EarlyStopping may depend",
    ),
}
TEXT = [
    *("data=stdlib", "data.max_characters=20000", "data.batch_size=4", "data.window=16", "name=small"),
    *(text for text in SMALL if text.startswith(("trainer.", "model.", "callbacks.", "test"))),
]


def bits(result):
    folder = Path(result["run_dir"])
    scores = {split: report["metrics"] for split, report in result["splits"].items()}
    facts = [result[key] for key in ("best", "best_epoch", "epochs", "steps")]
    return (folder / "trace.csv").read_text(), (folder / "metrics.csv").read_text(), scores, facts


def extended(request, root, capsys):
    """The longer run after the shorter, and what was said about it."""
    train([*request, "trainer.max_epochs=2", f"paths.root={root}/after"])
    capsys.readouterr()
    after = train([*request, "trainer.max_epochs=4", f"paths.root={root}/after"])
    return after, capsys.readouterr().err


@pytest.mark.parametrize("case", [*GOES_ON, "text"])
@pytest.mark.quick(3)
def test_more_epochs_go_on_from_the_shorter_run_to_the_same_bits(case, tmp_path, capsys):
    request = TEXT if case == "text" else [*SMALL, *GOES_ON[case]]
    after, said = extended(request, tmp_path, capsys)
    alone = train([*request, "trainer.max_epochs=4", f"paths.root={tmp_path}/alone"])
    assert "has 2 of the 4 epochs; this run goes on from there" in said
    assert "from step" in said
    assert bits(after) == bits(alone)
    record = RunDirectory(after["run_dir"]).read()
    assert (Path(after["run_dir"]) / record["extends"]).resolve().is_dir()
    assert len(record["attempts"]) == 2


@pytest.mark.parametrize("case", FROM_THE_START)
@pytest.mark.quick(1)
def test_where_the_bits_would_differ_the_run_starts_from_the_beginning_and_says_why(case, tmp_path, capsys):
    more, why = FROM_THE_START[case]
    after, said = extended([*SMALL, *more], tmp_path, capsys)
    assert why in said
    assert "from step" not in said
    assert "extends" not in RunDirectory(after["run_dir"]).read()


@pytest.mark.parametrize("case", RATES)
def test_a_rate_that_depends_on_the_length_is_seen(case):
    config = compose([*SMALL, *RATES[case], "trainer.max_epochs=4"]).resolved()
    assert not _same_rates(config, epochs=2, steps=6)
    assert _same_rates(compose([*SMALL, "trainer.max_epochs=4"]).resolved(), epochs=2, steps=6)


def test_only_a_finished_run_of_the_same_seed_code_and_machine_is_gone_on_from(tmp_path, capsys):
    root = f"paths.root={tmp_path}"
    short = Path(train([*SMALL, "trainer.max_epochs=2", root])["run_dir"])
    before = {path: path.read_bytes() for path in short.rglob("*") if path.is_file()}
    capsys.readouterr()
    train([*SMALL, "trainer.max_epochs=3", root, "seed=1"])
    train([*SMALL, "trainer.max_epochs=3", root, "optim.lr=0.5"])
    assert "epochs;" not in capsys.readouterr().err
    record = json.loads((short / "run.json").read_text())
    record["attempts"][-1]["environment"]["versions"]["torch"] = "1.0"
    (short / "run.json").write_text(json.dumps(record))
    train([*SMALL, "trainer.max_epochs=3", root])
    assert "the environment differs, versions.torch: 1.0 -> " in capsys.readouterr().err
    (short / "run.json").write_bytes(before[short / "run.json"])
    train([*SMALL, "trainer.max_epochs=4", root])
    assert "has 3 of the 4 epochs" in capsys.readouterr().err
    train([*SMALL, "trainer.max_epochs=5", root], force=True)
    assert "epochs;" not in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in short.rglob("*") if path.is_file()}


def test_tags_and_notes_are_kept_added_to_and_not_part_of_the_run(tmp_path):
    request = [*SMALL, "trainer.max_epochs=1", f"paths.root={tmp_path}"]
    first = train([*request, "tags=[a,b]", "note=the first"])
    again = train([*request, "tags=[b,c]"])
    assert again["already"]
    assert again["run_dir"] == first["run_dir"]
    config = RunDirectory(first["run_dir"]).read()["config"]
    assert (config["tags"], config["note"]) == (["a", "b", "c"], "the first")
    train([*request, "note=another"])
    assert RunDirectory(first["run_dir"]).read()["config"]["note"] == "another"
