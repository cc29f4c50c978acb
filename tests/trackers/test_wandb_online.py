"""Runs given to a server that speaks W&B's protocol: each row arrives once, offline, killed or sent twice."""

import shutil

import pytest

from gatelab.cli.main import main
from gatelab.run.record.directory import read_metrics
from gatelab.trackers.follow import key, to_row
from scripts.checks.wandb_files import segments

from .conftest import Parts

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two parts that never saw a server."""
    parts = Parts(tmp_path_factory.mktemp("offline") / "run")
    parts.part(range(13), "interrupted", mode="offline")
    parts.part(range(10, 20), resume_step=10, mode="offline")
    return parts.path


@pytest.fixture
def offline(made, parts):
    """A copy of it."""
    shutil.copytree(made, parts.path, dirs_exist_ok=True, symlinks=True)
    return parts


def arrived(server):
    """The rows of the one run that the server has, as often as it has them."""
    (run,) = server.runs.values()
    rows = [run["history"][number] for number in sorted(run["history"])]
    return [key({k: v for k, v in row.items() if not k.startswith("_")}) for row in rows]


def recorded(parts):
    return [key(to_row(row)) for row in read_metrics(parts.path / "metrics.csv")]


def test_online_each_row_arrives_once_also_over_a_resume(parts, server):
    parts.part(range(13), "interrupted")
    assert server.runs["abcd1234"]["preempting"]
    parts.part(range(10, 20), resume_step=10)
    assert arrived(server) == recorded(parts)
    run = server.runs["abcd1234"]
    assert (run["exit_code"], run["summary"]["val/loss"]) == (0, 0)
    assert (run["upserts"][0]["groupName"], run["upserts"][0]["jobType"]) == ("mine", "train")


def test_sync_sends_what_was_offline_once_however_often_it_is_asked(offline, server, capsys):
    assert main(["sync", str(offline.path), "--dry-run"]) == 0
    assert "24 rows, 2 parts" in capsys.readouterr().out
    assert server.runs == {}
    assert main(["sync", str(offline.path)]) == 0
    assert arrived(server) == recorded(offline)
    assert main(["sync", str(offline.path)]) == 0
    assert "nothing to send" in capsys.readouterr().out
    (offline.path / "wandb" / "sent.json").unlink()  # another machine knows nothing of the first upload
    assert main(["sync", str(offline.path)]) == 0
    assert arrived(server) == recorded(offline)


def test_sync_sends_a_run_of_the_version_before_which_kept_no_list_of_logged_rows(offline, server):
    (offline.path / "wandb" / "logged.jsonl").unlink()
    assert main(["sync", str(offline.path)]) == 0
    assert arrived(server) == recorded(offline)
    assert server.runs["abcd1234"]["upserts"][0]["groupName"] == "mine"


@pytest.mark.slow
def test_sync_adds_only_what_the_server_lacks(offline, server):
    main(["sync", str(offline.path)])
    history = server.runs["abcd1234"]["history"]
    for number in [n for n in history if n >= 9]:  # as after an upload that was cut off
        del history[number]
    (offline.path / "wandb" / "sent.json").unlink()
    assert main(["sync", str(offline.path)]) == 0
    assert arrived(server) == recorded(offline)


@pytest.mark.slow
def test_a_run_resumed_online_sends_its_offline_part_too(parts, server):
    parts.part(range(10), "interrupted", mode="offline")
    parts.part(range(10, 15), resume_step=10)
    assert arrived(server) == recorded(parts)


@pytest.mark.slow
def test_an_upload_that_is_refused_is_told_and_tried_again(offline, server, monkeypatch, capsys):
    monkeypatch.setattr("gatelab.trackers.wandb.sync.TRIES", 1)
    server.refuse = 401
    assert main(["sync", str(offline.path)]) == 1
    assert "24 of 24 rows did not arrive" in capsys.readouterr().err
    server.refuse = None
    assert main(["sync", str(offline.path)]) == 0
    assert arrived(server) == recorded(offline)


@pytest.mark.slow
def test_rows_keep_the_time_at_which_they_were_measured(offline, server):
    main(["sync", str(offline.path)])
    times = [at for segment in segments(offline.path) for at in segment.times]
    history = server.runs["abcd1234"]["history"]
    assert [history[number]["_timestamp"] for number in sorted(history)] == times


def test_without_a_key_sync_says_how_to_get_one(offline, capsys):
    assert main(["sync", str(offline.path)]) == 2
    assert "wandb login" in capsys.readouterr().err


def test_a_folder_that_is_missing_is_named(tmp_path, capsys):
    assert main(["sync", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such run directory" in capsys.readouterr().err
