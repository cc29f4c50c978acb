"""Files that own classes read are part of a run: an edit is told by name, and neither reported over nor mixed in."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from gatelab.run import RequestError
from gatelab.run.load import load_data
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.sources import own_files
from gatelab.run.reproduce import reproduce
from gatelab.run.train import train

from .test_reproduce import InThisProcess

pytestmark = [pytest.mark.ci, pytest.mark.filterwarnings("ignore")]

MODULE = """
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from gatelab import GRU

    class Reads(pl.LightningDataModule):
        def __init__(self, path=None, options=None, folder="sounds"):
            super().__init__()
            self.folder = folder

        def _loader(self, items):
            draw = torch.Generator().manual_seed(items)
            past, future = (torch.randn(items, steps, 1, generator=draw) for steps in (8, 2))
            return DataLoader(TensorDataset(past, future), batch_size=4)

        def train_dataloader(self):
            return self._loader(12)

        def val_dataloader(self):
            return self._loader(5)

    class Names(Reads):
        def data_files(self):
            return [self.folder]

    class Cell(GRU):
        def __init__(self, input_size, hidden_size, table=None, more=None):
            super().__init__(input_size, hidden_size)
"""
SPEC = (
    "+data.spec={kind:forecasting,channels:[a],targets:[a],target_index:[0],lookback:8,horizon:2,season:1,"
    "frequency:'',mean:[0.0],std:[1.0],mase_scale:[1.0],windows:{train:12,valid:5}}"
)
BASE = (
    *(
        "task=forecasting",
        "task.net.normalization=none",
        "model.hidden_size=2",
        "callbacks=none",
        "test=false",
    ),
    *("threads=1", "trainer.max_steps=2", "data._target_=gatelab.data.PlainDataModule", SPEC),
)
CELL = ("model._target_=own_reader.Cell", "~model.num_layers")
NAMED = {
    "data.module.path": (["+data.module={_target_: own_reader.Reads, path: a/one.txt}"], "a/one.txt"),
    "data.module.options.files.1": (
        ["+data.module={_target_: own_reader.Reads, options: {files: [none, a/one.txt]}}"],
        "a/one.txt",
    ),
    "model.table": ([*CELL, "+model.table=a/one.txt"], "a/one.txt"),
    "model.more.0.file": ([*CELL, "+model.more=[{file: a/one.txt}]"], "a/one.txt"),
    "one.txt": (["+data.module={_target_: own_reader.Names, folder: 'a/o*.txt'}"], "a/one.txt"),
    "one.txt ": (["+data.module={_target_: own_reader.Names, folder: a}"], "a/one.txt"),
    "b/two.txt": (["+data.module={_target_: own_reader.Names, folder: a}"], "a/b/two.txt"),
    "two.txt": (["+data.module={_target_: own_reader.Names, folder: 'a/*/t*.txt'}"], "a/b/two.txt"),
}
"""What a changed file is called -> how it is named, and where it lies; a mark behind it tells two of one name apart."""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A folder with own classes and two files, where the command stands."""
    (tmp_path / "own_reader.py").write_text(dedent(MODULE))
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("a/one.txt", "a/b/two.txt"):
        (tmp_path / name).write_text("1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gatelab.run.reproduce.ProcessGroup", InThisProcess())
    yield tmp_path
    sys.modules.pop("own_reader", None)


def request(given, *more):
    module = [] if given[0].startswith("+data.module") else ["+data.module._target_=own_reader.Reads"]
    return [*BASE, *given, *module, "paths.root=out", *more]


@pytest.mark.parametrize("called", NAMED)
def test_a_changed_file_of_an_own_class_is_told_by_name(called, own):
    given, file = NAMED[called]
    called = called.strip()
    result = train(request(given))
    assert called in RunDirectory(result["run_dir"]).read()["data"]
    (own / file).write_text("2\n")
    with pytest.raises(RequestError, match=f"data: {called} has changed since the run began"):
        train(request(given))
    (own / file).write_text("1\n")
    assert train(request(given))["already"]


def test_no_command_goes_on_with_another_file(own):
    given, file = NAMED["model.table"]
    run = RunDirectory(train(request(given))["run_dir"])
    assert reproduce(run.path, trust=True).exit_code == 0
    (own / file).write_text("2\n")
    with pytest.raises(RequestError, match=r"model\.table has changed"):
        load_data(run.read())
    assert [found.key for found in reproduce(run.path, trust=True).environment] == ["data.model.table"]
    run.result_file.unlink()  # as if it had been stopped
    with pytest.raises(RequestError, match=r"model\.table has changed"):
        train(request(given))
    assert train(request(given), force=True)["outcome"] == "done"


def test_a_run_of_more_epochs_does_not_go_on_from_one_of_other_files(own, capsys):
    given = NAMED["model.table"][0]
    train(request(given, "trainer.max_steps=-1", "trainer.max_epochs=1"))
    (own / "a/one.txt").write_text("2\n")
    result = train(request(given, "trainer.max_steps=-1", "trainer.max_epochs=2"))
    assert "continuing" not in capsys.readouterr().err
    assert result["steps"] == 6


def test_a_file_that_is_written_later_is_no_part_of_the_run(own):
    later = ["+data.module={_target_: own_reader.Reads, path: a/later.txt}"]
    result = train(request(later))
    (own / "a/later.txt").write_text("a cache\n")
    assert train(request(later))["already"]
    assert load_data(RunDirectory(result["run_dir"]).read()).spec.horizon == 2


@pytest.mark.parametrize("name", ["a/nope.txt", "a/*.wav", "nope/"])
def test_a_file_that_is_named_and_not_there_is_refused(name):
    with pytest.raises(RequestError, match=r"data_files\(\) names .*no such file"):
        train(request([f"+data.module={{_target_: own_reader.Names, folder: '{name}'}}"]))


def test_of_gatelabs_classes_and_of_callbacks_no_value_is_taken_for_a_file(own):
    config = {
        "data": {"_target_": "gatelab.data.TextDataModule", "path": "a/one.txt"},
        "model": {"_target_": "torch.nn.GRU", "file": "a/one.txt"},
        "callbacks": {"x": {"_target_": "own_reader.Writes", "path": "a/one.txt"}},
        "optim": {"_target_": "own_reader.optim", "name": "x" * 5000, "other": "a\0b", "folder": "a"},
    }
    assert own_files(config, None) == {}
    assert set(own_files({"optim": {**config["optim"], "f": "a/one.txt"}}, None)) == {"optim.f"}


def test_files_are_called_alike_wherever_they_lie(own):
    class Somewhere:
        def data_files(self):
            return self.names

    data, found = Somewhere(), []
    for folder in ("x", "y/z"):
        (own / folder / "deep").mkdir(parents=True)
        for name in ("1.txt", "deep/2.txt"):
            (own / folder / name).write_text(name)
        data.names = [own / folder / "1.txt", Path(folder) / "deep"]
        found.append(own_files({}, data))
    assert found[0] == found[1]
    assert [*found[0]] == ["1.txt", "deep/2.txt"]
