"""Two nodes on one machine: under torchrun a run is what it is on one node, and is stopped and goes on alike."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gatelab.run.record.directory import RunDirectory, read_metrics

pytestmark = pytest.mark.slow
TINY = [
    "experiment=quickstart",
    "trainer=ddp_cpu",
    "trainer.max_epochs=20",
    "trainer.max_steps=60",
    "trainer.val_check_interval=null",
    "trainer.log_every_n_steps=1",
    "model.hidden_size=4",
    "data.max_characters=20000",
    "callbacks.checkpoints.every_n_steps=3",
    "threads=1",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
"""Lightning and torchrun set it where they start several processes on a machine, and it changes last digits."""
TWO = ["trainer.devices=1", "trainer.num_nodes=2"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def begin(*overrides, root):
    """The torchrun of two nodes, each with one process, which train."""
    common = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    train = ["-m", "gatelab", "train", *TINY, *overrides, f"paths.root={root}"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", f"--node-rank={node}", *common, *train],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )
        for node in range(2)
    ]


def end(nodes):
    """Exit codes and outputs."""
    try:
        outputs = [node.communicate(timeout=200)[0] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    return [node.returncode for node in nodes], outputs


def the_run(root):
    (file,) = Path(root).glob("runs/*/*/run.json")
    return RunDirectory(file.parent)


def begun(root):
    """The run, once it has a checkpoint to go on from."""
    limit = time.monotonic() + 120
    while not list(Path(root).glob("runs/*/*/checkpoints/last.ckpt")):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return the_run(root)


def child_of(pid):
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def same(run, other):
    measured = [
        [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in rows]
        for rows in (read_metrics(run.metrics_file), read_metrics(other.metrics_file))
    ]
    assert measured[0] == measured[1]
    assert run.trace_file.read_text() == other.trace_file.read_text()
    assert run.result()["splits"]["test"]["metrics"] == other.result()["splits"]["test"]["metrics"]


@pytest.fixture(scope="module")
def one_node(tmp_path_factory):
    """The same run as two processes of one machine, started by Lightning."""
    root = tmp_path_factory.mktemp("one")
    command = [sys.executable, "-m", "gatelab", "train", *TINY, f"paths.root={root}"]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return the_run(root)


def test_two_nodes_give_the_values_of_two_processes_on_one_and_one_record(one_node, tmp_path):
    codes, outputs = end(begin(*TWO, root=tmp_path))
    assert codes == [0, 0], outputs
    run = the_run(tmp_path)
    assert run.path.name == one_node.path.name
    assert len(run.read()["attempts"]) == 1
    same(run, one_node)
    codes, outputs = end(begin(*TWO, root=tmp_path))  # asked for again it is reported
    assert codes == [0, 0], outputs
    assert len(run.read()["attempts"]) == 1


@pytest.mark.parametrize("whom", ["torchrun of rank 0", "torchrun of rank 1", "rank 1"])
def test_a_signal_to_any_process_stops_both_nodes_and_the_run_goes_on_exactly(one_node, tmp_path, whom):
    nodes = begin(*TWO, root=tmp_path)
    run = begun(tmp_path)
    pid = nodes[int(whom[-1])].pid
    os.kill(child_of(pid) if whom == "rank 1" else pid, signal.SIGTERM)
    codes, outputs = end(nodes)
    assert codes == [1, 1], outputs  # torchrun's own code for every failure
    assert run.state() == "interrupted"
    codes, outputs = end(begin(*TWO, root=tmp_path))
    assert codes == [0, 0], outputs
    assert "continuing" in outputs[0]
    same(run, one_node)


@pytest.mark.parametrize("node", [0, 1])
def test_a_killed_rank_ends_both_nodes_and_the_run_goes_on_exactly(one_node, tmp_path, node):
    nodes = begin(*TWO, root=tmp_path)
    run = begun(tmp_path)
    ranks = [child_of(torchrun.pid) for torchrun in nodes]
    os.kill(ranks[node], signal.SIGKILL)
    codes, outputs = end(nodes)
    assert codes == [1, 1], outputs
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    codes, outputs = end(begin(*TWO, root=tmp_path))
    assert codes == [0, 0], outputs
    same(run, one_node)


def test_a_mistake_is_told_once_and_nobody_is_left_waiting(tmp_path):
    codes, outputs = end(begin(*TWO, "model.hiden_size=4", root=tmp_path))
    assert codes == [1, 0], outputs
    assert "Did you mean" in outputs[0]
    assert "hiden_size" not in outputs[1]
    codes, outputs = end(begin("trainer.num_nodes=3", root=tmp_path))
    assert "1 processes were started on each of 2 nodes" in outputs[0]
    assert codes == [1, 0]
