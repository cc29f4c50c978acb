"""Trials on several nodes, here two on one machine: equal values on all ranks, and whatever dies costs one attempt."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from gatelab.run.record.directory import RunDirectory
from gatelab.study.engine.group import Place
from gatelab.study.engine.liveness import birth
from gatelab.study.engine.worker import Worker
from gatelab.study.spec import StudySpec

from ..study_tools import eventually, rows_of, run_of

TWO = ["trainer=ddp_cpu", "trainer.num_nodes=2", "trainer.devices=1", "+callbacks.spy._target_=spy.Spy"]
LONG = ["trainer.max_steps=300", "trainer.max_epochs=1000", "callbacks.checkpoints.every_n_steps=3"]
FOLLOW = """
import sys
from gatelab.study.engine.follower import Follower
from gatelab.study.engine.group import Place
Follower(sys.argv[1], Place(sys.argv[2], 0, 1, 2)).run()
"""
LEAD = """
import sys
from gatelab.study.engine.group import Place
from gatelab.study.engine.worker import Worker
Worker(sys.argv[1], place=Place(sys.argv[2], 0, 0, 2)).run()
"""


def same_values(directory, row):
    """The learning rate of a trial: what its row says, and what both of its ranks say that they train with."""
    path = run_of(directory, row).path
    first, second = (json.loads((path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["world"] == 2
    assert first["lr"] == first["hparams"]["optim"]["lr"] == row.params["optim.lr"]
    return first["lr"]


def begin(script, directory, group="g"):
    return subprocess.Popen([sys.executable, "-c", script, str(directory.path), group])


def work(directory, action=lambda follower: None):
    """Lead here and follow in another process, and do `action` meanwhile; what the worker says."""
    follower = begin(FOLLOW, directory)
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        future = aside.submit(action, follower)
        said = Worker(directory.path, place=Place("g", 0, 0, 2)).run()
        future.result(10)
    follower.wait(30)
    return said


def tree(pid):
    """The processes that a process has started, and those that these have, and so on."""
    children = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):  # of each thread
        with contextlib.suppress(OSError):
            children += [int(child) for child in file.read_text().split()]
    return [*children, *(p for child in children for p in tree(child))]


def ranks_of(pid):
    """The processes below `pid` that train."""
    found = []
    for process in tree(pid):
        command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if b"gatelab.study.engine.run_trial" in command and b"gatelab.run.torchrun" not in command:
            found.append(process)
    return found


def training(directory, pid):
    """Wait until a run has a checkpoint to go on from; the processes below `pid` that train."""
    eventually(lambda: [*directory.path.parents[1].glob("runs/*/*/checkpoints/last.ckpt")])
    return eventually(lambda: ranks_of(pid))


def gone(pids):
    eventually(lambda: not any(birth(pid) for pid in pids), 30)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_processes_that_torchrun_started_train_one_run_with_the_same_values(make_study, runner):
    directory = make_study("pair", *TWO, "optim.lr=choice(2e-3)")
    plain, identity = StudySpec.load(directory.path).config({"optim.lr": 2e-3})
    request = directory.request(0, 0)
    request.parent.mkdir(parents=True)
    frozen = {
        "threads": 1,
        "config": plain,
        "identity": vars(identity),
        "reports": None,
        "number": 0,
        "study": "pair",
    }
    request.write_text(json.dumps(frozen))
    common = {
        **os.environ,
        "TORCHELASTIC_RUN_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "torchrun",
        "SLURM_PROCID": "3",
        "GROUP_WORLD_SIZE": "2",
    }
    processes = [
        runner.start(
            request,
            request.with_suffix(f".{r}.log"),
            {**common, "RANK": str(r), "GROUP_RANK": str(r)},
            Path.cwd(),
        )
        for r in (1, 0)
    ]
    logs = [path.read_text() for path in sorted(request.parent.glob("*.log"))]
    assert [process.wait() for process in processes] == [0, 0], logs
    run = identity.directory(plain["paths"]["runs"])
    assert RunDirectory(run).state() == "done"
    first, second = (json.loads((run / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert (first["world"], first["lr"]) == (2, 2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib", "submitit_local"])
def test_a_sweep_over_two_nodes_gives_the_values_of_one_node(
    make_study, importable, tmp_path, launcher, runner
):
    space = ["optim.lr=interval(1e-3,1e-2)", "study.strategy=random", "study.n_trials=2"]
    one = make_study("one", TWO[0], TWO[-1], *space)
    assert Worker(one.path, runner=runner).run()["ended"] == {"complete": 2}

    from gatelab.study.engine.launch import launch
    from gatelab.study.engine.processes import Processes
    from gatelab.study.spec import kept_sources

    two = make_study("two", *TWO, *space, root=tmp_path / "two")
    assert launch(two.path, Processes(1, 2), launcher, [], kept_sources(two.conf)) == []
    expected = {row.params["optim.lr"]: row.value for row in rows_of(one)}
    assert {row.params["optim.lr"]: row.value for row in rows_of(two)} == expected
    assert {same_values(two, row) for row in rows_of(two)} == set(expected)
    assert len(list((two.path / "workers").glob("*.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_a_killed_rank_costs_one_attempt_and_nothing_of_it_is_left(make_study, importable, node):
    directory = make_study("ranks", *LONG, *TWO, "optim.lr=1e-2,1e-3")
    seen = []

    def kill(follower):
        here = training(directory, os.getpid())
        seen.extend(tree(os.getpid()))
        os.kill(
            ranks_of(follower.pid)[0] if node else next(p for p in here if p not in tree(follower.pid)), 9
        )

    said = work(directory, kill)
    assert said["ended"] == {"complete": 2, "waiting": 1}
    assert not said["errors"]
    gone(seen)
    rows = rows_of(directory)
    assert sorted(row.user_attrs.get("attempts", 0) for row in rows) == [0, 1]
    assert {same_values(directory, row) for row in rows} == {1e-2, 1e-3}


@pytest.mark.slow
def test_a_dead_follower_ends_its_worker_and_a_dead_worker_its_follower(make_study, importable):
    directory = make_study("nodes", *LONG, *TWO, "optim.lr=choice(1e-2)")
    seen = []

    def kill(follower):
        training(directory, os.getpid())
        seen.extend(tree(os.getpid()))
        follower.kill()

    said = work(directory, kill)
    assert said["ended"] == {"waiting": 1}
    assert "node 1" in said["errors"][0]
    gone(seen)

    worker, follower = begin(LEAD, directory, "h"), begin(FOLLOW, directory, "h")
    eventually(lambda: ranks_of(follower.pid) and ranks_of(worker.pid))
    seen = [*tree(worker.pid), *tree(follower.pid)]
    worker.kill()
    assert follower.wait(30) == 0
    gone(seen)
    worker.wait()
    assert work(directory)["ended"] == {"complete": 1}
    (row,) = rows_of(directory)
    assert row.user_attrs["attempts"] == 2
    assert len(run_of(directory, row).read()["attempts"]) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["worker", "follower"])
def test_a_signal_to_either_saves_the_run_and_gives_its_row_back(make_study, importable, whom):
    directory = make_study("stop", *LONG, *TWO, "optim.lr=choice(1e-2)", "trainer.max_steps=5000")

    def ask(follower):
        training(directory, os.getpid())
        os.kill(os.getpid() if whom == "worker" else follower.pid, signal.SIGUSR1)

    said = work(directory, ask)
    assert said["ended"] == {"waiting": 1}
    (row,) = rows_of(directory)
    assert row.state is TrialState.WAITING
    assert "attempts" not in row.user_attrs
    assert run_of(directory, row).state() == "interrupted"


@pytest.mark.slow
def test_two_nodes_are_pruned_together(make_study, importable):
    pruning = ["study.pruner=ThresholdPruner", "study.pruner_options.upper=0.1"]
    space = ["study.strategy=tpe", "study.n_trials=2", "optim.lr=interval(1e-3,1e-2)"]
    directory = make_study("prune", *TWO, *space, *pruning)
    assert work(directory)["ended"] == {"pruned": 2}
    assert len({same_values(directory, row) for row in rows_of(directory)}) == 2


@pytest.mark.slow
def test_what_fails_on_a_follower_fails_the_trial_with_its_reason(make_study, importable, monkeypatch):
    directory = make_study("fails", *TWO, "optim.lr=choice(1e-2)")
    monkeypatch.setenv("SPY_FAILS_ON", "1")
    said = work(directory)
    assert said["ended"] == {"fail": 1}
    (row,) = rows_of(directory)
    assert "as requested" in row.user_attrs["error"]
