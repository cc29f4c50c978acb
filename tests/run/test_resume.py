"""A run goes on from a checkpoint that is whole and its own, on a disk with room, or says why it does not."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from gatelab.run import RequestError, RunFailed, resume
from gatelab.run.load import load_task
from gatelab.run.train import train
from gatelab.tasks import Task, load_checkpoint

pytestmark = pytest.mark.ci

STEPS = 6
SMALL = [
    *("data=lorenz", "data.lookback=8", "data.horizon=4", "data.batch_size=512", "trainer.max_epochs=2"),
    *("trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1"),
    *("model.hidden_size=4", "callbacks.progress=null", "callbacks.throughput=null", "callbacks.memory=null"),
    "callbacks.checkpoints.every_n_steps=1",
    "test=false",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was finished but for its result."""
    folder = Path(train([*SMALL, f"paths.root={tmp_path_factory.mktemp('trained')}"])["run_dir"])
    (folder / "result.json").unlink()
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it; and a way to ask for it again."""
    folder = tmp_path.joinpath(*trained.parts[-3:])
    shutil.copytree(trained, folder)
    return folder, lambda *more: train([*SMALL, f"paths.root={tmp_path}", *more])


def damage(path):
    """Change one bit among the weights, which PyTorch itself would not notice."""
    raw = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["state_dict"]["net.head.bias"].numpy().tobytes()
    raw[raw.index(weights)] ^= 1
    path.write_bytes(raw)
    torch.load(path, weights_only=True)


def contents(folder):
    return {
        p.relative_to(folder): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "run.json"
    }


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_names_both(run, capsys):
    folder, again = run
    rows, weights = (folder / "metrics.csv").read_text(), load_checkpoint(folder / "checkpoints/last.ckpt")
    assert load_checkpoint(folder / "checkpoints/previous.ckpt")["global_step"] == STEPS - 1
    damage(folder / "checkpoints/last.ckpt")
    again()
    said = capsys.readouterr().err
    assert "last.ckpt (" in said
    assert "is not what was written" in said
    assert (
        f"last.ckpt.damaged-1; going on from the one before it, {folder}/checkpoints/previous.ckpt (step 5)"
        in said
    )
    assert (folder / "checkpoints/last.ckpt.damaged-1").is_file()
    assert (folder / "metrics.csv").read_text() == rows
    now = load_checkpoint(folder / "checkpoints/last.ckpt")
    assert all(torch.equal(now["state_dict"][name], value) for name, value in weights["state_dict"].items())


def test_two_damaged_checkpoints_are_both_named_and_nothing_is_changed(run):
    folder, again = run
    for name in ("last", "previous"):
        (folder / f"checkpoints/{name}.ckpt").write_bytes(b"")
    before = contents(folder)
    with pytest.raises(RunFailed, match=r"last\.ckpt \(0 bytes\).*previous\.ckpt \(0 bytes\)"):
        again()
    (folder / "result.json").unlink()  # that it failed
    assert contents(folder) == before


def test_a_damaged_best_checkpoint_is_sought_anew(run, capsys):
    folder, again = run
    (folder / "checkpoints/last.ckpt").unlink()  # so that a validation is left
    damage(folder / "checkpoints/best.ckpt")
    assert again()["validated"]
    assert "best.ckpt.damaged-1; the best is sought anew from step 5" in capsys.readouterr().err
    assert load_checkpoint(folder / "checkpoints/best.ckpt")["global_step"] == STEPS


def change(checkpoint, what):
    if what == "config":
        checkpoint["hyper_parameters"]["config"]["model"]["hidden_size"] = 5
    elif what == "shape":
        checkpoint["state_dict"]["net.head.bias"] = torch.zeros(3)
    else:
        del checkpoint["gatelab"]


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("config", r"last\.ckpt: a checkpoint of another run, model\.hidden_size is 5 there and 4 here"),
        (
            "shape",
            r"last\.ckpt: a checkpoint of another model, net\.head\.bias is \(3,\) there and \(12,\) here",
        ),
        ("plain", r"last\.ckpt: not a checkpoint of Gatelab, it has no 'gatelab'"),
    ],
)
def test_a_foreign_checkpoint_is_refused_and_nothing_is_changed(run, what, named):
    folder, again = run
    path = folder / "checkpoints/last.ckpt"
    checkpoint = load_checkpoint(path)
    change(checkpoint, what)
    torch.save(checkpoint, path)
    before = contents(folder)
    with pytest.raises(RequestError, match=named + ".*nothing was changed"):
        again()
    assert contents(folder) == before
    assert json.loads((folder / "run.json").read_text())["state"] == "refused"


def test_a_run_is_not_scored_with_a_damaged_or_foreign_checkpoint_and_one_line_says_so(run):
    folder, _ = run
    path = folder / "checkpoints/best.ckpt"
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(
        RequestError, match=r"^cannot read the checkpoint .*best\.ckpt \(\d+ bytes\): .*\. The file"
    ):
        load_task(folder)
    path.write_bytes(whole)
    checkpoint = load_checkpoint(path)
    change(checkpoint, "shape")
    torch.save(checkpoint, path)
    with pytest.raises(RequestError, match=r"net\.head\.bias is \(3,\) there and \(12,\) in this run's\.$"):
        load_task(folder)


def test_a_run_does_not_begin_without_room_for_its_checkpoints(run, monkeypatch):
    _, again = run
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(resume.shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    with pytest.raises(
        RequestError, match=r"5\.0 MB are free at .*checkpoints, and this run may need 8\.\d MB"
    ):
        again()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (
            "checkpoints",
            r"cannot write the checkpoint .*\.ckpt: No space left on device \(0\.0 MB to write, .*untouched",
        ),
        (
            "run.json",
            r"No space left on device while writing below .*: make room, and the same command continues",
        ),
    ],
)
def test_a_disk_that_fills_up_keeps_what_there_is_and_says_so(where, said, run, monkeypatch):
    folder, again = run
    shutil.copy(folder / "checkpoints/previous.ckpt", folder / "checkpoints/last.ckpt")  # one step is left
    before = contents(folder)
    flush = os.fsync

    def full(descriptor):
        if where in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunFailed, match=said):
            again()
    after = contents(folder)
    assert {path: after[path] for path in before if path.suffix == ".ckpt"} == {
        path: raw for path, raw in before.items() if path.suffix == ".ckpt"
    }
    assert again()["steps"] == STEPS


def test_a_gpu_without_room_is_told_in_a_sentence_and_the_run_can_go_on(run, monkeypatch):
    folder, again = run
    shutil.copy(folder / "checkpoints/previous.ckpt", folder / "checkpoints/last.ckpt")  # one step is left
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which"

    def no_room(*_):
        raise torch.OutOfMemoryError(said)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", no_room)
        with pytest.raises(
            RunFailed, match=r"^CUDA out of memory\. Tried to allocate 2\.00 GiB\. Lower .*study\.slots"
        ):
            again()
    assert json.loads((folder / "run.json").read_text())["attempts"][-1]["outcome"] == "crashed"
    assert again()["steps"] == STEPS


@pytest.mark.parametrize("left", ["checkpoints", "metrics.csv"])
def test_a_folder_that_lost_its_record_is_begun_anew_and_kept(left, run, capsys):
    """Somebody removed it while the run went on writing there: the rest is not the run's beginning."""
    folder, again = run
    rows, trace = (folder / "metrics.csv").read_text(), (folder / "trace.csv").read_text()
    for path in folder.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    again()
    assert (
        f"{folder} holds no run.json, so the run begins anew; the rest is kept in" in capsys.readouterr().err
    )
    assert ((folder / "metrics.csv").read_text(), (folder / "trace.csv").read_text()) == (rows, trace)
    assert [path.name for path in folder.with_name(f"{folder.name}.old-1").iterdir()] == [left]
