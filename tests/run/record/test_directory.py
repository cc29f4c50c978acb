"""The run record: written whole or not at all, never overwritten, held by one process."""

import json
import multiprocessing

import pytest

from gatelab.data.files import write_json
from gatelab.run import RequestError
from gatelab.run.record.directory import RunDirectory


def test_a_second_attempt_keeps_the_first(tmp_path):
    run = RunDirectory(tmp_path / "r")
    run.begin({"seed": 1}, {"name": "x"})
    run.begin({"seed": 2}, {"name": "x"})
    record = run.read()
    assert record["config"] == {"seed": 1}
    assert len(record["attempts"]) == 2


def test_every_attempt_says_how_it_ended(tmp_path):
    run = RunDirectory(tmp_path / "r")
    run.begin({}, {})
    run.stop("interrupted")
    assert run.state() == "interrupted"
    run.begin({}, {})
    run.finish({"outcome": "done", "splits": {}})
    assert [attempt["outcome"] for attempt in run.read()["attempts"]] == ["interrupted", "done"]
    assert run.state() == "done"


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"kept": 1})
    with pytest.raises(TypeError):
        write_json(file, {"bad": object()})
    assert json.loads(file.read_text()) == {"kept": 1}


def test_setting_aside_never_overwrites(tmp_path):
    run = RunDirectory(tmp_path / "r")
    for _ in range(2):
        run.begin({}, {})
        run.set_aside()
    assert not run.path.exists()
    assert (tmp_path / "r.old-1/run.json").is_file()
    assert (tmp_path / "r.old-2/run.json").is_file()


def _hold(path, ready, release):
    with RunDirectory(path).locked():
        ready.set()
        release.wait(30)


def test_a_second_process_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "r", ready, release))
    process.start()
    try:
        assert ready.wait(60)
        named = f"process {process.pid} on .* is training this run now"
        with pytest.raises(RequestError, match=named), RunDirectory(tmp_path / "r").locked():
            pass
    finally:
        release.set()
        process.join()
    with RunDirectory(tmp_path / "r").locked():
        pass


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"run\.json"):
        RunDirectory.open(tmp_path)
    with pytest.raises(RequestError, match="no such run"):
        RunDirectory.open(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"config": {}}', "has no 'attempts'"),
    ],
)
def test_a_damaged_record_is_named_with_what_to_do(tmp_path, content, said):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RequestError, match=rf"run\.json: {said}.*make it again"):
        RunDirectory.open(tmp_path).read()


def test_what_a_killed_writer_left_is_removed(tmp_path):
    run = RunDirectory(tmp_path / "r")
    run.begin({}, {})
    run.last.parent.mkdir()
    left = [
        run.path / ".metrics.csv.7.tmp",
        run.last.parent / ".last.ckpt.7.tmp",
        run.last.parent / ".last.ckpt.7.old.tmp",
    ]
    for path in [*left, run.last]:
        path.touch()
    run.remove_temporaries()
    assert not any(path.exists() for path in left)
    assert run.last.exists()
    assert run.run_file.exists()


@pytest.mark.parametrize(
    "name", ["password", "token", "login", "secret", "pin", "api_key", "auth", "key.json"]
)
@pytest.mark.quick(3)
def test_what_a_run_is_made_from_again_is_as_it_was_whatever_it_is_called(tmp_path, name):
    spec = {
        "words": {name: ["a1b2c3d4e5f6a7b8", "4711"]},
        "codes": {name: 5},
        "scales": {name: [0.99, 0.81]},
        "classes": [name, "x1y2z3w4v5u6t7s8"],
    }
    files = {name: "0123456789abcdef" * 4, f"{name}.text": "ab" * 32}
    run, word = (
        RunDirectory(tmp_path / "r"),
        "-".join(("hunter", "2x")),
    )  # in no line of this file, see its difference
    run.begin({"a": 1, "url": f"https://me:{word}@h"}, {"name": "x"})
    run.update(spec=spec, data=files)
    run.begin({"a": 1}, {"name": "x"})  # goes on
    run.stop("interrupted")
    assert run.read()["spec"] == spec
    assert run.read()["data"] == files
    assert word not in run.run_file.read_text()


@pytest.mark.parametrize("key", ["data", "data_notes", "spec", "task", "init", "state"])
@pytest.mark.parametrize("value", [None, 3, [None], "x", {"a": 3}, True], ids=repr)
@pytest.mark.quick(12)
def test_a_value_of_another_type_is_a_damaged_record(tmp_path, key, value):
    run = RunDirectory(tmp_path / "r")
    run.begin({"a": 1}, {"name": "x"})
    run.run_file.write_text(json.dumps({**run.read(), key: value}))
    fits = isinstance(value, {"state": str, "data_notes": list}.get(key, dict)) and key != "data"
    if fits:
        assert run.read()[key] == value
    else:
        with pytest.raises(RequestError, match=rf"run\.json: '{key}' .*damaged"):
            run.read()
