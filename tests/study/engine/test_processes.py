"""A launcher is asked for the nodes that a study takes, and one that cannot give them is refused with the fix."""

import pytest
from omegaconf import OmegaConf

from gatelab.run.errors import RequestError
from gatelab.study.engine.processes import Processes, processes_of_study, set_nodes
from gatelab.study.plan.new_study import draft
from gatelab.study.plan.request import read_request
from gatelab.study.spec import sources_of

SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
TWO = Processes(3, 2)


def launcher(target, **keys):
    return OmegaConf.create({"_target_": target, **keys})


@pytest.mark.parametrize(("kind", "nodes", "tasks"), [("Slurm", 2, 1), ("Local", 1, 2)])
def test_submitit_gets_one_job_with_a_process_on_each_node(kind, nodes, tasks):
    config = launcher(f"{SUBMITIT}.{kind}Launcher", nodes=1, tasks_per_node=1)
    assert set_nodes(config, [], TWO)
    assert (config.nodes, config.tasks_per_node) == (nodes, tasks)


def test_ray_spreads_the_processes_over_machines():
    config = launcher(
        "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", ray={"remote": {"num_cpus": 1}}
    )
    assert not set_nodes(config, [], TWO)
    assert config.ray.remote == {"num_cpus": 1, "scheduling_strategy": "SPREAD"}


@pytest.mark.parametrize(
    ("config", "option", "processes", "said"),
    [
        (launcher("..BasicLauncher"), "", TWO, r"trainer.num_nodes=2: .*one process after the other"),
        (
            launcher("..JoblibLauncher", n_jobs=4),
            "launcher.n_jobs=4",
            TWO,
            r"launcher.n_jobs=4.* 6 processes",
        ),
        (
            launcher(f"{SUBMITIT}.SlurmLauncher", nodes=4, tasks_per_node=1),
            "launcher.nodes=4",
            TWO,
            r"launcher.nodes=4: each worker takes trainer.num_nodes=2 nodes",
        ),
        (
            launcher(f"{SUBMITIT}.SlurmLauncher", nodes=2, tasks_per_node=1),
            "launcher.nodes=2",
            Processes(3, 1),
            r"launcher.nodes=2: .*give trainer.num_nodes=N",
        ),
    ],
)
def test_what_a_launcher_cannot_do_is_refused_with_the_key(config, option, processes, said):
    with pytest.raises(RequestError, match=said):
        set_nodes(config, [option], processes)


def drafted(*overrides):
    sources = sources_of([])
    request = read_request(["experiment=quickstart", "optim.lr=1e-3,1e-2", *overrides], sources)
    return draft(request, "s", sources)


def test_a_study_takes_the_nodes_of_its_trials():
    assert processes_of_study(drafted("study.workers=2")) == Processes(2, 1)
    assert processes_of_study(drafted("trainer=ddp", "trainer.num_nodes=4")) == Processes(1, 4)


@pytest.mark.parametrize(
    "given",
    [["trainer.num_nodes=1,2"], ["trainer.num_nodes=0"], ["trainer.num_nodes=2", "trainer.devices=auto"]],
)
def test_nodes_that_cannot_be_are_named(given):
    with pytest.raises(RequestError, match=given[-1].partition("=")[0]):
        processes_of_study(drafted(*given))
