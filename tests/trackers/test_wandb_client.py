"""Online or offline is decided without asking a person: by a key, and by a server that answers and knows it."""

import json
import threading
import time

import pytest

from gatelab.trackers.wandb.session import asked_to_stop, connect, has_key, history

pytestmark = pytest.mark.ci

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def _fresh_client():
    """wandb keeps its settings for the life of a process; its service may wait for a silent server when it ends."""
    import wandb

    wandb.teardown()
    yield
    ending = threading.Thread(target=wandb.teardown, daemon=True)
    ending.start()
    ending.join(30)


def test_without_a_key_no_server_is_asked(silent_server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    assert not has_key()
    with pytest.raises(ConnectionError, match="no key"):
        connect(1)


def test_the_key_is_found_where_wandb_keeps_it(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert has_key()


@pytest.mark.parametrize(
    ("status", "text", "why", "seconds"),
    [
        (200, '{"data": {"viewer": null}}', "did not recognize", 30),
        (401, "{}", "401", 30),
        (503, "{}", "did not answer within 1 s", 1),
        (200, "a login page", "invalid character", 30),
    ],
)
def test_a_server_that_refuses_or_fails_is_a_reason(answering, monkeypatch, status, text, why, seconds):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", answering(status, text))
    with pytest.raises(ConnectionError, match=why):
        connect(seconds)


def test_a_slow_machine_is_not_taken_for_a_silent_server(monkeypatch):
    import wandb

    def refuses(timeout):
        raise wandb.errors.AuthenticationError("returned error 401")

    monkeypatch.setattr(wandb, "login", lambda **_: time.sleep(1.1) or True)
    monkeypatch.setattr(wandb, "Api", refuses)
    with pytest.raises(ConnectionError, match="401"):
        connect(1)


def test_a_server_that_never_answers_is_given_up(silent_server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    with pytest.raises(ConnectionError, match=f"{silent_server} did not answer within 1 s"):
        connect(1)


def test_the_private_name_of_wandb_is_there(server):
    data = connect()._service_api.execute_graphql("query Viewer { viewer { id } }", {})
    assert json.loads(json.dumps(data))["viewer"]["id"] == "me"
    assert not asked_to_stop("me", "gatelab", "abcd1234")
    server.stopped.add("abcd1234")
    assert asked_to_stop("me", "gatelab", "abcd1234")


def test_a_run_that_the_server_does_not_know_has_no_rows(server):
    assert history("me", "gatelab", "nowhere1") == []
