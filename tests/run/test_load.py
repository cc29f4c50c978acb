"""A run directory from a stranger is data: reading it runs nothing that it names."""

import json
import shutil
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.run.load import load_task, require_trusted_targets
from gatelab.run.record.directory import RunDirectory
from gatelab.run.train import train

SMALL = [
    *("data=lorenz", "data.lookback=8", "data.horizon=4", "data.batch_size=512", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "model.hidden_size=4"),
    *("callbacks.progress=null", "test=false"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Path(train([*SMALL, f"paths.root={tmp_path_factory.mktemp('runs')}"])["run_dir"])


@pytest.fixture
def stranger(trained, tmp_path):
    """A copy of the run; call it with a group and a node to put into its record."""

    def make(group, node):
        run = tmp_path / "theirs"
        shutil.copytree(trained, run)
        record = json.loads((run / "run.json").read_text())
        record["config"][group] = {**record["config"][group], **node}
        (run / "run.json").write_text(json.dumps(record))
        return run

    return make


def evil(tmp_path):
    return {"_target_": "os.mkdir", "_args_": [str(tmp_path / "made")], "_partial_": False}


@pytest.mark.parametrize("command", ["eval", "export", "generate", "reproduce"])
@pytest.mark.parametrize("group", ["model", "data", "optim", "schedule", "task"])
def test_no_command_that_reads_a_run_calls_what_it_names(stranger, tmp_path, command, group, capsys):
    run = stranger(group, evil(tmp_path) if group != "task" else {"net": evil(tmp_path)})
    assert main([command, str(run)]) == 2
    assert "os.mkdir" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_module_that_a_run_names_is_not_even_imported(stranger, tmp_path, monkeypatch):
    (tmp_path / "theircell.py").write_text(f"open({str(tmp_path / 'made')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = stranger("model", {"_target_": "theircell.GRU"})
    with pytest.raises(RequestError, match=r"theircell\.GRU.*--trust"):
        load_task(run)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "target",
    [
        "gatelab.run.process_group.ProcessGroup.start",
        "gatelab.tasks.optimizers.functools.partial",
        "gatelab.run.load.os.system",
        "torch.nn.os.system",
        "torch.load",
        "gatelab.data.files.write_json",
        "pytorch_lightning.os.remove",
    ],
)
def test_a_name_inside_a_trusted_package_is_trusted_only_as_a_network_or_its_like(target):
    with pytest.raises(RequestError, match="is not part of Gatelab"):
        require_trusted_targets({"model": [{"inner": {"_target_": target}}]})


def test_a_run_of_ones_own_network_is_read_with_trust(stranger, tmp_path, monkeypatch):
    (tmp_path / "mycell.py").write_text("from gatelab.core import GRU\n\nclass Mine(GRU):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = stranger("model", {"_target_": "mycell.Mine"})
    assert main(["eval", str(run), "--split", "valid"]) == 2
    assert main(["eval", str(run), "--split", "valid", "--trust"]) == 0


def test_every_target_that_is_shipped_is_trusted(trained):
    require_trusted_targets(
        {k: v for k, v in RunDirectory(trained).read()["config"].items() if k != "logger"}
    )


def test_no_package_around_a_name_of_a_run_is_imported(trained, tmp_path, monkeypatch):
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'made')!r}, 'w')\n")
    (package / "inner.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    for group in ("logger", "callbacks", "trainer"):
        shutil.copytree(trained, run)
        edit(run, lambda record, g=group: record["config"].update({g: {"x": {"_target_": "theirs.inner.X"}}}))
        load_task(run)
        shutil.rmtree(run)
    assert not (tmp_path / "made").exists()


def edit(run, change):
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.ci
def test_reading_a_run_writes_to_no_cache_that_it_names_and_follows_no_link_out_of_it(
    trained, tmp_path, capsys
):
    run, theirs = tmp_path / "runs" / "x" / trained.name, tmp_path / "elsewhere"
    shutil.copytree(trained, run)
    theirs.mkdir()
    (run / "export").symlink_to(theirs)
    edit(run, lambda record: record["config"]["data"].update(cache=str(theirs), num_workers=10**4))
    assert main(["eval", str(run), "--split", "valid"]) == 0
    assert "it is used with --trust only" in capsys.readouterr().err
    assert main(["report", str(run), "--output", str(tmp_path / "r.html")]) == 0
    assert main(["reproduce", str(run), "--steps", "1"]) == 0
    assert main(["export", str(run)]) == 2
    assert "a link leads out" in capsys.readouterr().err
    assert not list(theirs.iterdir())
    assert load_task(run).config["data"]["num_workers"] < 10**4
    edit(run, lambda record: record["config"]["data"].update(cache=str(tmp_path / "data")))  # the run's own
    assert load_task(run).config["data"]["cache"] == str(tmp_path / "data")


@pytest.mark.parametrize(
    "target",
    [
        "pytorch_lightning.demos.mnist_datamodule.MNISTDataModule",
        "pytorch_lightning.demos.boring_classes.BoringModel",
        "pytorch_lightning.LightningDataModule",
        "pytorch_lightning.callbacks.spike.SpikeDetection",
        "pytorch_lightning.cli.SaveConfigCallback",
        "gatelab.__main__.main",
    ],
)
def test_classes_that_read_or_write_what_is_named_are_not_trusted(target):
    with pytest.raises(RequestError, match="is not part of Gatelab"):
        require_trusted_targets({"data": {"_target_": target}})
