"""A run of a study is an ordinary run that reports: pruned it keeps what it has, and can be continued by anybody."""

import json
import threading

import pytest

from gatelab.run.frozen_run import EventReader, EventWriter
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import Identity
from gatelab.run.record.listing import list_runs
from gatelab.run.train import train_frozen
from gatelab.study.engine import run_trial
from gatelab.study.engine.runner import answers_file
from gatelab.study.spec import StudySpec

pytestmark = pytest.mark.ci

# an epoch has 9 steps: validations after steps 3, 6, 9 (the end of the first epoch) and 12
LONGER = ["trainer.max_steps=12", "trainer.max_epochs=2"]


@pytest.fixture
def request_of(make_study, tmp_path):
    """A request, and the list of what its validations were; `judge` decides in the worker's place."""
    threads = []

    def make(judge=lambda step, value: False, number=0, overrides=LONGER):
        spec = StudySpec.load(make_study(f"s{number}", "optim.lr=1e-3,1e-2", *overrides).path)
        config, identity = spec.config({"optim.lr": 1e-2})
        request = {
            "study": "s",
            "number": number,
            "monitor": "val/loss",
            "reports": True,
            "prunes": True,
            "threads": 1,
            "identity": vars(identity),
            "config": config,
        }
        file = tmp_path / f"{number}.events.jsonl"
        heard, over = [], threading.Event()

        def worker():
            events, answers = EventReader(file), EventWriter(answers_file(file))
            while not over.wait(0.01):
                for event in events.read():
                    heard.append((event["index"], event["value"]))
                    prune = judge(event["index"], event["value"])
                    if event["asks"]:
                        answers.write("answer", index=event["index"], prune=prune)

        threads.append((threading.Thread(target=worker), over))
        threads[-1][0].start()
        return json.loads(json.dumps(request)), heard

    yield make
    for thread, over in threads:
        over.set()
        thread.join()


@pytest.fixture
def run(tmp_path):
    def start(request):
        return run_trial.run(request, EventWriter(tmp_path / f"{request['number']}.events.jsonl"))

    return start


def plain_run(request):
    return train_frozen(request["config"], Identity(**request["identity"]))


@pytest.mark.parametrize("last", [0, 2])
def test_a_pruned_run_keeps_its_values_and_is_continued_to_the_undisturbed_end(
    request_of, run, tmp_path, last
):
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


def test_a_run_that_goes_on_reports_what_it_had_measured_again(request_of, run):
    request, heard = request_of(lambda step, value: step == 1)
    run(request)
    first = list(heard)
    other, heard_by_other = request_of(number=1)
    other["config"], other["identity"] = request["config"], request["identity"]
    assert run(other)["outcome"] == "done"
    assert heard_by_other[: len(first)] == first
    assert [step for step, _ in heard_by_other] == list(range(4))


def test_a_trial_that_has_pruned_its_run_already_does_not_go_on_with_it(request_of, run):
    request, heard = request_of(lambda step, value: True)
    assert run(request)["outcome"] == "pruned"
    assert run(request)["outcome"] == "pruned"
    assert len(heard) == 1


def test_a_metric_that_is_not_there_is_named(request_of, run):
    request, _ = request_of()
    request["monitor"] = "val/accuracy"
    with pytest.raises(Exception, match=r"'val/accuracy' is not among the metrics.*: .*val/loss"):
        run(request)


def test_a_metric_that_optuna_does_not_take_may_be_missing(request_of, run):
    request, heard = request_of(overrides=[])
    request |= {"monitor": "parameters", "reports": False, "prunes": False}
    assert run(request)["outcome"] == "done"
    assert {value for _, value in heard} <= {None}


def test_a_run_without_an_answer_goes_on_and_says_so(request_of, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_trial, "ANSWER_SECONDS", 0.05)
    request, _ = request_of(overrides=[])
    request["number"] = 7  # nobody reads its events
    assert run(request)["outcome"] == "done"
    assert "validation 0: no answer from the pruner" in capsys.readouterr().err


def test_events_are_read_once_and_never_half(tmp_path):
    file = tmp_path / "a.events.jsonl"
    reader, writer = EventReader(file), EventWriter(file)
    assert reader.read() == []
    writer.write("begin", pid=1)
    assert [event["event"] for event in reader.read()] == ["begin"]
    assert reader.read() == []
    with file.open("a") as half:
        half.write('{"event": "validation", "rank"')
    assert reader.read() == []
    with file.open("a") as rest:
        rest.write(': 0}\n{"torn\n')
    writer.write("end", outcome="done")
    assert [event["event"] for event in reader.read()] == ["validation", "end"]
