"""Online or offline is decided without asking: by a key, and by a server that answers and knows it."""

import pytest

from gatelab.trackers.wandb.server import find_key, has_wandb_key, why_offline

KEY = "0123456789" * 4


def test_without_a_key_nobody_is_called(monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("called"))
    assert why_offline() == "no key"


def test_the_key_is_found_where_wandb_looks(monkeypatch, tmp_path):
    assert not has_wandb_key()
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert find_key() == KEY
    monkeypatch.setenv("WANDB_BASE_URL", "http://elsewhere.invalid")
    assert find_key() is None
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    (tmp_path / "settings").write_text(f"[default]\napi_key = {KEY}\n")
    assert find_key() == KEY


@pytest.mark.parametrize(
    ("status", "text", "why"),
    [
        (200, '{"data": {"viewer": {"id": "me"}}}', None),
        (200, '{"data": {"viewer": null}}', "refused the key"),
        (401, "{}", "refused the key"),
        (503, "{}", "answered with 503"),
        (200, "a login page", "cannot be reached"),
    ],
)
def test_the_server_decides(answering, monkeypatch, status, text, why):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", answering(status, text))
    found = why_offline()
    assert found is None if why is None else why in found


def test_a_server_that_never_answers_is_given_up(silent_server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    assert why_offline(0.2) == f"{silent_server} did not answer within 0.2 s"


def test_a_closed_port_is_told_at_once(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "cannot be reached" in why_offline(60.0)
