"""A dead worker is told from a living one: gone, a zombie, its pid used again, silent on another machine."""

import dataclasses
import os
import subprocess
import sys
import time

import pytest

from gatelab.study.engine.directory import Heartbeat, Owner, birth, is_alive, read_owner

STALE = 30.0


@pytest.fixture
def me(tmp_path):
    owner = Owner.me()
    owner.register(tmp_path)
    return owner


def silent_for(folder, owner, seconds):
    then = time.time() - seconds
    os.utime(folder / f"{owner.id}.alive", (then, then))


def test_a_living_process_is_alive_even_when_it_is_silent(tmp_path, me):
    silent_for(tmp_path, me, 1000)
    assert is_alive(tmp_path, me.id, time.time(), STALE)


def test_a_process_that_is_gone_is_dead_at_once(tmp_path, me):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    other = dataclasses.replace(me, id="gone", pid=gone.pid, birth=1)
    other.register(tmp_path)
    assert not is_alive(tmp_path, "gone", time.time(), STALE)


def test_a_zombie_is_dead(tmp_path, me):
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert birth(zombie.pid) is None
    zombie.wait()


def test_a_pid_that_is_used_again_is_not_taken_for_its_first_owner(tmp_path, me):
    dataclasses.replace(me, id="reused", birth=me.birth - 1).register(tmp_path)
    assert not is_alive(tmp_path, "reused", time.time(), STALE)


def test_on_another_machine_the_heartbeat_decides(tmp_path, me):
    other = dataclasses.replace(me, id="other", machine="elsewhere/boot/pid:[1]", birth=me.birth + 5)
    other.register(tmp_path)
    for silent, alive in ((0, True), (STALE - 5, True), (STALE + 5, False)):
        silent_for(tmp_path, other, silent)
        assert is_alive(tmp_path, "other", time.time(), STALE) is alive


def test_one_that_never_came_and_one_that_has_left_are_dead(tmp_path, me):
    assert not is_alive(tmp_path, "nobody", time.time(), STALE)
    me.leave(tmp_path)
    assert not is_alive(tmp_path, me.id, time.time(), STALE)
    assert read_owner(tmp_path, me.id) == me


def test_the_heart_beats_until_it_is_stopped(tmp_path):
    owner = Owner.me()
    heart = Heartbeat(owner, tmp_path, every=0.02)
    heart.start()
    silent_for(tmp_path, owner, 1000)
    file, end = tmp_path / f"{owner.id}.alive", time.monotonic() + 20
    while file.stat().st_mtime < time.time() - 100:
        assert time.monotonic() < end
        time.sleep(0.01)
    heart.stop()
    assert not file.exists()
