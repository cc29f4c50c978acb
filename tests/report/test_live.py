"""The live view: lines where there is no terminal, a table where there is one, nothing read twice, no harm."""

import io
import json
import threading

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from gatelab.report import text as live
from gatelab.report.text import dashboard, following, one_line, progress, watch
from gatelab.run.frozen_run import EventWriter, events_file
from gatelab.study.analysis.read import StudyReader, read_study
from gatelab.study.engine.directory import StudyDirectory


def shown(renderable):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def half_done(make_study, entries):
    choice, _ = entries
    trials = [
        {"params": {"model.hidden_size": 8}, "values": [2.0, 2.2], "seconds": 5.0},
        {"params": {"model.hidden_size": 16}, "state": "failed", "error": "boom"},
        {"params": {"model.hidden_size": 32}, "state": "running", "reported": [3.0, 1.75], "owner": "w/0"},
        {"params": {"model.hidden_size": 64}, "state": "waiting"},
    ]
    return make_study("s", [choice("model.hidden_size", 8, 16, 32, 64)], trials, seeds=[0, 1])


def test_the_table_has_counts_best_and_a_row_for_each_running_trial(make_study, entries):
    state = read_study(half_done(make_study, entries))
    text = shown(dashboard(state))
    assert "1 done, 1 running, 0 pruned, 1 failed, 1 waiting" in text
    assert "best loss 2.1" in text
    assert "trial 0: hidden_size 8" in text
    assert "left" in text
    row = next(line for line in text.splitlines() if line.startswith("2 "))
    assert "32" in row
    assert "1.75" in row
    assert "its worker died" in row


def test_a_running_trial_shows_its_run_epoch_and_last_validation(make_study, entries):
    choice, _ = entries
    begun = {"params": {"a": 1}, "state": "running", "values": [9.0, 9.0], "reported": [1.75], "owner": "w/0"}
    folder = make_study("s", [choice("a", 1)], [begun], seeds=[0, 1])
    (trial,) = read_study(folder).trials
    assert progress(read_study(folder), trial) == ("run 1/2", 1.75)
    for run, values in zip(trial.runs, ((3.0, 2.5), (2.25,)), strict=True):
        request = StudyDirectory(folder).request(trial.number, run.seed, run.fold)
        request.parent.mkdir(parents=True, exist_ok=True)
        events = EventWriter(events_file(request))
        events.write("begin", pid=1)
        for epoch, value in enumerate(values):
            events.write("validation", index=epoch, epoch=epoch, step=8, value=value, asks=False)
    assert progress(read_study(folder), trial) == ("run 2/2, epoch 1", 2.25)


@pytest.fixture
def looked(monkeypatch):
    """An event that is set once the view has looked."""
    event, original = threading.Event(), live.one_line

    def noted(*arguments, **options):
        event.set()
        return original(*arguments, **options)

    monkeypatch.setattr(live, "one_line", noted)
    return event


def test_without_a_terminal_there_are_lines(make_study, entries, capsys, looked):
    with following(half_done(make_study, entries), every=0.01, lines_every=0.0):
        assert looked.wait(60)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("s: starting, 1 of 4 trials done, 1 running, 1 failed, 1 waiting")
    assert lines[-1].startswith("s: stopped, 1 of 4 trials done, 1 cut off, 1 failed, 1 waiting")
    assert len(lines) == len(set(lines))


def test_lines_are_not_said_more_often_than_asked(make_study, entries, capsys, looked):
    with following(half_done(make_study, entries), every=0.01, lines_every=1000.0):
        assert looked.wait(60)
        threading.Event().wait(0.2)
    first_and_last = capsys.readouterr().err.splitlines()
    assert len(first_and_last) == 2


def test_watch_ends_with_the_study_and_says_so(grid, capsys):
    watch(grid, every=0.01)
    assert capsys.readouterr().err.startswith("grid: finished, 6 of 6 trials done")


def test_watch_leaves_a_study_that_nobody_works_on(make_study, entries, monkeypatch, capsys):
    monkeypatch.setattr(live, "PATIENCE", 0.05)
    watch(half_done(make_study, entries), every=0.01)
    assert "the same sweep command continues it" in capsys.readouterr().err


def test_a_view_that_fails_does_no_harm(grid, capsys):
    journal = grid / "journal.log"
    journal.write_bytes(b"not json\n" + journal.read_bytes())
    reached = False
    with following(grid, every=0.01):
        threading.Event().wait(0.1)
        reached = True
    assert reached
    error = capsys.readouterr().err
    assert "the live view has ended: RequestError" in error
    assert "journal.log: line 1 is damaged" in error


def test_a_second_look_reads_only_what_is_new(grid, monkeypatch):
    decoded = []
    original = JournalFileBackend.read_logs

    def counted(self, since):
        for log in original(self, since):
            decoded.append(log)
            yield log

    monkeypatch.setattr(JournalFileBackend, "read_logs", counted)
    reader = StudyReader(grid)
    reader.read()
    first = len(decoded)
    reader.read()
    assert len(decoded) == first > 6
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(grid / "journal.log")))
    optuna.load_study(study_name="grid", storage=storage).enqueue_trial({"model": "gru"})
    first = len(decoded)
    reader.read()
    assert len(decoded) == first + 1


def test_several_objectives_name_the_front(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": 1}, "values": [1.0], "objectives": [1.0, 2.0]}]
    asked = ["val/loss:minimize", "seconds:minimize"]
    folder = make_study("s", [choice("a", 1)], trials, objectives=asked)
    assert "Pareto front: 1 trial" in one_line(read_study(folder))


def test_a_study_may_be_empty_when_it_is_followed(make_study, capsys):
    folder = make_study("s", [], [])
    (folder / "journal.log").unlink()
    with following(folder, every=0.01):
        threading.Event().wait(0.05)
    assert "s: empty, 0 of 0 trials done" in capsys.readouterr().err
    assert json.loads((folder / "study.json").read_text())["name"] == "s"
