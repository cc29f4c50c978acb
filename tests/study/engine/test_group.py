"""A worker and its followers find each other, and each knows when the other is gone."""

import json
import socket
import time

import pytest

from gatelab.study.engine import group
from gatelab.study.engine.group import Leader, Place, call


def eventually(condition):
    end = time.monotonic() + 10
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value


@pytest.fixture
def leader(tmp_path):
    made = Leader(tmp_path, Place("g", 0, 0, 3))
    yield made
    made.close()


def test_followers_hear_orders_and_the_leader_their_ends(leader, tmp_path):
    lines = [call(tmp_path, Place("g", 0, node, 3)) for node in (1, 2)]
    eventually(leader.whole)
    assert leader.address() == "127.0.0.1"
    leader.send({"run": 7, "do": "start"})
    heard = [line.messages() for line in lines]
    assert [next(messages) for messages in heard] == [{"run": 7, "do": "start"}] * 2
    lines[1].send({"run": 7, "code": 75})
    lines[1].send({"run": 8, "code": 0})
    eventually(lambda: leader.ends(8))
    assert leader.ends(7) == {2: 75}
    assert leader.problem() == ""
    lines[0].close()
    eventually(lambda: not leader.whole())
    assert leader.ends(7) == {1: None, 2: 75}
    assert "node 1" in leader.problem()
    leader.close()
    assert list(heard[1]) == []
    assert call(tmp_path, Place("g", 0, 1, 3)) is None


def test_a_stranger_and_a_node_that_is_there_already_are_sent_away(leader, tmp_path):
    first = call(tmp_path, Place("g", 0, 1, 3))
    eventually(lambda: leader._lines)
    assert list(call(tmp_path, Place("g", 0, 1, 3)).messages()) == []
    file = Place("g").file(tmp_path)
    port = json.loads(file.read_text())["port"]
    file.write_text(json.dumps({"host": socket.gethostname(), "port": port, "secret": "guessed"}))
    assert list(call(tmp_path, Place("g", 0, 2, 3)).messages()) == []
    assert not leader.whole()
    first.close()


def test_a_node_that_does_not_begin_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(group, "START_SECONDS", 0.05)
    leader = Leader(tmp_path, Place("g", 0, 0, 2))
    assert "node 1 of 2 has not begun" in eventually(leader.problem)
    leader.close()
