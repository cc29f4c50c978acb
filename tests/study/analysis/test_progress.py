"""How far a running trial is, from the ends of its runs' files."""

import json

import pytest

from gatelab.study.analysis.progress import Progress, Watcher
from gatelab.study.analysis.state import Run, Trial


def trial_of(tmp_path, runs, reported=None):
    return Trial(
        0, "running", {}, runs=tuple(Run(tmp_path / f"r{i}", None) for i in range(runs)), reported=reported
    )


def begin(folder, text, epochs=5):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {"trainer": {"max_epochs": epochs}}}))
    (folder / "metrics.csv").write_text(text)


def test_epoch_and_value_come_from_the_last_whole_lines(tmp_path):
    begin(tmp_path / "r0", "step,epoch,val/loss,train/loss\n10,0,3.5,\n20,1,2.5,\n30,2,,1.9\n40,2,1.")
    found = Watcher("val/loss").look(trial_of(tmp_path, 1))
    assert found == Progress(1, 1, 3, 5, 2.5)
    assert str(found) == "epoch 3/5"


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    rows = "".join(f"{n},{n // 1000},{n}.5\n" for n in range(20_000))
    begin(tmp_path / "r0", f"step,epoch,val/loss\n{rows}", epochs=20)
    assert Watcher("val/loss").look(trial_of(tmp_path, 1)) == Progress(1, 1, 20, 20, 19999.5)


def test_the_run_that_goes_on_is_the_first_without_a_result(tmp_path):
    for index in range(2):
        begin(tmp_path / f"r{index}", "step,epoch,val/loss\n1,0,2.0\n")
    (tmp_path / "r0" / "result.json").write_text("{}")
    found = Watcher("val/loss").look(trial_of(tmp_path, 3))
    assert (found.run, found.runs) == (2, 3)
    assert str(found) == "run 2/3, epoch 1/5"


@pytest.mark.parametrize("reported", [None, (3, 1.25)])
def test_where_no_file_can_be_seen_the_report_counts(tmp_path, reported):
    found = Watcher("val/loss").look(trial_of(tmp_path, 2, reported))
    assert (found.run, found.value) == (0, reported and 1.25)


def test_files_that_are_half_written_do_no_harm(tmp_path):
    begin(tmp_path / "r0", "step,epo")
    (tmp_path / "r0" / "run.json").write_text('{"conf')
    assert Watcher("val/loss").look(trial_of(tmp_path, 1)) == Progress(1, 1)
