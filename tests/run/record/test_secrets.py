"""Nothing secret is recorded: keys by their name, passwords in URLs, values of secret environment variables."""

import os
import subprocess
import sys

import pytest

from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.environment import without_secrets

KEY = "a1b2c3d4e5f6a7b8"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            {"api_key": KEY, "logger": {"wandb_api_key": KEY}},
            {"api_key": "***", "logger": {"wandb_api_key": "***"}},
        ),
        (
            f"gatelab train +logger.wandb.api_key={KEY} seed=1",
            "gatelab train +logger.wandb.api_key=*** seed=1",
        ),
        (f"train '+x.password={KEY}' 'b=2'", "train '+x.password=***' 'b=2'"),
        ("study.storage=postgresql://me:pass@host/db", "study.storage=postgresql://***@host/db"),
        ("open db://me:a/b:c@host/db", "open db://***@host/db"),
        ([f"https://{KEY}@example.org/repository.git"], ["https://***@example.org/repository.git"]),
        (f"+GITHUB_TOKEN={KEY}\n", "+GITHUB_TOKEN=***\n"),
        (f"+api_key: {KEY}\n", "+api_key: ***\n"),
    ],
)
def test_secrets_are_masked(given, kept):
    assert without_secrets(given) == kept


@pytest.mark.parametrize(
    "harmless",
    [
        {"tokens": 82430, "tokenizer": "word", "unit": "tokens", "key": "value", "token": None},
        "gatelab train data.level=word optim.lr=1e-3 'data.target=[load]'",
        "https://example.org/a@b and 3@home",
        "token: str = next(tokens)".replace("token:", "tokens:"),
    ],
)
def test_what_is_no_secret_stays(harmless):
    assert without_secrets(harmless) == harmless


def test_the_value_of_a_secret_variable_is_masked_wherever_it_is(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("SHORT_TOKEN", "word")
    assert without_secrets({"diff": f"+x = '{KEY}' # word"}) == {"diff": "+x = '***' # word"}


def test_the_working_folder_is_no_secret(monkeypatch):
    monkeypatch.setenv("PWD", "/home/me/project")
    monkeypatch.setenv("OLDPWD", "/home/me/before")
    paths = ["/home/me/project/runs/x", "/home/me/before/runs/x"]
    assert without_secrets(paths) == paths


def test_the_record_masks_what_it_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(sys, "argv", ["gatelab", "train", "+x.url=grpc://me:hunter2@host:1"])
    run = RunDirectory(tmp_path / "r")
    run.begin({"logger": {"x": {"url": f"https://{KEY}@host", "token": "hunter2"}}}, {"name": "x"})
    run.update(note=f"sent {KEY}")
    run.finish({"outcome": "failed", "error": f"login {KEY} refused"})
    text = "".join(file.read_text() for file in run.path.rglob("*.json"))
    assert KEY not in text
    assert "hunter2" not in text


def test_a_whole_run_directory_holds_no_secret(tmp_path):
    environment = {
        "WANDB_API_KEY": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY[::-1],
        "DATABASE_URL": "db://me:hunter2@host",
    }
    small = ["experiment=quickstart_series", "trainer.max_steps=2", "threads=1", "model.hidden_size=4"]
    where = ["callbacks=none", "paths.mirror=file://me:hunter2@host/x", f"paths.root={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "gatelab", "train", *small, *where],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    found = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.name == "last.ckpt" for file in found)
    for secret in (KEY, KEY[::-1], "hunter2"):
        assert [file for file in found if secret.encode() in file.read_bytes()] == []
