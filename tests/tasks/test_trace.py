"""The trace: every step's loss to the last bit, every epoch's weights, and the same file after a resume."""

import math

import pytest
import torch
from torch import nn

from gatelab.tasks import Checkpoints, RunInterrupted
from gatelab.tasks.trace import Row, Trace, hash_weights, read_trace


def traced(make_task, data, path):
    task = make_task(data)
    task.trace = Trace(path)
    return task


@pytest.mark.parametrize("kind", ["text_data", "series_data"])
def test_a_resumed_run_leaves_the_trace_of_the_undisturbed_one(
    kind, request, make_task, make_trainer, tmp_path
):
    make_data = request.getfixturevalue(kind)
    make_trainer().fit(traced(make_task, data := make_data(), tmp_path / "whole.csv"), datamodule=data)
    whole = read_trace(tmp_path / "whole.csv")

    path = tmp_path / "parts.csv"
    saver = Checkpoints(str(tmp_path / "ckpt"), every_n_steps=5)
    task = traced(make_task, data := make_data(), path)
    training_step = task.training_step

    def stop(batch, batch_idx):
        if task.steps == 8:
            raise RunInterrupted("killed")
        return training_step(batch, batch_idx)

    task.training_step = stop
    with pytest.raises(RunInterrupted):
        make_trainer(callbacks=[saver]).fit(task, datamodule=data)
    task.trace.flush()
    assert read_trace(path) == whole[:9]

    task = traced(make_task, data := make_data(), path)
    make_trainer(callbacks=[saver]).fit(task, datamodule=data, ckpt_path=saver.last)
    assert read_trace(path) == whole
    assert read_trace(path.with_suffix(".superseded.csv")) == whole[6:9]
    steps = [row.step for row in whole if row.what == "loss"]
    assert steps == list(range(1, len(steps) + 1))
    assert [row.epoch for row in whole if row.what == "weights"] == [0, 0, 1]
    assert whole[-1].value == hash_weights(task.net)


def test_the_loss_is_kept_to_the_last_bit(tmp_path):
    trace = Trace(tmp_path / "trace.csv")
    trace.begin(0, 0, nn.Linear(1, 1))
    losses = [torch.tensor(1 / 3), torch.tensor(math.pi, dtype=torch.float64), torch.tensor(math.nan)]
    for loss in losses:
        trace.add_loss(loss)
        trace.flush()
    values = [float.fromhex(row.value) for row in read_trace(trace.path) if row.what == "loss"]
    assert values[:2] == [float(loss) for loss in losses[:2]]
    assert math.isnan(values[2])


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    file = tmp_path / "trace.csv"
    file.write_text("step,epoch,what,value\n1,0,loss,0x1p+0\n2,0,lo")
    assert read_trace(file) == [Row(1, 0, "loss", "0x1p+0")]


@pytest.mark.parametrize("line", ["1,0,loss", "one,0,loss,0x1p+0"])
def test_a_damaged_line_is_named(tmp_path, line):
    file = tmp_path / "trace.csv"
    file.write_text(f"step,epoch,what,value\n1,0,loss,0x1p+0\n{line}\n")
    with pytest.raises(ValueError, match=r"trace\.csv: damaged, line 3 is not a row"):
        read_trace(file)


def test_the_hash_sees_every_bit_type_and_name():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    found = {hash_weights(net), hash_weights(net.double())}
    net.float()
    net.weight.data[0, 0] = torch.nextafter(net.weight.data[0, 0], torch.tensor(9.0))
    found |= {hash_weights(net), hash_weights(nn.Sequential(net)), hash_weights(net.bfloat16())}
    assert len(found) == 5


def test_losses_wait_and_are_written_together(tmp_path, monkeypatch):
    monkeypatch.setattr("gatelab.tasks.trace.MOST_ROWS", 3)
    monkeypatch.setattr("gatelab.tasks.trace.MOST_SECONDS", math.inf)
    trace = Trace(tmp_path / "trace.csv")
    trace.begin(0, 0, nn.Linear(1, 1))
    written = []
    for _ in range(4):
        trace.add_loss(torch.zeros(()))
        written.append(len(read_trace(trace.path)) - 1)
    assert written == [0, 0, 3, 3]
