"""Reading a study: complete, torn, empty, damaged, read-only, and while somebody writes."""

import json
import os
import subprocess
import sys

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.study.analysis.read import StudyReader, read_study
from gatelab.study.engine.directory import Heartbeat, Owner, birth, machine


def test_every_fact_of_a_trial_is_read(make_study, entries):
    choice, _ = entries
    trial = {"params": {"a": 1}, "values": [1.0, 3.0], "seconds": 4.5, "parameters": 7, "hidden": [9, 9]}
    failed = {"params": {"a": 2}, "state": "failed", "error": "ValueError: no", "attempts": 2}
    running = {"params": {"a": 3}, "state": "running", "reported": [5.0, 4.0], "owner": "w/1"}
    waiting = {"params": {"a": 4}, "state": "waiting"}
    folder = make_study("s", [choice("a", 1, 2, 3, 4)], [trial, failed, running, waiting], seeds=[3, 5])
    one, two, three, four = read_study(folder).trials
    assert (one.state, one.value, one.seconds, one.parameters, one.hidden) == ("done", 2.0, 4.5, 7, 9)
    assert [(run.seed, run.fold, run.value) for run in one.runs] == [(3, None, 1.0), (5, None, 3.0)]
    assert all((run.directory / "result.json").is_file() for run in one.runs)
    assert (two.state, two.error, two.attempts) == ("failed", "ValueError: no", 2)
    assert (three.state, three.reported, three.owner, three.finished) == ("running", (2, 4.0), "w/1", None)
    assert (four.state, dict(four.params), four.started) == ("waiting", {"a": 4}, None)


def test_seeds_and_folds_are_paired_as_they_are_run(make_study, entries):
    choice, _ = entries
    values = [1.0, 2.0, 3.0, 4.0]
    folder = make_study(
        "s", [choice("a", 1)], [{"params": {"a": 1}, "values": values}], seeds=[0, 7], folds=2
    )
    (trial,) = read_study(folder).trials
    assert [(run.fold, run.seed) for run in trial.runs] == [(0, 0), (1, 0), (0, 7), (1, 7)]


def test_a_torn_last_line_is_left_out_and_left_alone(grid):
    journal = grid / "journal.log"
    whole = journal.read_bytes()
    before = read_study(grid)
    journal.write_bytes(whole + whole.splitlines()[-1][:40])
    torn = journal.read_bytes()
    assert read_study(grid).trials == before.trials
    assert journal.read_bytes() == torn


def test_a_reader_goes_on_after_a_torn_line_was_completed(grid):
    journal = grid / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    expected = read_study(grid).trials
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:25])
    reader = StudyReader(grid)
    assert len(reader.read().trials) == len(expected) - 1
    journal.write_bytes(b"".join(lines))
    assert reader.read().trials == expected


def test_a_damaged_line_is_named(grid):
    journal = grid / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b'{"op_code": 8,\n', *lines[3:]]))
    with pytest.raises(RequestError, match=r"journal\.log: line 4 is damaged"):
        read_study(grid)


@pytest.mark.parametrize("overrides", [-3, "data=adding", [-3], [None], [["a=1"]], {"a": 1}], ids=repr)
def test_overrides_that_are_no_texts_are_named(grid, overrides, capsys):
    file = grid / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "overrides": overrides}))
    with pytest.raises(RequestError, match=r"study\.json: damaged, 'overrides' is no list of texts"):
        read_study(grid)
    assert main(["sweep", f"study={grid.name}", f"paths.root={grid.parent.parent}", "--dry-run"]) == 2
    assert "'overrides' is no list of texts" in capsys.readouterr().err


def test_a_study_without_a_journal_is_empty(make_study):
    folder = make_study("s", [], [])
    (folder / "journal.log").unlink()
    state = read_study(folder)
    assert (state.state, state.trials, state.best) == ("empty", (), None)
    assert sorted(p.name for p in folder.iterdir()) == ["conf", "study.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no study.json"),
        ("{", "study.json: not valid JSON"),
        ('{"format": 1}', "'name' is missing"),
        (b"\xff\xfe{", "study.json: not valid JSON"),
    ],
)
def test_what_is_wrong_with_the_folder_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "study.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RequestError, match=message):
        read_study(tmp_path)


def test_reading_writes_nothing(grid):
    def files():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(grid.rglob("*"))}

    before = files()
    assert len(read_study(grid).trials) == 6
    assert files() == before


def test_a_reader_sees_what_was_added_since(grid):
    reader = StudyReader(grid)
    first = reader.read()
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(grid / "journal.log")))
    study = optuna.load_study(study_name="grid", storage=storage)
    study.enqueue_trial({"model": "gru", "model.hidden_size": 64})
    assert [trial.state for trial in reader.read().trials] == [t.state for t in first.trials] + ["waiting"]
    assert reader.read().trials == read_study(grid).trials


WRITER = """
import sys, optuna
from optuna.storages.journal import JournalFileBackend
storage = optuna.storages.JournalStorage(JournalFileBackend(sys.argv[1]))
study = optuna.load_study(study_name="grid", storage=storage)
for number in range(60):
    trial = study.ask({"model.hidden_size": optuna.distributions.CategoricalDistribution([32, 64, 128])})
    trial.set_user_attr("seconds", 1.0)
    trial.report(1.0, 1)
    study.tell(trial, 2.0)
"""


@pytest.mark.ci
def test_a_study_can_be_read_while_another_process_writes_it(grid):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(grid / "journal.log")], stderr=subprocess.DEVNULL
    )
    reader, seen = StudyReader(grid), [6]
    while writer.poll() is None:
        seen.append(sum(trial.state == "done" for trial in reader.read().trials))
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert sum(trial.state == "done" for trial in reader.read().trials) == 66


def test_a_study_in_a_database_is_read(grid, tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    record = json.loads((grid / "study.json").read_text())
    record["settings"]["storage"] = url
    (grid / "study.json").write_text(json.dumps(record))
    expected = [(t.number, t.state, t.values) for t in read_journal(grid)]
    study = optuna.create_study(study_name="grid", storage=url)
    study.add_trials(optuna.load_study(study_name="grid", storage=journal_of(grid)).get_trials())
    with pytest.raises(RequestError, match=r"sqlite:.*was not opened.*--trust"):
        read_study(grid)
    assert [(t.number, t.state, t.values) for t in read_study(grid, trust=True).trials] == expected


def journal_of(folder):
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def read_journal(folder):
    record = json.loads((folder / "study.json").read_text())
    changed = {**record, "settings": {**record["settings"], "storage": None}}
    (folder / "study.json").write_text(json.dumps(changed))
    trials = read_study(folder).trials
    (folder / "study.json").write_text(json.dumps(record))
    return trials


def test_living_workers_are_told_from_dead_ones(make_study, entries):
    choice, _ = entries
    trials = [
        {"params": {"a": n}, "state": "running", "owner": f"{w}/0"} for n, w in enumerate(("me", "dead"))
    ]
    folder = make_study("s", [choice("a", 0, 1)], trials)
    mine = Owner(
        "me", "here", os.getpid(), machine(), birth(os.getpid()), 0, 1, "local", "2026-01-01T00:00:00+00:00"
    )
    heart = Heartbeat(mine, folder / "workers")
    heart.start()
    try:
        state = read_study(folder)
        assert state.workers == {"me"}
        assert [state.lost(trial) for trial in state.trials] == [False, True]
        assert state.state == "running"
    finally:
        heart.stop()
    assert read_study(folder).state == "stopped"
