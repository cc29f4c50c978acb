"""Whatever is killed or asked to stop, every row ends once, and a run goes on from its checkpoint."""

import concurrent.futures
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from gatelab.run.train import train_frozen
from gatelab.study.engine.directory import Owner, birth
from gatelab.study.engine.queue import Queue
from gatelab.study.engine.worker import Worker
from gatelab.study.spec import StudySpec

from ..study_tools import eventually, rows_of, run_of

LONG = [
    "trainer.max_steps=300",
    "trainer.max_epochs=100",
    "trainer.val_check_interval=null",
    "callbacks.checkpoints.every_n_steps=3",
]
WORK = """
import json, sys
from gatelab.study.engine.worker import Worker
print(json.dumps(Worker(sys.argv[1]).run()))
"""


def begin_worker(directory):
    """A worker as a process of its own."""
    command = [sys.executable, "-c", WORK, str(directory.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def work(directory, runner, action=lambda: None):
    """Work until the end, and do `action` meanwhile; what the worker says."""
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        future = aside.submit(action)
        said = Worker(directory.path, runner=runner).run()
        future.result(10)
    assert not said["errors"]
    return said


def next_run(directory, *seen):
    """The process of a run, when it has a checkpoint to go on from and is none of `seen`."""

    def find():
        for file in directory.path.parents[1].glob("runs/*/*/run.json"):
            pid = json.loads(file.read_text())["attempts"][-1]["pid"]
            ready = (file.parent / "checkpoints/last.ckpt").is_file()
            if ready and pid not in seen and birth(pid):
                return pid
        return None

    return eventually(find)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def wait_gone(pid):
    eventually(lambda: birth(pid) is None)


@pytest.mark.ci
def test_a_study_ends_with_every_row_told(make_study, runner):
    directory = make_study(
        "all",
        "study.slots=2",
        "study.strategy=random",
        "study.n_trials=8",
        "model.hidden_size=4,6,-1",
        "study.seed=4",
    )
    said = work(directory, runner)
    rows = rows_of(directory)
    good = [row for row in rows if row.params["model.hidden_size"] > 0]
    bad = [row for row in rows if row.params["model.hidden_size"] < 0]
    assert len(good) >= 3
    assert len(bad) >= 1
    assert said["ended"] == {"complete": len(good), "fail": len(bad)}
    # a point that is proposed twice is one run, trained once
    assert len({row.user_attrs["runs"][0] for row in good}) == 2
    for row in good:
        run = run_of(directory, row)
        assert len(run.read()["attempts"]) == 1
        assert run.result()["splits"]["valid"]["metrics"]["loss"] == row.value
        assert row.user_attrs["parameters"] == run.result()["parameters"]
    assert {tuple(row.intermediate_values) for row in good} <= {(0, 1), ()}
    for row in bad:
        assert row.state is TrialState.FAIL
        assert "negative dimension -1" in row.user_attrs["error"]


def test_seeds_are_the_runs_of_a_point_and_its_value_their_mean(make_study, runner):
    directory = make_study("seeds", "study.seeds=[0,1]", "optim.lr=1e-3,1e-2")
    work(directory, runner)
    for row in rows_of(directory):
        runs = [run_of(directory, row, index) for index in range(2)]
        values = [run.result()["splits"]["valid"]["metrics"]["loss"] for run in runs]
        assert [run.read()["identity"]["seed"] for run in runs] == [0, 1]
        assert row.user_attrs["values"] == values
        assert row.value == sum(values) / 2
        assert row.intermediate_values == dict(enumerate(values))


@pytest.mark.ci
def test_a_point_is_pruned_between_its_seeds(make_study, runner):
    pruning = ["study.pruner=ThresholdPruner", "study.pruner_options.upper=0.1"]
    directory = make_study("between", "study.seeds=[0,1,2]", "optim.lr=choice(1e-3)", *pruning)
    assert work(directory, runner)["ended"] == {"pruned": 1}
    (row,) = rows_of(directory)
    assert len(row.user_attrs["values"]) == len(row.intermediate_values) == 1


def run_times(run):
    """When a run began and when its result was written."""
    begun = json.loads((run.path / "run.json").read_text())["attempts"][0]["started"]
    return datetime.datetime.fromisoformat(begun).timestamp(), (run.path / "result.json").stat().st_mtime


@pytest.mark.ci
def test_idle_slots_take_the_seeds_of_a_point(make_study, runner, tmp_path):
    def values(name, *settings):
        directory = make_study(name, "study.seeds=[0,1,2]", "optim.lr=choice(1e-2)", *LONG, "trainer.max_steps=60",
                               *settings, root=tmp_path / name)  # fmt: skip
        assert work(directory, runner)["ended"] == {"complete": 1}
        (row,) = rows_of(directory)
        times = [run_times(run_of(directory, row, index)) for index in range(3)]
        return row, max(begin for begin, _ in times) < min(end for _, end in times)

    alone, beside = values("alone")
    assert not beside
    shared, beside = values("shared", "study.slots=3")
    assert beside
    assert shared.user_attrs["values"] == alone.user_attrs["values"]
    assert shared.value == alone.value
    assert shared.intermediate_values == alone.intermediate_values
    # a pruner decides after each seed whether there is a next one
    never = ["study.pruner=ThresholdPruner", "study.pruner_options.upper=1e9"]
    _, beside = values("pruner", "study.slots=3", *never)
    assert not beside


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.ci
def test_seeds_in_several_slots_wait_again_as_one_trial(make_study, runner, how):
    directory = make_study("again", "study.seeds=[0,1]", "study.slots=2", *LONG, "optim.lr=choice(1e-2)",
                           "trainer.max_steps=60" if how == "killed" else "trainer.max_steps=300")  # fmt: skip

    def act():
        first = next_run(directory)
        second = next_run(directory, first)
        kill(second) if how == "killed" else directory.stop()

    said = work(directory, runner, act)
    (row,) = rows_of(directory)
    if how == "stopped":
        assert (said["interrupted"], said["ended"]) == (True, {"waiting": 1})
        assert {run_of(directory, row, index).state() for index in range(2)} == {"interrupted"}
        return
    assert said["ended"] == {"waiting": 1, "complete": 1}
    assert row.user_attrs["attempts"] == 1
    attempts = [len(run_of(directory, row, index).read()["attempts"]) for index in range(2)]
    assert sorted(attempts) == [1, 2]  # the other one had ended, and is taken as it is


@pytest.mark.ci
def test_a_seed_that_fails_ends_its_trial_and_keeps_what_the_others_found(make_study, runner):
    directory = make_study("one-fails", "study.seeds=[0,1]", "study.slots=2", "optim.lr=choice(1e-2)",
                           "+callbacks.spy._target_=spy.FailsOnSeed", "+callbacks.spy.seed=0")  # fmt: skip
    assert work(directory, runner)["ended"] == {"fail": 1}
    (row,) = rows_of(directory)
    assert "as requested" in row.user_attrs["error"]
    other = run_of(directory, row, 1).result()["splits"]["valid"]["metrics"]["loss"]
    assert row.user_attrs["values"] == [None, other]


@pytest.mark.ci
def test_several_objectives_are_told_in_their_order(make_study, runner):
    directory = make_study(
        "several", "study.objectives=[val/bpc,parameters,seconds]", "optim.lr=choice(1e-3)"
    )
    work(directory, runner)
    (row,) = rows_of(directory)
    result = run_of(directory, row).result()
    bpc = result["splits"]["valid"]["metrics"]["bpc"]
    assert row.values == [bpc, result["parameters"], result["seconds"]["fit"]]


@pytest.mark.ci
def test_the_same_study_has_the_same_values_with_any_number_of_slots(make_study, runner, tmp_path):
    def study(slots):
        space = ["optim.lr=tag(log,interval(1e-4,1e-1))", "model.hidden_size=4,6"]
        random = ["study.strategy=random", "study.n_trials=3", f"study.slots={slots}"]
        directory = make_study("slots", *random, *space, root=tmp_path / str(slots))
        work(directory, runner)
        return [(row.params, row.value) for row in rows_of(directory)]

    assert study(1) == study(3)


def same_as_undisturbed(directory, row):
    """A run that nobody killed has the value of the row."""
    plain, identity = StudySpec.load(directory.path).config(row.params)
    plain["paths"]["runs"], plain["threads"] = str(directory.path.parent / "undisturbed"), 1
    return train_frozen(plain, identity)["splits"]["valid"]["metrics"]["loss"] == row.value


def test_a_killed_run_goes_on_in_another_process_to_the_undisturbed_value(make_study, runner):
    directory = make_study("killed", *LONG, "trainer.max_steps=60", "optim.lr=choice(1e-2)")
    assert work(directory, runner, lambda: kill(next_run(directory)))["ended"] == {
        "waiting": 1,
        "complete": 1,
    }
    (row,) = rows_of(directory)
    assert row.user_attrs["attempts"] == 1
    assert len(run_of(directory, row).read()["attempts"]) == 2
    assert same_as_undisturbed(directory, row)


@pytest.mark.slow
def test_killed_runs_servers_and_workers_lose_nothing(make_study, runner):
    directory = make_study("chaos", *LONG, "optim.lr=choice(1e-2)")
    worker = begin_worker(directory)
    first = next_run(directory)
    kill(first)
    second = next_run(directory, first)
    kill(parent_of(second))  # the server
    wait_gone(second)
    third = next_run(directory, first, second)
    server = parent_of(third)
    worker.kill()
    worker.communicate()
    wait_gone(third)
    wait_gone(server)
    assert work(directory, runner)["ended"] == {"complete": 1}
    (row,) = rows_of(directory)
    assert row.user_attrs["attempts"] == 3
    assert len(run_of(directory, row).read()["attempts"]) == 4
    assert "continuing" in (directory.trial(0) / "s0.log").read_text()

    assert same_as_undisturbed(directory, row)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "stop file", "stop now", "twice SIGINT"])
@pytest.mark.ci
def test_a_worker_that_is_asked_to_stop_requeues_its_trials(make_study, runner, how):
    directory = make_study("stop", *LONG, "optim.lr=1e-2,1e-3")

    def ask():
        next_run(directory)
        if how.startswith("stop"):
            directory.stop(now=how == "stop now")
        for _ in range(how.count("twice") + how.count("SIG")):
            os.kill(os.getpid(), getattr(signal, how.split()[-1]))

    said = work(directory, runner, ask)
    assert (said["interrupted"], said["ended"]) == (True, {"waiting": 1})
    rows = rows_of(directory)
    assert [row.state for row in rows] == [TrialState.WAITING] * 2
    assert "attempts" not in rows[0].user_attrs
    if how not in ("stop now", "twice SIGINT"):
        assert run_of(directory, rows[0]).state() == "interrupted"


@pytest.mark.ci
def test_failures_have_an_end(make_study, runner):
    sizes = "model.hidden_size=" + ",".join(str(-size) for size in range(1, 9))
    directory = make_study("failing", sizes, "study.max_failures=2", "study.slots=2")
    said = work(directory, runner)
    assert 2 <= said["ended"]["fail"] <= 3
    assert sum(row.state is TrialState.WAITING for row in rows_of(directory)) == 8 - said["ended"]["fail"]


@pytest.mark.ci
def test_a_worker_stays_while_another_one_runs_and_takes_over_what_that_one_loses(make_study, runner):
    directory = make_study("linger", "optim.lr=choice(1e-2)")
    queue = Queue(directory)
    other = dataclasses.replace(Owner.me(), id="other")
    other.register(directory.workers)
    claim = queue.claim("other/0")
    assert claim is not None
    said = work(directory, runner, lambda: (time.sleep(1.0), other.leave(directory.workers)))
    assert said["ended"] == {"complete": 1}
    assert rows_of(directory)[0].user_attrs["attempts"] == 1


DDP = ["trainer=ddp_cpu", "+callbacks.spy._target_=spy.Spy"]


def ranks_of(directory, row):
    return [json.loads((run_of(directory, row).path / f"rank{rank}.json").read_text()) for rank in range(2)]


def same_values(directory, row):
    """The learning rate of a trial: what its row says, and what both of its ranks say that they train with."""
    first, second = ranks_of(directory, row)
    assert first == second
    assert (first["world"], first["lr"], first["hparams"]["optim"]["lr"]) == (
        2,
        *[row.params["optim.lr"]] * 2,
    )
    return first["lr"]


@pytest.mark.ci
def test_both_ranks_of_a_trial_train_with_the_same_values(make_study, runner):
    directory = make_study("ddp", *DDP, "optim.lr=choice(2e-3)")
    assert work(directory, runner)["ended"] == {"complete": 1}
    (row,) = rows_of(directory)
    assert same_values(directory, row) == 2e-3


def other_rank(directory):
    """The process of a rank that another one has started, once it trains."""
    for file in directory.path.parents[1].glob("runs/*/*/rank1.json"):
        pid = json.loads((file.parent / "run.json").read_text())["attempts"][-1]["pid"]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
    return None


@pytest.mark.slow
def test_a_killed_rank_costs_its_trial_only(make_study, runner):
    directory = make_study(
        "ranks",
        *LONG,
        *DDP,
        "trainer.max_steps=60",
        "study.slots=2",
        "optim.lr=1e-2,1e-3",
        "study.strategy=grid",
    )
    said = work(directory, runner, lambda: kill(eventually(lambda: other_rank(directory))))
    assert said["ended"] == {"complete": 2, "waiting": 1}
    rows = rows_of(directory)
    assert sorted(row.user_attrs.get("attempts", 0) for row in rows) == [0, 1]
    for row in rows:
        same_values(directory, row)


@pytest.mark.slow
def test_two_ranks_are_pruned_and_interrupted_together(make_study, runner, tmp_path):
    pruning = ["study.pruner=ThresholdPruner", "study.pruner_options.upper=0.1"]
    directory = make_study(
        "prune", *DDP, "study.strategy=tpe", "study.n_trials=2", "optim.lr=interval(1e-3,1e-2)", *pruning
    )
    assert work(directory, runner)["ended"] == {"pruned": 2}
    assert len({same_values(directory, row) for row in rows_of(directory)}) == 2

    directory = make_study("interrupt", *LONG, *DDP, "optim.lr=choice(1e-2)", root=tmp_path / "interrupt")
    said = work(directory, runner, lambda: (eventually(lambda: other_rank(directory)), directory.stop()))
    assert said["ended"] == {"waiting": 1}
    (row,) = rows_of(directory)
    assert run_of(directory, row).state() == "interrupted"


@pytest.mark.ci
def test_a_run_keeps_to_its_slots_threads(make_study, runner):
    """`study.threads=1` of `TINY` is the slot's share, whatever the run's configuration asks for."""
    directory = make_study("threads", "threads=64", "model.hidden_size=4")
    work(directory, runner)
    record = run_of(directory, rows_of(directory)[0]).read()
    assert record["attempts"][0]["environment"]["threads"] == 1
