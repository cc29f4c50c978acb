"""An error of the user's own code ends with a line that names its part of the configuration; the run goes on later."""

import sys
import traceback

import pytest

from gatelab.run import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.run.train import train

OWN = """
from pathlib import Path
import pytorch_lightning as pl
import torch
import gatelab

class Base(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == 6 and Path(self.flag).exists():
            {}["oops"]

class Inherited(Base):
    def __init__(self, flag): self.flag = flag

class Early(pl.Callback):
    def on_fit_start(self, trainer, module): raise ValueError("no disk")

def fail_late(x, flag, calls=[]):
    calls.append(x)
    if len(calls) > 6 and Path(flag).exists():
        raise IndexError("too short")

class Cell(gatelab.GRU):
    def __init__(self, input_size, hidden_size, flag):
        super().__init__(input_size, hidden_size)
        self.flag = flag
    def forward(self, x, *args, **options):
        if self.training:
            fail_late(x, self.flag)
        return super().forward(x, *args, **options)
"""
SMALL = [
    *("data=adding", "data.steps=4", "data.train_items=32", "data.batch_size=4", "data.eval_items=8"),
    *("data.eval_batch_size=8", "trainer.max_epochs=1", "callbacks.progress=null", "model.hidden_size=2"),
    *("threads=1", "test=false", "callbacks.checkpoints.every_n_steps=2"),
]


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    """The overrides of a small run of own code, and the file without which it does not fail."""
    (tmp_path / "failing.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    (flag := tmp_path / "flag").touch()
    yield (
        lambda *own: [*SMALL, f"paths.root={tmp_path}", *(text.replace("FLAG", str(flag)) for text in own)],
        flag,
    )
    sys.modules.pop("failing", None)


CASES = {
    "callback": (
        ["+callbacks.mine={_target_: failing.Inherited, flag: FLAG}"],
        KeyError,
        "callbacks.mine (failing.Base.on_train_batch_end, line 10 of failing.py)",
    ),
    "cell": (
        ["model._target_=failing.Cell", "+model.flag=FLAG"],
        IndexError,
        "model (failing.Cell.forward, line 29 of failing.py)",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.quick(1)
def test_the_last_line_names_the_part_of_the_configuration_and_the_run_goes_on(case, request_of, capsys):
    overrides, kind, place = CASES[case]
    make, flag = request_of
    with pytest.raises(kind) as caught:
        train(make(*overrides))
    lines = "".join(traceback.format_exception(caught.value)).splitlines()
    assert lines[-1].startswith(f"gatelab: this error came from {place}. What was saved stays")
    assert lines[-2].startswith(kind.__name__)
    (record,) = flag.parent.rglob("run.json")
    assert RunDirectory(record.parent).state() == "crashed"
    flag.unlink()
    assert train(make(*overrides))["steps"] == 8
    assert f"continuing {record.parent} from step " in capsys.readouterr().err


def test_a_refusal_before_the_first_step_names_it_too(request_of):
    make, _ = request_of
    with pytest.raises(
        RequestError, match=r"the run cannot begin: no disk; it came from callbacks.x \(failing.Early"
    ):
        train(make("+callbacks.x={_target_: failing.Early}"))


def test_an_error_of_gatelab_gets_no_such_line(request_of, monkeypatch):
    def broken(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr("gatelab.tasks.base.Task.training_step", broken)
    make, _ = request_of
    with pytest.raises(ZeroDivisionError) as caught:
        train(make("+callbacks.mine={_target_: failing.Inherited, flag: FLAG}"))
    assert not getattr(caught.value, "__notes__", [])
