"""Every kind of path is understood, runs that belong together are one study, and a wrong path is refused."""

import shutil
from pathlib import Path

import pytest

from gatelab.report.gather import gather, read_facts, thin
from gatelab.report.page import write_page
from gatelab.run import RequestError
from gatelab.run.record.listing import list_runs
from gatelab.study.analysis.read import list_studies, read_study
from gatelab.trackers.wandb.sync import find_pending

RECORD = Path(__file__).parents[2] / "experiments" / "002-hidden-size"


def names(paths, studies="studies"):
    return [(subject.kind, subject.state.name) for subject in gather(paths, studies)[0]]


def test_a_study_is_found_by_its_name_its_folder_and_the_folders_above(grid):
    wanted = [("study", "grid")]
    assert names(["grid"], grid.parent) == names([grid]) == names([grid.parent]) == wanted
    assert names([grid, "grid"], grid.parent) == wanted


def test_a_record_is_read_without_the_runs_it_was_made_from():
    assert names([RECORD]) == [("record", "size-text"), ("record", "size-series")]
    subject = gather([RECORD])[0][0]
    assert subject.environment["revision"].startswith("4c21a28a")
    assert {run.steps for trial in subject.state.trials for run in trial.runs} == {400}


def test_runs_that_differ_in_their_seed_only_are_one_point(make_run):
    for seed, value in ((0, 1.0), (1, 3.0)):
        make_run("a", "aaaaaaaa", seed, value)
    make_run("a", "bbbbbbbb", 0, 5.0, hidden=16)
    (subject,), _ = gather([make_run.root / "runs"])
    state = subject.state
    assert [trial.params for trial in state.trials] == [{"model.hidden_size": 8}, {"model.hidden_size": 16}]
    assert [trial.values for trial in state.trials] == [(2.0,), (5.0,)]
    assert state.baselines == {"linear": 2.0}
    assert state.settings["seeds"] == [0, 1]


def test_folds_are_replicates_too(make_run):
    for fold in (0, 1):
        make_run("a", f"aaaaaaa{fold}", 0, 1.0 + fold, fold=fold)
    (subject,), _ = gather([make_run.root])
    assert [run.fold for run in subject.state.trials[0].runs] == [0, 1]
    assert subject.state.settings["folds"] == 2


def test_of_several_keys_that_say_the_same_the_first_that_a_person_would_name_is_the_parameter(make_run):
    make_run("a", "aaaaaaaa", 0, model="GRU", hidden=8)
    make_run("a", "bbbbbbbb", 0, model="LSTM", hidden=16)
    (subject,), _ = gather([make_run.root])
    assert [trial.params for trial in subject.state.trials] == [{"model": "GRU"}, {"model": "LSTM"}]


def test_runs_of_different_data_are_not_compared(make_run):
    make_run("a", "aaaaaaaa", 0)
    make_run("a", "bbbbbbbb", 0, series="etth2")
    assert names([make_run.root]) == [("runs", "a-etth1"), ("runs", "a-etth2")]


def test_runs_without_a_value_keep_their_reason(make_run):
    make_run("a", "aaaaaaaa", 0)
    make_run("a", "bbbbbbbb", 0, hidden=16, state="failed", error="the loss is nan")
    make_run("a", "cccccccc", 0, hidden=32, state="unfinished")
    make_run("a", "dddddddd", 0, hidden=64, state="pruned")
    (subject,), _ = gather([make_run.root])
    told = [(trial.state, trial.error) for trial in subject.state.trials[1:]]
    wanted = ["bbbbbbbb-s0: the loss is nan", "cccccccc-s0: unfinished", "dddddddd-s0: pruned"]
    assert told == list(zip(["failed", "failed", "pruned"], wanted, strict=True))


DAMAGED = ["{", "", "[]", "null", '"x"', "{}", '{"outcome": "done"}', '{"outcome": "done", "splits": 3}',
           '{"outcome": "done", "monitor": "val/mse", "splits": {"valid": {"metrics": {"mse": "x"}}}}',
           '{"outcome": "pruned", "seconds": 1}', "\x00\x01"]  # fmt: skip


@pytest.mark.parametrize("file", ["run.json", "result.json"])
@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_run_is_named_and_the_others_are_taken(make_run, tmp_path, file, text):
    make_run("a", "aaaaaaaa", 0)
    broken = make_run("a", "bbbbbbbb", 0)
    (broken / file).write_text(text)
    subjects, notes = gather([make_run.root])
    known = [trial for subject in subjects for trial in subject.state.trials if trial.values]
    assert [run.directory.name for trial in known for run in trial.runs] == ["aaaaaaaa-s0"]
    assert all(str(broken) in note for note in notes)
    write_page(subjects, tmp_path / "page.html", notes=notes)
    assert [row["state"] for row in list_runs(make_run.root / "runs")] == ["done", "unreadable"]


def test_a_damaged_run_alone_is_refused(make_run):
    broken = make_run("a", "bbbbbbbb", 0)
    (broken / "run.json").write_text("{")
    with pytest.raises(RequestError, match=r"run\.json"):
        gather([broken])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("journal.log", "not json\n"),
        ("journal.log", '{"op_code": 99}\n'),
        ("journal.log", '{"op_code": 4}\n'),
        ("study.json", "{"),
        ("study.json", '{"format": 1, "name": "other", "settings": [], "objectives": []}'),
        ("study.json", '{"format": 1, "name": "other", "settings": {}, "objectives": [3]}'),
    ],
)
def test_a_damaged_study_is_named_and_the_others_are_taken(grid, make_study, file, text):
    other = make_study("other", [], [])
    (other / file).write_text(text)
    subjects, notes = gather([grid.parent])
    assert [subject.state.name for subject in subjects] == ["grid"]
    assert ["other" in note for note in notes] == [True]
    assert [row["state"] for row in list_studies(grid.parent)] == ["finished", "unreadable"]


def test_the_runs_of_a_study_are_not_told_twice(grid, make_run):
    state = read_study(grid)
    made = make_run("other", "aaaaaaaa", 0)
    inside = state.trials[0].runs[0].directory
    shutil.copy(made / "run.json", inside / "run.json")
    assert names([grid, inside, made]) == [("study", "grid"), ("runs", "other")]


def test_a_run_is_found_by_a_unique_beginning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1a2b3c4d-s0", "2a2b3c4d-s0", "2a2b3c4d-s1"):
        (tmp_path / "runs/x" / name).mkdir(parents=True)
        (tmp_path / "runs/x" / name / "run.json").write_text("{")
    with pytest.raises(RequestError, match=r"1a2b3c4d-s0/run\.json: not valid JSON"):
        gather(["1a"])
    with pytest.raises(RequestError, match="2 runs begin so"):
        gather(["2a"])
    assert find_pending(["1a"]) == []
    with pytest.raises(RequestError, match="2 runs begin so"):
        find_pending(["x/2a"])


@pytest.mark.parametrize("name", ["run.json", "study.json"])
def test_what_cannot_be_read_is_told_and_not_passed_over(tmp_path, name):
    folder = tmp_path / {"run.json": "runs/x/1a2b3c4d-s0", "study.json": "studies/x"}[name]
    folder.mkdir(parents=True)
    for put in (lambda file: file.symlink_to("/nowhere/x"), lambda file: file.symlink_to(name), Path.mkdir):
        put(folder / name)
        with pytest.raises(RequestError, match=str(folder)):
            gather([tmp_path])
        (folder / name).rmdir() if (folder / name).is_dir() else (folder / name).unlink()


@pytest.mark.parametrize(
    ("what", "why"),
    [("empty", "holds no run"), ("missing", "no such folder"), ("file", "a file; give the folder")],
)
def test_a_path_that_holds_nothing_is_refused_with_its_name(tmp_path, what, why):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=f"{tmp_path / what}: {why}"):
        gather([tmp_path / what], tmp_path)


def test_a_thinned_curve_keeps_its_ends_and_its_extremes():
    values = [float(i % 7) for i in range(10_000)]
    values[1234], values[4321] = 99.0, -99.0
    curve = thin(range(10_000), values, 100)
    assert len(curve.steps) <= 100
    assert curve.steps == sorted(set(curve.steps))
    assert {curve.steps[0], curve.steps[-1]} == {0, 9_999}
    assert [values[step] for step in curve.steps] == curve.values
    assert {99.0, -99.0} <= set(curve.values)


def test_a_short_curve_is_left_as_it_is():
    assert thin([1, 2], [3.0, 4.0], 2).values == [3.0, 4.0]


def test_the_most_memory_and_the_steps_are_found(make_run):
    run = make_run("a", "aaaaaaaa", 0)
    rows = ["step,epoch,val/mse,memory/cpu_peak_mib", "1,0,1.0,10", "2,0,nan,30", "3,0,,20", ""]
    (run / "metrics.csv").write_text("\n".join(rows))
    (facts,) = read_facts(gather([run])[0][0].state).values()
    assert facts.memory == {"cpu peak": 30.0}
    assert facts.steps == 40
    assert facts.valid.values == [1.0]  # what is not finite cannot be drawn
