"""A run of a study is an ordinary run that reports: pruned it keeps what it has, and can be continued by anybody."""

import json
import os
import signal
import subprocess
import sys

import pytest

from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import Identity
from gatelab.run.record.runs import list_runs
from gatelab.run.train import train_frozen
from gatelab.study.engine.reports import Reports, send_report
from gatelab.study.engine.trial import run
from gatelab.study.spec import StudySpec

# an epoch has 9 steps: validations after steps 3, 6, 9 (the end of the first epoch) and 12
LONGER = ["trainer.max_steps=12", "trainer.max_epochs=2"]


@pytest.fixture
def reports():
    server = Reports()
    yield server
    server.close()


@pytest.fixture
def request_of(make_study, reports):
    """A request, and the list that its reports go to; `judge` decides."""

    def make(judge=lambda step, value: False, number=0, overrides=LONGER):
        frozen = StudySpec.load(make_study(f"s{number}", "optim.lr=1e-3,1e-2", *overrides).path)
        plain, identity = frozen.config({"optim.lr": 1e-2})
        heard = []

        def hear(step, value):
            heard.append((step, value))
            return judge(step, value)

        reports.admit(f"{number}/s0", hear)
        request = {
            "study": "s",
            "number": number,
            "run": f"{number}/s0",
            "monitor": "val/loss",
            "reports": reports.address,
            "threads": 1,
            "identity": vars(identity),
            "config": plain,
        }
        return json.loads(json.dumps(request)), heard

    return make


def plain_run(request):
    return train_frozen(request["config"], Identity(**request["identity"]))


@pytest.mark.parametrize("last", [0, 2])
def test_a_pruned_run_keeps_its_values_and_is_continued_to_the_undisturbed_end(request_of, tmp_path, last):
    request, heard = request_of(lambda step, value: step == last)
    end = run(request)
    assert end["outcome"] == "pruned"
    assert [step for step, _ in heard] == list(range(last + 1))
    directory = RunDirectory(end["run_dir"])
    result = directory.result()
    assert result["best"] == min(value for _, value in heard)
    assert result["steps"] == [3, 6, 9][last]
    (facts,) = list_runs(tmp_path / "runs")
    assert (facts["state"], facts["value"]) == ("pruned", result["best"])

    continued = plain_run(request)
    assert continued["outcome"] == "done"
    assert directory.read()["attempts"][0]["result"]["outcome"] == "pruned"
    request["config"]["paths"]["runs"] = str(tmp_path / "undisturbed")
    undisturbed = plain_run(request)
    assert undisturbed["splits"]["valid"]["metrics"] == continued["splits"]["valid"]["metrics"]
    metrics = RunDirectory(undisturbed["run_dir"]).metrics_file.read_text()
    assert directory.metrics_file.read_text() == metrics


def test_a_run_that_goes_on_reports_what_it_had_measured_again(request_of):
    request, heard = request_of(lambda step, value: step == 1)
    run(request)
    first = list(heard)
    other, heard_by_other = request_of(number=1)
    other["config"], other["identity"] = request["config"], request["identity"]
    assert run(other)["outcome"] == "done"
    assert heard_by_other[: len(first)] == first
    assert [step for step, _ in heard_by_other] == list(range(4))


def test_a_trial_that_has_pruned_its_run_already_does_not_go_on_with_it(request_of):
    request, heard = request_of(lambda step, value: True)
    assert run(request)["outcome"] == "pruned"
    assert run(request)["outcome"] == "pruned"
    assert len(heard) == 1


def test_a_metric_that_is_not_there_is_named(request_of):
    request, _ = request_of()
    request["monitor"] = "val/accuracy"
    with pytest.raises(Exception, match=r"'val/accuracy' is not among the metrics of this run: .*val/loss"):
        run(request)


def test_a_run_whose_worker_cannot_judge_goes_on(request_of, reports, capsys):
    request, _ = request_of(overrides=[])

    def broken(step, value):
        raise KeyError("storage")

    reports.admit("0/s0", broken)
    assert run(request)["outcome"] == "done"
    assert "could not report validation 0: KeyError" in capsys.readouterr().err


def test_reports_are_told_apart_and_strangers_are_refused(reports):
    heard = []
    reports.admit("a", lambda step, value: heard.append((step, value)) or value > 1)
    assert send_report(reports.address, "a", 0, 0.5) is False
    assert send_report(reports.address, "a", 1, 1.5) is True
    with pytest.raises(RuntimeError, match="KeyError"):
        send_report(reports.address, "b", 0, 0.5)
    reports.dismiss("a")
    with pytest.raises(RuntimeError, match="KeyError"):
        send_report(reports.address, "a", 2, 0.5)
    assert heard == [(0, 0.5), (1, 1.5)]


def test_reports_of_another_user_are_not_heard(reports, monkeypatch):
    reports.admit("a", lambda step, value: True)
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises((RuntimeError, OSError)):
        send_report(reports.address, "a", 0, 0.5)


def test_a_killed_worker_leaves_no_socket_behind(tmp_path):
    script = (
        "import os; from gatelab.study.engine.reports import Reports; r = Reports(); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)})
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
