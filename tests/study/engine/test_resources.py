"""Slots divide threads and GPUs; a run's environment makes it nobody's rank."""

import pytest

from gatelab.run import RequestError
from gatelab.study.engine.resources import allocate, allocation, find_gpus, parse_gpus, slots_on_machine
from gatelab.study.settings import StudySettings

CPU = {"accelerator": "cpu", "devices": 1}
GPU = {"accelerator": "gpu", "devices": 1}
FOUR = ["0", "1", "2", "3"]


@pytest.mark.parametrize(("slots", "cores", "threads"), [(1, 8, 8), (2, 8, 4), (3, 8, 2), (16, 8, 1)])
def test_cores_are_divided_between_slots(slots, cores, threads):
    assert allocate(0, trainer=CPU, gpus=[], slots=slots, cores=cores).threads == threads


def test_given_threads_win_and_ranks_divide_them():
    assert allocate(0, trainer=CPU, gpus=[], slots=4, threads=6, cores=8).threads == 6
    assert allocate(0, trainer={**CPU, "devices": 2}, gpus=[], slots=4, threads=6, cores=8).threads == 3


@pytest.mark.parametrize(
    ("gpus", "devices", "expected"),
    [
        (FOUR, 1, ["0", "1", "2", "3", "0", "1"]),
        (["0"], 1, ["0"] * 6),
        (FOUR, 2, ["0,1", "2,3", "0,1", "2,3", "0,1", "2,3"]),
        (["4", "7", "9"], "2", ["4,7"] * 6),
        (["MIG-a", "MIG-b"], 1, ["MIG-a", "MIG-b"] * 3),
    ],
)
def test_slots_are_spread_over_gpus(gpus, devices, expected):
    trainer = {**GPU, "devices": devices}
    shares = [allocate(slot, trainer=trainer, gpus=gpus, slots=6, cores=6) for slot in range(6)]
    assert [share.environment({})["CUDA_VISIBLE_DEVICES"] for share in shares] == expected


@pytest.mark.parametrize("devices", ["auto", -1])
def test_all_gpus_means_all_of_the_slots_share(devices):
    trainer = {**GPU, "devices": devices}
    assert allocate(1, trainer=trainer, gpus=FOUR, slots=2, cores=8).gpus == ("2", "3")


def test_a_run_on_the_processor_sees_no_gpu_and_named_gpus_are_left_alone():
    assert allocate(0, trainer=CPU, gpus=FOUR, slots=1).environment({})["CUDA_VISIBLE_DEVICES"] == ""
    given = allocate(0, trainer={**GPU, "devices": [1, 3]}, gpus=FOUR, slots=1)
    assert "CUDA_VISIBLE_DEVICES" not in given.environment({})


def test_more_slots_than_gpus_share_them_and_find_the_service_that_divides_one():
    """MPS is the user's: what tells a process of it reaches every run."""
    settings = StudySettings(name="s", slots=4, gpus=[0, 1])
    found = [allocation(settings, 0, "local", slot, GPU) for slot in range(4)]
    assert [one.gpus for one in found] == [("0",), ("1",), ("0",), ("1",)]
    service = {"CUDA_MPS_PIPE_DIRECTORY": "/mps", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"}
    assert service.items() <= found[0].environment(service).items()


def test_too_few_gpus_are_refused_with_the_number_there_is():
    with pytest.raises(RequestError, match=r"devices=8: this machine has 4 GPUs"):
        allocate(0, trainer={**GPU, "devices": 8}, gpus=FOUR, slots=1)
    with pytest.raises(RequestError, match="no GPU was found"):
        allocate(0, trainer=GPU, gpus=[], slots=1)


def test_a_run_is_no_rank_of_what_started_the_worker():
    base = {"MASTER_PORT": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x", "RANK": "3", "HOME": "/h"}
    env = allocate(0, trainer=CPU, gpus=[], slots=1, threads=3).environment(base)
    assert env == {"HOME": "/h", "OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("tasks", ["1", "4"])
def test_the_tasks_of_a_slurm_job_are_no_ranks_of_a_run(tasks):
    base = {"SLURM_NTASKS": tasks, "SLURM_JOB_ID": "7"}
    env = allocate(0, trainer=CPU, gpus=[], slots=1).environment(base)
    assert not any(name.startswith("SLURM_") for name in env)


def test_slots_of_local_workers_get_gpus_of_their_own():
    settings = StudySettings(name="s", slots=2, workers=2, gpus=[0, 1, 2, 3])
    found = [allocation(settings, w, "local", s, GPU).gpus for w in range(2) for s in range(2)]
    assert found == [("0",), ("1",), ("2",), ("3",)]


def test_a_trial_on_several_machines_is_refused_with_what_does_it():
    with pytest.raises(RequestError, match=r"trainer\.num_nodes=2: a trial of a sweep runs on one.*torchrun"):
        allocation(StudySettings(name="s"), 0, "local", 0, {**CPU, "num_nodes": 2})


def test_slots_of_all_local_workers_share_the_machine():
    assert slots_on_machine(2, 3, "local") == slots_on_machine(2, 3, "submitit_local") == 6
    assert slots_on_machine(2, 3, "submitit_slurm") == slots_on_machine(2, 3, "ray") == 2


WHOLE = "GPU 0: NVIDIA A100 (UUID: GPU-aa)\nGPU 1: NVIDIA A100 (UUID: GPU-bb)\n"
PARTS = """GPU 0: NVIDIA A100 (UUID: GPU-aa)
  MIG 3g.20gb Device 0: (UUID: MIG-x)
  MIG 3g.20gb Device 1: (UUID: MIG-y)
"""


@pytest.mark.parametrize(("listed", "gpus"), [(WHOLE, ["0", "1"]), (PARTS, ["MIG-x", "MIG-y"]), ("", [])])
def test_gpus_and_their_parts_are_read(listed, gpus):
    assert parse_gpus(listed) == gpus


def test_given_gpus_and_visible_ones_come_before_those_that_are_found(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert find_gpus() == ["2", "5"]
    assert find_gpus([1, 0]) == ["1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == []
