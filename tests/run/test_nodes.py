"""Processes that torchrun started begin together, or none of them begins and rank 0 says why."""

import concurrent.futures
import json

import pytest
import torch

from gatelab.run import nodes
from gatelab.run.config.compose import compose
from gatelab.run.errors import RequestError
from gatelab.run.nodes import Dismissed, Ranks, require_processes
from gatelab.run.reproduce import again
from gatelab.run.torchrun import code_of


@pytest.fixture
def pair():
    """Rank 0 and rank 1 of a run."""
    store = torch.distributed.HashStore()
    return Ranks(store, 0, 2), Ranks(store, 1, 2)


@pytest.fixture
def aside():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit


def test_a_rank_trains_what_rank_0_says_and_both_begin_together(pair, aside, tmp_path):
    first, second = pair
    begun = aside(first.begin, tmp_path, {"seed": 3}, 7)
    word = second.hear()
    assert (word["run"], word["config"], word["step"]) == (str(tmp_path), {"seed": 3}, 7)
    assert not begun.done()
    second.ready()
    begun.result(5)
    assert list(tmp_path.iterdir()) == []
    first.over()  # is too late to send anybody home
    assert not first.store.check(["over"])


def test_what_a_rank_lacks_is_told_by_rank_0_and_the_others_leave(pair, aside, tmp_path):
    first, second = pair
    begun = aside(first.begin, tmp_path, {}, None)
    second.hear()
    second.refuse(ValueError("no file my.txt"))
    with pytest.raises(RequestError, match=r"rank 1 on .*: no file my.txt"):
        begun.result(5)
    first.over()
    with pytest.raises(Dismissed):
        second.ready()


def test_a_folder_that_a_node_does_not_share_is_named(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "SEE_SECONDS", 0.1)
    word = {"run": str(tmp_path / "local"), "token": ".seen-1", "config": {}, "step": None}
    pair[0].store.set("word", json.dumps(word))
    with pytest.raises(RequestError, match=r"local is not there.*paths\.root=DIR.*share"):
        pair[1].hear()


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of a process that torchrun started: one of two on each of two nodes."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")


def test_several_nodes_without_torchrun_are_refused_with_the_command():
    require_processes({"devices": 4})
    with pytest.raises(RequestError, match=r"(?s)trainer.num_nodes=3.*torchrun --nnodes=3.*per-node=4"):
        require_processes({"num_nodes": 3, "devices": 4})


@pytest.mark.parametrize("trainer", [{"devices": 4}, {"num_nodes": 2, "devices": 1}])
def test_other_processes_than_the_configuration_asks_for_are_refused_with_the_fix(torchrun, trainer):
    require_processes({"num_nodes": 2, "devices": 2})
    with pytest.raises(RequestError, match=r"give trainer.num_nodes=2 trainer.devices=2"):
        require_processes(trainer)


def test_a_run_of_several_nodes_is_made_again_with_as_many_processes_on_one(tmp_path):
    plain = compose(["trainer=ddp_cpu", "trainer.devices=2", "trainer.num_nodes=3"]).plain()
    record = {"config": plain, "attempts": [{"environment": {"threads": 1}}]}
    trainer = again(record, [], tmp_path)["trainer"]
    assert (trainer["num_nodes"], trainer["devices"]) == (1, 6)


@pytest.mark.parametrize(("codes", "code"), [([75], 75), ([2, 1], 2), ([75, 1], 1), ([1, -9], 137)])
def test_the_exit_code_of_several_processes_is_that_of_the_cause(codes, code):
    assert code_of(codes) == code
