"""What a run ran on: the revision and difference of the checkout, looked up once in a process."""

import subprocess

import pytest
import torch

from gatelab.run.record import environment


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path


def test_revision_and_difference_of_a_checkout(checkout):
    (checkout / "code.py").write_text("a = 2\n")
    found = environment.git_state(checkout)
    assert len(found["revision"]) == 40
    assert "+a = 2" in found["diff"]


def test_a_large_difference_is_cut_and_untracked_files_are_named(checkout, monkeypatch):
    monkeypatch.setattr(environment, "MOST_DIFF", 300)
    monkeypatch.setattr(environment, "MOST_UNTRACKED", 2)
    (checkout / "code.py").write_text("a = 2\n" * 1000)
    for name in "xyz":
        (checkout / name).touch()
    found = environment.git_state(checkout)
    assert len(found["diff"]) < 500
    assert "[cut after 300 of " in found["diff"]
    assert found["untracked"] == ["x", "y", "and 1 more"]


def test_only_named_variables_are_recorded(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-key")
    variables = environment.describe()["variables"]
    assert variables["MKL_CBWR"] == "COMPATIBLE"
    assert set(variables) <= set(environment.VARIABLES)
    assert "WANDB_API_KEY" not in variables


def test_a_process_keeps_the_state_it_began_with(checkout):
    before = environment.git_state(checkout)
    (checkout / "code.py").write_text("a = 3\n")
    assert environment.git_state(checkout) == before


def test_what_was_looked_up_is_not_looked_up_again_and_no_gpu_is_touched(monkeypatch):
    def forbidden(*_):
        raise AssertionError("looked up again")

    monkeypatch.setattr(environment, "gpus", forbidden)
    environment.look_up()
    monkeypatch.undo()
    monkeypatch.setattr(environment, "_git", forbidden)
    monkeypatch.setattr(environment.importlib.metadata, "version", forbidden)
    assert environment.describe()["code"] == environment.code_sha256()


def test_outside_a_checkout_there_is_no_state(tmp_path):
    assert environment.git_state(tmp_path) is None


def test_what_can_change_inside_a_process_is_looked_up_each_time(monkeypatch):
    first = environment.describe()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    second = environment.describe()
    assert second == {**first, "threads": 77}
