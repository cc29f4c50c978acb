"""A record of a stranger, or a damaged one: nothing that it names is run, one message, the others are still shown."""

import functools
import json
import os
import random
import shutil
import sys
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gatelab.cli.main import main
from gatelab.run.config import MOST_THREADS
from gatelab.run.load import _where_it_ran
from gatelab.run.record.listing import list_runs
from gatelab.run.reproduce import environment_for
from gatelab.run.train import train

SMALL = [
    *("data=text", "data.level=char", "data.batch_size=4", "data.window=16", "trainer.max_steps=3"),
    *("model.hidden_size=4", "callbacks.progress=null", "test=false"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with two finished runs."""
    root = tmp_path_factory.mktemp("kept")
    (root / "t.txt").write_text("".join(f"{n}\n" for n in range(1500)))
    for seed in (0, 1):
        train([*SMALL, f"data.path={root / 't.txt'}", "name=one", f"seed={seed}", f"paths.root={root}"])
    return root


@pytest.fixture
def lab(kept, tmp_path):
    """A copy of it: the folder, the run to spoil and the other one."""
    shutil.copytree(kept, tmp_path / "lab")
    return (tmp_path / "lab", *sorted((tmp_path / "lab" / "runs" / "one").glob("*-s?")))


def spoilt(raw):
    """Ways in which a file is not what was written."""
    return {
        "empty": b"",
        "cut": raw[: len(raw) // 2],
        "zeros": b"\0" * len(raw),
        "zero tail": raw[: len(raw) // 2] + b"\0" * 99,
        "binary": bytes(range(256)) * 4,
        "list": b"[]",
        "number": b"3",
        "text": b'"x"',
        "null": b"null",
        "no keys": b"{}",
        "not a number": b"NaN",
        "nested": b"[" * 100_000,
        "huge number": b'{"a":' + b"9" * 6000 + b"}",
    }


def places(file):
    """Every key of a JSON file, and those inside a small mapping."""
    record = json.loads(file.read_text())
    for key, value in record.items():
        yield (key,)
        inner = value if isinstance(value, dict) and len(value) < 5 else {}
        yield from ((key, name) for name in inner)


def replaced(file, place, value):
    record = json.loads(file.read_text())
    node = record
    for key in place[:-1]:
        node = node[key]
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return json.dumps(record)


def strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def shown(commands, good, capsys):
    """Each command ends with a short message; those that list name the other run."""
    for command in commands:
        code = main([str(part) for part in command])
        out, err = capsys.readouterr()
        assert code in (0, 1, 2)
        assert len(err) < 5000
        assert "Traceback" not in err
        if command[0] == "runs":
            assert code == 0
            listed = {Path(row["run_dir"]).name for row in strict(out)}
            assert listed == {run.name for run in good.parent.iterdir() if os.path.lexists(run / "run.json")}
        if command[0] == "report":
            assert code == 0
            assert "done" in out


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.csv", "trace.csv", "tokenizer.json"])
@pytest.mark.quick(2)
@pytest.mark.ci
def test_a_spoilt_file_of_a_run_is_a_message_and_hides_no_other_run(lab, name, capsys):
    root, bad, good = lab
    file = bad / name
    raw = file.read_bytes()
    listing = [
        ("runs", "--json", f"paths.root={root}"),
        ("report", root, "--no-samples", "--format", "md", "--output", "-"),
        ("sync", "--dry-run", root),
        ("diff", "--json", bad, good),
    ]
    reading = [("generate", bad, "--tokens", "2")] if name in ("run.json", "tokenizer.json") else []
    for number, content in enumerate(spoilt(raw).values()):
        file.write_bytes(content)
        commands = [*listing, *reading]
        shown([commands[(number + k) % len(commands)] for k in range(2)], good, capsys)
    for put in (
        file.mkdir,
        lambda: file.symlink_to("/nowhere/x"),
        lambda: file.symlink_to(name),
        lambda: None,
    ):
        shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink(missing_ok=True)
        put()
        shown([*listing, *reading], good, capsys)


@pytest.mark.parametrize("name", ["run.json", "result.json"])
@pytest.mark.parametrize("value", [..., None, "x", [], -3, float("inf")], ids=repr)
@pytest.mark.quick(1, rest="ci")
def test_a_wrong_value_in_a_record_is_a_message_and_hides_no_other_run(lab, name, value, capsys):
    root, bad, good = lab
    file = bad / name
    before = file.read_text()
    for place in list(places(file)):
        file.write_text(replaced(file, place, value))
        shown([("diff", "--json", bad, good)], good, capsys)
        facts = {Path(row["run_dir"]).name: row["state"] for row in list_runs(root / "runs")}
        assert facts[good.name] == "done"
        assert bad.name in facts
        file.write_text(before)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
@pytest.mark.quick(1, rest="ci")
def test_a_spoilt_checkpoint_is_a_message(lab, name, capsys):
    _, bad, good = lab
    file = bad / "checkpoints" / name
    raw = file.read_bytes()
    import torch

    for value in ([1], {"state_dict": [1]}, {"state_dict": {"a": "b"}}, {}):
        torch.save(value, file)
        shown([("generate", bad, "--tokens", "1")], good, capsys)
    for content in spoilt(raw).values():
        file.write_bytes(content)
        shown([("generate", bad, "--tokens", "1")], good, capsys)


@pytest.mark.parametrize("place", [("threads",), ("data", "eval_batch_size"), ("data", "num_workers")])
@pytest.mark.quick(1, rest="ci")
def test_an_impossible_size_in_a_record_takes_no_machine_down(lab, place, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    _, bad, good = lab
    file = bad / "run.json"
    for value in (10**5, 10**12):
        file.write_text(replaced(file, ("config", *place), value))
        shown([("eval", bad, "--json")], good, capsys)
    assert all(0 < number <= MOST_THREADS for number in asked)


SIZES = ("data", "task", "model", "optim", "schedule", "init", "transfer")
"""Groups whose numbers say how large something is; of threads there is a test of its own."""


def whole_numbers(node, path=()):
    """The places of whole numbers and of null, which may stand for one, at any depth."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list):
            yield from whole_numbers(value, (*path, key))
        elif value is None or type(value) is int:
            yield (*path, key)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("value", [10**7, 10**18])
def test_no_absurd_number_of_a_record_takes_a_machine_down(lab, value, capsys):
    _, bad, good = lab
    file = bad / "run.json"
    before, record = file.read_text(), json.loads(file.read_text())
    groups = {group: record["config"][group] for group in SIZES}
    places = [("config", *place) for place in whole_numbers(groups)]
    places += [("spec", *place) for place in whole_numbers(record["spec"])]
    assert len(places) > 40
    for place in places:
        file.write_text(replaced(file, place, value))
        shown([("eval", bad, "--json"), ("generate", bad, "--tokens", "1")], good, capsys)
        file.write_text(before)


@pytest.mark.parametrize("command", ["eval", "generate", "export", "reproduce"])
@pytest.mark.parametrize(
    "place", [("model", "num_layers"), ("model", "hidden_size"), ("task", "net", "embedding_size")]
)
def test_a_network_is_no_larger_than_its_checkpoint(lab, command, place, capsys):
    _, bad, _ = lab
    file = bad / "run.json"
    for value in (200, 10**7):
        file.write_text(replaced(file, ("config", *place), value))
        assert main([command, str(bad)]) == 2
        text = capsys.readouterr().err
        assert "a checkpoint of another model" in text or "weight tensors; give fewer layers" in text


@pytest.mark.parametrize("key", ["accelerator", "devices", "deterministic", "strategy", "precision"])
@pytest.mark.quick(1, rest="ci")
def test_an_impossible_trainer_in_a_record_is_a_message(lab, key, capsys):
    _, bad, good = lab
    for value in ("nonsense", {"_target_": "os.system"}, [10**6], -3, [None]):
        (bad / "run.json").write_text(replaced(good / "run.json", ("config", "trainer", key), value))
        shown([("eval", bad, "--json")], good, capsys)


@pytest.mark.ci
def test_reproducing_takes_no_variable_or_module_of_a_strangers_run(lab, tmp_path, capsys):
    _root, bad, _ = lab
    evil = tmp_path / "evil"
    evil.mkdir()
    for module in ("torch", "gatelab", "sitecustomize", "json"):
        (evil / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    record = json.loads((bad / "run.json").read_text())
    attempt = record["attempts"][-1]
    attempt["cwd"] = str(evil)
    attempt["environment"]["variables"] = {
        "PYTHONPATH": str(evil),
        "LD_PRELOAD": "x.so",
        "PYTHONINSPECT": "1",
    }
    (bad / "run.json").write_text(json.dumps(record))
    added = {name: value for name, value in environment_for(attempt).items() if os.environ.get(name) != value}
    assert not {"LD_PRELOAD", "PYTHONINSPECT"} & added.keys()
    assert str(evil) not in added.get("PYTHONPATH", "")
    assert main(["reproduce", str(bad), "--steps", "1"]) in (0, 1, 2)
    assert not (tmp_path / "ran").exists()


def test_reproducing_writes_nothing_outside_its_folder(lab, capsys):
    root, bad, _ = lab
    record = json.loads((bad / "run.json").read_text())
    for name in ("../../../out", str(root / "out"), "a/../../../../out"):
        record["identity"]["name"] = name
        (bad / "run.json").write_text(json.dumps(record))
        assert main(["reproduce", str(bad), "--steps", "1"]) == 2
        assert "leads to another folder" in capsys.readouterr().err


def test_reading_data_imports_nothing_of_the_recorded_directory(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").touch()
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as `python -m gatelab` has it
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        assert find_spec("theirs") is not None
    with _where_it_ran({"cwd": str(tmp_path), "mirror": None}):
        assert find_spec("theirs") is None


ESCAPES = ("\x1b]0;title\x07", "\x9b31m", "\u202eabc", "\r")


@pytest.mark.parametrize("text", ESCAPES, ids=repr)
@pytest.mark.quick(1, rest="ci")
def test_no_escape_sequence_of_a_record_reaches_the_terminal(lab, text, capsys):
    root, bad, good = lab
    for name, key in (("result.json", "monitor"), ("run.json", "state"), ("result.json", "outcome")):
        file = bad / name
        before = file.read_text()
        file.write_text(replaced(file, (key,), text) if key in before else before)
        for command in (["runs", f"paths.root={root}"], ["diff", str(bad), str(good)]):
            main(command)
            out, err = capsys.readouterr()
            assert text not in out + err
            assert "\x1b" not in out + err
        file.write_text(before)
    named = bad.with_name(f"{text.replace('/', '')}x")
    bad.rename(named)
    (named / "result.json").write_text("{")
    main(["runs", f"paths.root={root}"])
    main(["report", str(root), "--no-samples", "--format", "md", "--output", "-"])
    main(["eval", str(named / "nowhere")])
    out, err = capsys.readouterr()
    assert text not in out + err


@pytest.mark.ci
def test_a_folder_whose_name_is_no_text_is_listed_and_linked(lab, capfd):
    root, bad, _ = lab
    named = os.fsencode(bad.parent) + b"/\xff\xfe-s0"
    os.rename(os.fsencode(bad), named)
    assert main(["runs", f"paths.root={root}"]) == 0
    page = root / "r.html"
    assert main(["report", str(root), "--no-samples", "--output", str(page)]) == 0
    assert "%FF%FE-s0/" in page.read_text()


@pytest.mark.parametrize(
    "name",
    [
        "javascript:alert(1)",
        '"><script>alert(1)',
        "a#b?c%20d",
        "' onclick='x",
        "&lt;b&gt;",
        "]]>",
        "</script>",
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_a_hostile_name_is_text_in_the_page(lab, name):
    root, bad, _ = lab
    folder = root / "runs" / name.replace("/", "_")
    folder.mkdir(parents=True)
    bad.rename(folder / bad.name)
    record = json.loads((folder / bad.name / "run.json").read_text())
    record["identity"]["name"] = name
    record["config"]["model"]["hidden_size"] = name
    record["attempts"][-1]["command"] = f"gatelab {name}"
    (folder / bad.name / "run.json").write_text(json.dumps(record))
    page = root / "r.html"
    assert main(["report", str(root), "--no-samples", "--output", str(page)]) == 0
    text = page.read_text()
    body = text[text.index("</style>") : text.index("<noscript>")]
    assert 'href="javascript' not in body
    assert "<script>alert" not in body
    assert body.count("<script") == body.count('<script type="application/json">')
    assert all(href.startswith(("./", "#", "data:")) for href in body.split('href="')[1:])


KINDS = {
    "panel": ["data=panel", "data.time=ds", "data.target=[y]", "data.lookback=10", "data.horizon=3"],
    "labelled": ["data=labelled", "data.text=text", "data.label=label"],
    "sounds": ["data=audio"],
    "transcribed": ["data=transcribed"],
    "pairs": ["data=pairs", "data.source=source", "data.target=target"],
}


def write_inputs(folder):
    """A few examples for each kind, alike in every row; returns the path of each."""
    steps = np.arange(60)
    days = pd.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d")
    rows = [
        {"unique_id": name, "ds": day, "y": np.sin(step)} for name in "ab" for step, day in enumerate(days)
    ]
    words = ["red fox", "blue bird", "green frog"]
    texts = [{"text": f"{words[i % 3]} {i}", "label": "xy"[i % 2]} for i in range(80)]
    pairs = [{"source": f"{words[i % 3]} {i}", "target": f"{i} {words[i % 3]}"} for i in range(80)]
    spoken = []
    for name, width in (("ah", 0.05), ("oh", 0.2)):
        for number in range(12):
            file = folder / "sounds" / name / f"{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            sound = 8000 * np.sin(width * np.arange(3000) + number)
            with wave.open(str(file), "wb") as out:
                out.setparams((1, 2, 8000, 0, "NONE", ""))
                out.writeframes(sound.astype("<i2").tobytes())
            spoken.append(
                {"path": f"sounds/{name}/{number}.wav", "transcript": name, "speaker": steps[number % 3]}
            )
    for name, table in (("panel", rows), ("labelled", texts), ("transcribed", spoken), ("pairs", pairs)):
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)
    return {kind: folder / ("sounds" if kind == "sounds" else f"{kind}.csv") for kind in KINDS}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A finished run of each kind of data, made when it is first asked for."""
    root = tmp_path_factory.mktemp("kinds")
    paths = write_inputs(root)

    @functools.cache
    def made(kind):
        given = [f"data.path={paths[kind]}", "trainer.max_steps=2", "model.hidden_size=4"]
        train(
            [
                *KINDS[kind],
                *given,
                "callbacks.progress=null",
                "test=false",
                f"name={kind}",
                f"paths.root={root}",
            ]
        )
        return next((root / "runs" / kind).glob("*-s0"))

    return made


def leaves(node, path=()):
    """The places of all values that are no mapping and no list."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "os.system", "command": "true"},
        "${oc.env:HOME}",
        10**7,
        -3,
        None,
        float("nan"),
        [],
        1e308,
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.quick(1, rest="ci")
def test_no_value_in_a_record_of_any_kind_of_data_is_more_than_a_message(
    run_of, tmp_path, kind, value, capsys, monkeypatch
):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("a stranger's command was run"))
    bad = tmp_path / "runs" / kind / "x-s0"
    shutil.copytree(run_of(kind), bad)
    good = tmp_path / "good.json"
    shutil.copy(bad / "run.json", good)
    record = json.loads(good.read_text())
    groups = {group: record["config"][group] for group in ("data", "task", "model", "optim", "schedule")}
    places = [
        *(("config", *place) for place in leaves(groups)),
        *(("spec", *place) for place in leaves(record["spec"])),
    ]
    assert len(places) > 40
    random.Random(f"{kind}{value}").shuffle(places)
    for place in places[:10]:
        (bad / "run.json").write_text(replaced(good, place, value))
        shown([("eval", bad, "--json")], bad, capsys)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.quick(1, rest="ci")
def test_a_group_that_is_none_is_a_message(run_of, tmp_path, kind, capsys):
    bad = tmp_path / "runs" / kind / "x-s0"
    shutil.copytree(run_of(kind), bad)
    good = tmp_path / "good.json"
    shutil.copy(bad / "run.json", good)
    for group in ("data", "task", "model", "optim"):
        (bad / "run.json").write_text(replaced(good, ("config", group), 10**7))
        assert main(["eval", str(bad)]) == 2
        assert "run.json: damaged" in capsys.readouterr().err


def test_a_vocabulary_that_is_not_the_checkpoints_is_named(run_of, tmp_path, capsys):
    bad = tmp_path / "runs" / "pairs" / "x-s0"
    shutil.copytree(run_of("pairs"), bad)
    text = replaced(bad / "run.json", ("config", "data", "min_count"), 10**7)
    (bad / "run.json").write_text(text)
    assert main(["eval", str(bad)]) == 2
    assert "vocabulary is 2, in the run's record" in capsys.readouterr().err


def test_a_value_of_another_type_in_a_record_is_named(lab, capsys):
    _, bad, good = lab
    for key, value in (("reset_after", "x"), ("num_layers", "two"), ("hidden_size", 1.5), ("bias", [1])):
        (bad / "run.json").write_text(replaced(good / "run.json", ("config", "model", key), value))
        assert main(["eval", str(bad)]) == 2
        assert f"run.json: config.model.{key}: " in capsys.readouterr().err
