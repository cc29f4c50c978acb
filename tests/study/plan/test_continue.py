"""The same command continues a study; more trials or choices extend it; anything else is refused with the fix."""

import json
import shutil

import pytest

from gatelab.run import RequestError
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.queue import Queue
from gatelab.study.sweep import submit

from ..front_tools import TINY, planned, submitted

pytestmark = pytest.mark.ci

GRID = ["study=mine", *TINY, "model.hidden_size=8,16", "optim.lr=1e-3,1e-2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A place with the study GRID in it."""
    place = tmp_path_factory.mktemp("made")
    submitted(*GRID, f"paths.root={place}")
    return (place / "studies").rename(
        place / "kept"
    )  # a copy of a study that is where it was made is refused


@pytest.fixture
def there(made, tmp_path, monkeypatch):
    """The study's folder, a copy of it."""
    monkeypatch.setenv("GATELAB_ROOT", str(tmp_path))
    shutil.copytree(made, tmp_path / "studies", symlinks=True)
    return tmp_path / "studies" / "mine"


def fixed_params(path):
    queue = Queue(StudyDirectory(path))
    return [row.system_attrs.get("fixed_params") for row in queue.storage.get_all_trials(queue.study_id)]


def test_a_study_that_another_command_made_meanwhile_can_be_joined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    late = planned(*GRID)
    submitted(*GRID)
    with pytest.raises(RequestError, match="made this study just now; give yours again"):
        submit(late)
    assert submit(planned(*GRID))["waiting"] > 0


def test_the_same_command_adds_nothing(there):
    before = (there / "study.json").read_text()
    made, counts = submitted(*GRID)
    assert (made.exists, made.new, counts["waiting"]) == (True, 0, 4)
    assert (there / "study.json").read_text() == before


def test_the_order_of_the_command_line_does_not_matter(there):
    assert planned(GRID[0], *reversed(GRID[1:])).new == 0


def test_the_name_alone_continues_and_may_change_how_it_is_run(there):
    made, _ = submitted("study=mine", "study.workers=3", "study.retries=1")
    assert len(made.points) == 4
    record = json.loads((there / "study.json").read_text())
    assert (record["settings"]["workers"], record["settings"]["retries"]) == (3, 1)


def test_the_name_and_the_place_alone_continue(there, monkeypatch):
    monkeypatch.delenv("GATELAB_ROOT")
    made, _ = submitted("study=mine", f"paths.root={there.parents[1]}")
    assert (made.exists, made.new, len(made.points)) == (True, 0, 4)


def test_more_choices_get_the_next_numbers(there):
    first = fixed_params(there)
    made, counts = submitted(*(line.replace("8,16", "4,8,16") for line in GRID))
    assert (made.new, counts["waiting"]) == (2, 6)
    assert fixed_params(there)[:4] == first
    assert fixed_params(there)[4:] == [{"model.hidden_size": 4, "optim.lr": lr} for lr in (1e-3, 1e-2)]
    # and what has grown is the study now
    assert submitted(*(line.replace("8,16", "8,4,16") for line in GRID))[0].new == 0


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("8,16", "8", "model.hidden_size: was 8,16, now not swept"),
        ("8,16", "8,32", "model.hidden_size: was 8,16, now 8,32"),
        ("data.steps=8", "data.steps=9", "data.steps: was 8, now 9"),
        ("data.steps=8", "data.data_seed=8", "data.steps: was 8, now not given"),
    ],
)
def test_another_study_is_refused_with_the_difference(there, old, new, difference):
    with pytest.raises(RequestError) as error:
        planned(*(line.replace(old, new) for line in GRID))
    assert difference in str(error.value)
    assert "study=mine-2" in str(error.value)
    assert "--force" in str(error.value)


@pytest.mark.parametrize(
    "setting", ["seeds=[0,1]", "pruner=median", "strategy=random", "seed=1", "objectives=[val/mae]"]
)
def test_another_setting_is_refused(there, setting):
    with pytest.raises(RequestError, match=f"study.{setting.partition('=')[0]}: "):
        planned(*GRID, f"study.{setting}")


def test_more_trials_extend_a_study_and_fewer_leave_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GATELAB_ROOT", str(tmp_path))
    random = ["study=mine", *TINY, "study.strategy=random", "optim.lr=interval(0.1,0.2)"]
    assert submitted(*random, "study.n_trials=3")[1]["waiting"] == 3
    assert submitted(*random, "study.n_trials=5")[1]["waiting"] == 5
    assert submitted(*random, "study.n_trials=2")[1]["waiting"] == 5
    assert submitted("study=mine", "study.n_trials=6")[1]["waiting"] == 6
    with pytest.raises(
        RequestError, match=r"optim\.lr: was interval\(0\.1, 0\.2\), now interval\(0\.1, 0\.3\)"
    ):
        planned(*(line.replace("0.2)", "0.3)") for line in random), "study.n_trials=3")


def test_force_sets_the_old_study_aside_and_loses_nothing(there):
    before = (there / "study.json").read_text()
    made, counts = submitted(*(line.replace("8,16", "8,32") for line in GRID), force=True)
    assert counts["waiting"] == len(made.points) == 4
    assert (there.with_name("mine.old-1") / "study.json").read_text() == before
    assert fixed_params(there)[2]["model.hidden_size"] == 32


def test_force_is_refused_while_a_worker_is_alive(there):
    from gatelab.study.engine.directory import Owner

    Owner.me().register(there / "workers")
    with pytest.raises(RequestError, match="1 worker at work"):
        submitted(*GRID, force=True)
    with pytest.raises(RequestError, match="know its points as they were"):
        submitted(*(line.replace("8,16", "4,8,16") for line in GRID))


def test_a_folder_that_is_no_study_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.setenv("GATELAB_ROOT", str(tmp_path))
    other = tmp_path / "studies" / "mine"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("kept")
    with pytest.raises(RequestError, match="already exists and is not a study"):
        submitted(*GRID)
    assert [p.name for p in other.parent.iterdir()] == ["mine"]
    assert (other / "notes.txt").read_text() == "kept"


def test_edited_files_are_told_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GATELAB_ROOT", str(tmp_path))
    mine = tmp_path / "conf" / "model"
    mine.mkdir(parents=True)
    (mine / "own.yaml").write_text("defaults: [gru, _self_]\nhidden_size: 5\n")
    request = ["study=mine", *TINY, "model=own", "optim.lr=1e-3,1e-2"]
    first, _ = submitted(*request, config_dirs=[tmp_path / "conf"])
    before = first.spec.config(first.points[0])
    (mine / "own.yaml").write_text("defaults: [gru, _self_]\nhidden_size: 6\nnosuch: 1\n")
    again = planned(*request, config_dirs=[tmp_path / "conf"])
    assert again.new == 0
    assert again.notes == [
        "changed since the study began: model/own.yaml. The study goes on with its own copies."
    ]
    assert again.spec.config(again.points[0]) == before
    (mine / "own.yaml").unlink()
    assert planned(*request, config_dirs=[tmp_path / "conf"]).new == 0
