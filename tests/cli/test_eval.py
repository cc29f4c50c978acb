"""`gatelab eval`: scores on test that a finished run has none of are kept, of one run and of a whole study."""

import json
import shutil

import pytest

from gatelab.cli.main import main
from gatelab.report.gather import gather
from gatelab.report.page import write_page
from gatelab.run.scoring import evaluate
from gatelab.run.train import train

from ..studies_by_hand import choice

SMALL = [
    *("data=text", "data.level=char", "data.batch_size=4", "data.window=16", "data.split=[0.6,0.2,0.2]"),
    *("trainer.max_steps=5", "callbacks=none", "threads=1", "name=one", "test=false"),
]
FIRST, SECOND, OTHER = "00000000-s0", "00000000-s1", "00010000-s0"
"""The runs of the study: two of the better trial, one of the other, whose second is not there."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run that was not scored on test."""
    root = tmp_path_factory.mktemp("trained")
    (root / "t.txt").write_text("".join(f"{n} times\n" for n in range(200)))
    done = train([*SMALL, "model.hidden_size=4", f"data.path={root / 't.txt'}", f"paths.root={root}"])
    return done["run_dir"]


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs" / "one" / "aaaaaaaa-s0")


@pytest.fixture
def study(trained, make_study):
    """A study of two trials with copies of the run in the places of its four, of which one has lost its checkpoints."""
    trials = [
        {"params": {"model.hidden_size": size}, "values": values}
        for size, values in ((4, [2.0, 2.1]), (8, [3.0, 3.1]))
    ]
    folder = make_study("sizes", [choice("model.hidden_size", 4, 8)], trials, seeds=[0, 1])
    for place in sorted((folder.parents[1] / "runs" / "sizes").iterdir()):
        shutil.rmtree(place)
        shutil.copytree(trained, place)
    shutil.rmtree(place / "checkpoints")
    return folder


def splits_of(run):
    return json.loads((run / "result.json").read_text())["splits"]


def test_scores_on_test_are_kept_once_and_nothing_else_changes(run, capsys):
    before, record = splits_of(run), (run / "run.json").read_bytes()
    assert main(["eval", str(run), "--json"]) == 0
    told = capsys.readouterr()
    report, after = json.loads(told.out), splits_of(run)
    assert f"the scores on test are kept in {run / 'result.json'}" in told.err
    assert after == {**before, "test": {key: report[key] for key in ("metrics", "baselines", "seconds")}}
    assert (run / "run.json").read_bytes() == record
    assert main(["eval", str(run)]) == 0
    assert "kept" not in capsys.readouterr().err
    assert splits_of(run) == after


def test_a_finished_run_that_is_asked_for_with_test_scores_gets_them_and_stays_as_it_is(tmp_path):
    (tmp_path / "t.txt").write_text("".join(f"{n} times\n" for n in range(200)))
    request = [*SMALL, "model.hidden_size=4", f"data.path={tmp_path / 't.txt'}", f"paths.root={tmp_path}"]
    first = train(request)
    second = train([key for key in request if key != "test=false"])
    assert second.pop("already")
    assert not first.pop("already")
    assert second["splits"].pop("test")["metrics"]["loss"] > 0
    assert second == first


def test_scores_that_are_not_the_runs_own_are_not_kept(run, capsys, monkeypatch):
    def told(*given):
        assert main(["eval", str(run), *given]) == 0
        assert "test" not in splits_of(run)
        return capsys.readouterr().err

    assert f"not kept in {run / 'result.json'}: data.eval_window=7 was given" in told("data.eval_window=7")
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "changed_code", lambda record: ["gatelab/core/gru.py"])
        assert "the code has changed since the run" in told()
    best = run / "checkpoints" / "best.ckpt"
    shutil.copy(best, run / "checkpoints" / "last.ckpt")
    best.unlink()
    assert "they are those of last.ckpt, for best.ckpt is gone" in told()


@pytest.mark.parametrize("name", ["t.txt", "called-otherwise.txt"])
def test_the_scores_of_data_that_lie_elsewhere_are_kept(name, run, tmp_path):
    text = json.loads((run / "run.json").read_text())["config"]["data"]["path"]
    (tmp_path / "moved").mkdir()
    assert main(["eval", str(run), f"data.path={shutil.copy(text, tmp_path / 'moved' / name)}"]) == 0
    assert "test" in splits_of(run)


SPOILT = {
    "splits is a list": lambda result: result.update(splits=["valid"]),
    "splits is null": lambda result: result.update(splits=None),
    "no splits": lambda result: result.pop("splits"),
    "a text for a score": lambda result: result["splits"].update(test={"metrics": {"loss": "3.0"}}),
    "a truth value for a score": lambda result: result["splits"].update(test={"metrics": {"loss": True}}),
    "null for a score": lambda result: result["splits"].update(test={"metrics": {"loss": None}}),
    "no metrics": lambda result: result["splits"].update(test={}),
    "null for a split": lambda result: result["splits"].update(test=["metrics"]),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_result_is_told_and_hides_no_other(spoil, study, capsys):
    runs = study.parents[1] / "runs" / "sizes"
    for place in runs.glob("*-s?"):
        result = json.loads((place / "result.json").read_text())
        result["splits"]["test"] = {"metrics": {"loss": 2.0}, "baselines": {"unigram": {"loss": 4.0}}}
        if place.name == FIRST:
            spoil(result)
        (place / "result.json").write_text(json.dumps(result))
    spoilt = (runs / FIRST / "result.json").read_bytes()
    assert main(["eval", str(study)]) == 1
    told = capsys.readouterr()
    assert f"{FIRST}/result.json" in told.err
    lines = [line for line in told.out.splitlines() if line.startswith("| trial ")]
    assert [line.split("|")[3].strip() for line in lines] == ["1 of 2", "2 of 2"]
    assert (runs / FIRST / "result.json").read_bytes() == spoilt
    assert main(["study", str(study)]) == 0


@pytest.mark.parametrize("spoilt", ["3.0", None, True, {}, 10**400])
def test_a_trivial_model_whose_score_is_damaged_is_that_of_the_next_trial(spoilt, study, capsys):
    for place in (study.parents[1] / "runs" / "sizes").glob("*-s?"):
        result = json.loads((place / "result.json").read_text())
        beside = spoilt if place.name == FIRST else 4.0 if place.name.startswith("0001") else 5.0
        result["splits"]["test"] = {"metrics": {"loss": 2.0}, "baselines": {"unigram": {"loss": beside}}}
        (place / "result.json").write_text(json.dumps(result))
    assert main(["eval", str(study)]) == 0
    cells = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    (unigram,) = [line for line in cells if line[1:2] == ["unigram"]]
    assert float(unigram[3]) == 4.0


def test_a_study_is_scored_run_by_run_and_one_that_cannot_be_holds_up_no_other(study, capsys, monkeypatch):
    runs = study.parents[1] / "runs" / "sizes"
    assert main(["eval", str(study)]) == 1
    told = capsys.readouterr()
    assert "1 of 4, trial 0, " in told.err
    assert "has no checkpoint yet" in told.err
    assert "1 of 4 runs could not be scored" in told.err
    assert [("test" in splits_of(place)) for place in sorted(runs.glob("*-s?"))] == [True, True, True, False]
    assert "On the test split" in told.out
    assert "1 of 2" in told.out  # of the second trial's runs
    kept = [(runs / name / "result.json").read_bytes() for name in (FIRST, SECOND, OTHER)]

    def evaluate_once(directory, *rest, **others):
        assert directory.name not in (FIRST, SECOND, OTHER)
        return evaluate.evaluate(directory, *rest, **others)

    monkeypatch.setattr("gatelab.study.score.evaluate", evaluate_once)
    assert main(["eval", str(study)]) == 1
    assert capsys.readouterr().err.count("there already") == 3
    assert [(runs / name / "result.json").read_bytes() for name in (FIRST, SECOND, OTHER)] == kept


def test_the_order_of_a_studys_scores_is_that_of_validation(study, capsys, tmp_path):
    runs = study.parents[1] / "runs" / "sizes"
    for place in runs.glob("*-s?"):
        result = json.loads((place / "result.json").read_text())
        better = place.name.startswith("0001")  # on test, and worse on valid
        beside = {"unigram": {"loss": 4.0 if place.name.endswith("s0") else 5.0}}
        result["splits"]["test"] = {"metrics": {"loss": 1.0 if better else 2.0}, "baselines": beside}
        (place / "result.json").write_text(json.dumps(result))
    assert main(["eval", str(study)]) == 0
    cells = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in cells if line[1:] and line[1].startswith("trial ")] == ["trial 0", "trial 1"]
    (unigram,) = [line for line in cells if line[1:2] == ["unigram"]]
    assert float(unigram[3]) == 4.5  # the mean over the runs, whose folds may differ
    subjects, _ = gather([str(study)])
    page = write_page(subjects, tmp_path / "page.html").read_text()
    assert "On the test split" in page


def test_the_name_of_a_study_means_it_also_where_one_run_begins_so(study, capsys, monkeypatch):
    for place in (study.parents[1] / "runs" / "sizes").iterdir():
        if place.name != FIRST:
            shutil.rmtree(place)
    monkeypatch.chdir(study.parents[1])
    assert main(["eval", "sizes"]) == 1
    assert "3 of 4 runs could not be scored" in capsys.readouterr().err
    assert main(["eval", "sizes/"]) == 1
    assert main(["eval", "sizs"]) == 2
    assert "Did you mean 'sizes'?" in capsys.readouterr().err
    (study / "study.json").unlink()
    assert main(["eval", "sizes"]) == 0  # the only run


def test_what_is_of_one_run_only_is_refused_of_a_study(study, capsys):
    assert main(["eval", str(study), "--format", "gift"]) == 2
    assert "is of one run" in capsys.readouterr().err


def test_a_request_that_no_run_can_meet_is_refused_once(study, capsys):
    for wrong in (["nonsense=1"], ["--rows", "nonsense"]):
        assert main(["eval", str(study), *wrong]) == 2
        assert capsys.readouterr().err.count("nonsense") <= 2


def test_without_a_test_split_a_study_is_scored_on_valid(tmp_path, make_study, capsys):
    (tmp_path / "t.txt").write_text("".join(f"{n} times\n" for n in range(200)))
    given = [key for key in SMALL if not key.startswith("data.split")]
    request = [*given, "data.split=[0.8,0.2]", "model.hidden_size=4", f"data.path={tmp_path / 't.txt'}"]
    done = train([*request, f"paths.root={tmp_path / 'one'}"])
    trial = {"params": {"model.hidden_size": 4}, "values": [2.0]}
    folder = make_study("sizes", [choice("model.hidden_size", 4)], [trial])
    (place,) = (tmp_path / "runs" / "sizes").glob("*-s0")
    shutil.rmtree(place)
    shutil.copytree(done["run_dir"], place)
    assert main(["eval", str(folder)]) == 0
    assert f"{place.name}, valid, loss " in capsys.readouterr().err
    assert main(["eval", str(folder), "--split", "test"]) == 2
