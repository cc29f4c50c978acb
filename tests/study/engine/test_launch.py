"""Every launcher starts the workers, tells what went wrong with one, and refuses what it does not know."""

import importlib.util
import os
import signal
import subprocess
import sys
import types

import pytest
from optuna.trial import TrialState

from gatelab.run import CONF_DIR, RequestError
from gatelab.study.engine import launch as launch_module
from gatelab.study.engine.directory import birth, read_owner
from gatelab.study.engine.launch import check_launcher, launch

from ..study_tools import eventually, rows_of

pytestmark = pytest.mark.ci

CONF = [CONF_DIR]


def test_the_options_of_a_launcher_are_those_of_its_file_and_of_the_command_line(monkeypatch):
    monkeypatch.setattr(launch_module, "EXTRAS", {})
    options = ["launcher.partition=gpu,other", "launcher.timeout_min=60", "launcher.gpus_per_node=1"]
    found = check_launcher("submitit_slurm", options, CONF)
    assert (found["partition"], found["timeout_min"], found["gpus_per_node"]) == ("gpu,other", 60, 1)
    found = check_launcher("ray", ["launcher.ray.init.address=auto", "+launcher.ray.init.x=1"], CONF)
    assert (found["ray"]["init"]["address"], found["ray"]["init"]["x"]) == ("auto", 1)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("lokal", [], r"launcher=lokal: no such choice\. Did you mean 'local'"),
        ("joblib", [], r"launcher=local does the same"),
        ("local", ["launcher.n_jobs=2"], r"launcher\.n_jobs: no such key of launcher=local"),
        ("submitit_slurm", ["launcher.partitoin=a"], r"partitoin: no such key.*Did you mean 'partition'"),
        ("submitit_slurm", ["launcher.partition.x=1"], r"launcher\.partition\.x: no such key"),
    ],
)
def test_what_a_launcher_does_not_know_is_refused(monkeypatch, name, options, expected):
    monkeypatch.setattr(launch_module, "EXTRAS", {})
    with pytest.raises(RequestError, match=expected):
        check_launcher(name, options, CONF)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'gatelab\[slurm\]'"):
        check_launcher("submitit_slurm", [], CONF)


@pytest.mark.parametrize("name", ["local", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_workers_of_a_launcher_carry_a_study_out(make_study, importable, name):
    if name != "local":
        pytest.importorskip("submitit")
    directory = make_study(name, "optim.lr=choice(1e-3)", "study.workers=2", "study.isolation=process")
    assert launch(directory.path, 2, name, [], CONF) == []
    assert [row.state for row in rows_of(directory)] == [TrialState.COMPLETE]
    owners = [read_owner(directory.workers, path.stem) for path in directory.workers.glob("*.json")]
    assert sorted((owner.index, owner.launcher) for owner in owners) == [(0, name), (1, name)]


def test_submitit_gets_its_options_and_a_job_for_each_worker(tmp_path, monkeypatch):
    asked = {}

    class Executor:
        def __init__(self, folder, **options):
            asked["made"] = (folder, options)

        def update_parameters(self, **options):
            asked["options"] = options

        def map_array(self, function, *given):
            assert function is launch_module.run_worker
            return [
                types.SimpleNamespace(result=lambda one=one: [f"{one}"]) for one in zip(*given, strict=True)
            ]

    submitit = types.ModuleType("submitit")
    submitit.AutoExecutor = Executor
    submitit.__spec__ = importlib.util.spec_from_loader("submitit", None)
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    options = ["launcher.timeout_min=7", "launcher.partition=gpu", "launcher.max_num_timeout=2"]
    problems = launch(tmp_path, 2, "submitit_slurm", options, CONF)
    assert problems == [f"worker {n}: ('{tmp_path}', {n}, 'submitit_slurm')" for n in range(2)]
    assert asked["made"] == (tmp_path / "launcher", {"cluster": "slurm", "slurm_max_num_timeout": 2})
    assert asked["options"]["timeout_min"] == 7
    assert asked["options"]["slurm_partition"] == "gpu"


def test_ray_gets_its_options_and_a_task_for_each_worker(make_study, monkeypatch):
    asked = {}

    def remote(**options):
        asked["remote"] = options
        return lambda function: types.SimpleNamespace(remote=lambda *given: (function, given))

    ray = types.ModuleType("ray")
    ray.init = lambda **options: asked.update(init=options)
    ray.remote, ray.get = remote, lambda task: [f"{task[1][1]} of {task[1][2]}"]
    ray.__spec__ = importlib.util.spec_from_loader("ray", None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    directory = make_study("ray", "optim.lr=1e-3,1e-2")
    options = ["launcher.ray.init.address=auto", "launcher.ray.remote.num_gpus=1"]
    problems = launch(directory.path, 2, "ray", options, CONF)
    assert problems == ["worker 0: 0 of ray", "worker 1: 1 of ray"]
    assert asked["init"] == {"address": "auto", "log_to_driver": True, "include_dashboard": False}
    assert asked["remote"] == {"num_cpus": 1, "num_gpus": 1}


def test_a_worker_that_cannot_begin_is_told_with_its_last_words(tmp_path):
    (problem,) = launch(tmp_path / "nothing", 1, "local", [], CONF)
    assert "worker 0: it ended with exit code 1" in problem
    assert "nothing: is not a study" in problem


LAUNCH = """
import sys
from pathlib import Path
from gatelab.run import CONF_DIR
from gatelab.study.engine.launch import launch
launch(Path(sys.argv[1]), 1, "local", [], [CONF_DIR])
"""


def test_workers_die_with_the_process_that_launched_them(make_study, importable):
    directory = make_study(
        "orphans", "optim.lr=1e-3,1e-2", "trainer.max_steps=100000", "trainer.max_epochs=999"
    )
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCH, str(directory.path)])
    (file,) = eventually(lambda: list(directory.workers.glob("*.json")))
    worker = read_owner(directory.workers, file.stem)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    eventually(lambda: birth(worker.pid) is None, 20)


WORKER = [sys.executable, "-m", "gatelab.study.engine.worker"]


def test_a_worker_whose_parent_is_gone_already_ends_at_once(make_study, importable):
    directory = make_study("late", "optim.lr=1e-3,1e-2")
    env = {**os.environ, "GATELAB_PARENT": "1"}
    ended = subprocess.run([*WORKER, str(directory.path), "0", "local"], env=env, timeout=60)
    assert ended.returncode == 128 + signal.SIGKILL
    assert {row.state for row in rows_of(directory)} == {TrialState.WAITING}
