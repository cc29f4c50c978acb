"""A run starts from what it names, says what it took, and is another run where the source holds something else."""

import io
import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from gatelab.cli.main import main
from gatelab.core import GRU, LanguageModel
from gatelab.core.weights.convert import from_keras, to_keras
from gatelab.core.weights.transfer import take_over
from gatelab.data.text.tokenizer import ByteTokenizer, CharTokenizer
from gatelab.run import RequestError
from gatelab.run.config import check, compose
from gatelab.run.export import export
from gatelab.run.record.identity import hash_of, identify
from gatelab.run.source import cell_of, open_source, read_weights
from gatelab.run.source.initial import refusal_of_source, start_from_source
from gatelab.run.train import train
from gatelab.tasks import load_checkpoint

SMALL = [
    *("data.batch_size=4", "data.window=16", "model.hidden_size=8", "test=false", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "task.net.tied=false"),
    *("callbacks.progress=null", "callbacks.throughput=null", "callbacks.memory=null", "logger=off"),
]
TEXT = ["data=text", "data.level=char", *SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transfer")


@pytest.fixture(autouse=True)
def _place(folder, monkeypatch):
    monkeypatch.setenv("GATELAB_ROOT", str(folder))
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def source(folder):
    """A language model of 12 characters."""
    (folder / "one.txt").write_text("abcdefgh ijk\n" * 60)
    (folder / "other.txt").write_text("abcdefghz\n" * 80)
    overrides = [*TEXT, f"data.path={folder / 'one.txt'}", "name=source", f"paths.root={folder}"]
    return Path(train(overrides)["run_dir"])


def target(*overrides):
    return [*TEXT, "data.path=other.txt", "name=target", *overrides]


def weights_of(run):
    return load_checkpoint(Path(run) / "checkpoints" / "best.ckpt")["state_dict"]


@pytest.mark.ci
def test_a_run_takes_what_its_source_has_and_records_it(source, capsys):
    result = train(target(f"init.from={source}", "optim.lr=0", "seed=1"))
    record = json.loads((Path(result["run_dir"]) / "run.json").read_text())
    rows = {"matched": 10, "rows": 11}
    assert record["init"]["rows"] == dict.fromkeys(("embedding.weight", "head.weight", "head.bias"), rows)
    assert record["config"]["source_sha256"] == {"init.from": record["init"]["sha256"]}
    assert record["init"]["left"] == record["init"]["unused"] == []
    told = capsys.readouterr().err
    assert "embedding.weight: 10 of 11 rows by token; new: 1, the mean row" in told
    theirs, own = weights_of(source), weights_of(result["run_dir"])
    assert torch.equal(own["net.core.weight_hh_l0"], theirs["net.core.weight_hh_l0"])
    assert not torch.equal(own["net.embedding.weight"][0], theirs["net.embedding.weight"].mean(0))


@pytest.mark.ci
def test_a_source_is_what_it_holds_and_not_where_it_lies(source, folder):
    plain = identify(compose(target()))
    first = identify(compose(target(f"init.from={source}")))
    shutil.copytree(source, folder / "moved", dirs_exist_ok=True)
    assert identify(compose(target("init.from=moved"))) == first != plain
    file = folder / "moved" / "checkpoints" / "best.ckpt"
    asked = check(compose(target("init.from=moved")))
    file.write_bytes((source / "checkpoints" / "last.ckpt").read_bytes() + b" ")
    assert identify(compose(target("init.from=moved"))) != first
    with pytest.raises(RequestError, match=r"init\.from=moved: best\.ckpt has changed since"):
        open_source(asked)


def test_nothing_taken_over_and_nothing_frozen_is_the_run_of_before_these_keys(source):
    config = compose(target()).resolved()
    before = {key: value for key, value in config.items() if key not in ("init", "transfer")}
    assert hash_of(before) == hash_of(config)
    assert identify(compose(target("transfer.decay=2.6"))) != identify(compose(target()))


@pytest.mark.ci
def test_a_run_that_was_stopped_goes_on_from_its_own_weights(source, capsys):
    train(target(f"init.from={source}", "name=stopped"))
    run = next(Path("runs/stopped").glob("*-s0"))
    kept = weights_of(run)
    (run / "result.json").unlink()
    train(target(f"init.from={source}", "name=stopped"))
    assert "starts from" not in capsys.readouterr().err.split("continuing")[1]
    assert all(torch.equal(value, kept[name]) for name, value in weights_of(run).items())


@pytest.mark.parametrize("name", ["torch.pt", "old.pt", "keras.npz", "ours.safetensors"])
def test_files_of_torch_keras_and_our_export_are_read(name, source, folder):
    core = GRU(8, 8)
    torch.save(core.state_dict(), folder / "torch.pt")
    torch.save(core.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(folder / "keras.npz", *[weight.numpy() for weight in to_keras(core)])
    expected = {f"core.{key}": value for key, value in core.state_dict().items()}
    if name == "ours.safetensors":
        export(source, "safetensors", folder / name)
        expected = {key.removeprefix("net."): value for key, value in weights_of(source).items()}
    weights, config = read_weights(folder / name, "init.from")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, weights[key]) for key, value in expected.items())
    assert bool(config) == (name == "ours.safetensors")


class Stranger:
    """A class that a file names."""


@pytest.mark.parametrize(
    ("init", "model", "said"),
    [
        ({"from": "nowhere"}, {}, "init.from=nowhere: no such run directory"),
        ({"from": "one.txt"}, {}, "init.from=one.txt: .*give a run directory"),
        ({"from": "whole.pt"}, {}, "init.from=whole.pt: .*give a run directory"),
        ({"from": "list.pt"}, {}, "init.from=list.pt: holds no dictionary"),
        ({"from": "broken.safetensors"}, {}, "init.from=broken.safetensors: damaged"),
        ({"from": "SOURCE", "parts": ["decoder"]}, {}, "no part 'decoder'; its parts are embedding, core.0, head"),
        ({"from": "SOURCE"}, {"_target_": "gatelab.core.LSTM"}, "its core is GRU, and this run's is LSTM"),
        ({"from": "SOURCE"}, {"reset_after": False}, "this run's is GRU reset_after=False"),
        ({"from": "SOURCE"}, {"hidden_size": 9}, r"core.weight_ih_l0 is \[24, 8\] there and \[27, 8\] here"),
        ({"from": "SOURCE"}, {"level": "byte"}, "its tokens are of level char, and the data's of level byte"),
        ({"from": None, "parts": ["core"]}, {}, "init.parts: is of a source; give init.from"),
    ],
)  # fmt: skip
def test_a_source_that_does_not_fit_is_refused_with_the_fix(init, model, said, source, folder):
    torch.save(Stranger(), folder / "whole.pt")
    torch.save([torch.zeros(1)], folder / "list.pt", _use_new_zipfile_serialization=False)
    (folder / "broken.safetensors").write_bytes(b"{}")
    tokenizer = ByteTokenizer() if model.get("level") else CharTokenizer([*"abc\n"])
    core = partial(GRU, hidden_size=model.get("hidden_size", 8))
    net = LanguageModel(tokenizer.size, core, embedding_size=8, tied=False)
    named = init["from"] and init["from"].replace("SOURCE", str(source))
    config = {
        "init": {"parts": None, "grow": False, **init, "from": named},
        "model": {"_target_": "gatelab.core.GRU", **model},
        "task": {"_target_": "gatelab.tasks.LanguageModelTask"},
        "seed": 0,
    }
    with pytest.raises(RequestError, match=said):
        start_from_source(config, SimpleNamespace(net=net), tokenizer)


ABOUT = (
    "[" * 100_000, '{"a":' * 3000, "3", "[]", '"x"', '{"config": 3}', '{"config": [1]}', '{"config": {"task": [1]}}',
    '{"config": {"task": "x"}}', '{"config": {"model": [1]}}', '{"config": {"model": {"_target_": 3}}}',
    '{"config": {"task": {"_target_": ["a"]}}}', '{"config": {"a": ' + "9" * 5000 + "}}",
)  # fmt: skip


@pytest.mark.parametrize("key", ["gatelab", "shared", "packed"])
@pytest.mark.parametrize("text", ABOUT, ids=range(len(ABOUT)))
def test_a_file_that_says_nonsense_of_itself_is_refused_in_one_message(key, text, source, folder):
    name = folder / "about.safetensors"
    save_file({"core.weight_hh_l0": torch.zeros(24, 8)}, name, {key: text})
    config = {"init": {"from": str(name), "parts": None}, "model": {"_target_": "gatelab.core.GRU"}}
    refused = refusal_of_source(config)
    if key == "gatelab" or text[:2] == "[[":
        assert refused is not None
    assert refused is None or (refused.startswith(f"init.from={name}: ") and len(refused) < 1000)


WEIGHT = torch.zeros(24, 8)
NO_WEIGHTS = {
    "has a shape and not as many values": [
        torch.as_strided(torch.zeros(1), (1 << 20, 1 << 20), (0, 0)), torch.zeros(24, 8, device="meta"),
    ],
    "is no plain tensor": [WEIGHT.to_sparse()],
    "no floating-point numbers": [WEIGHT.to(kind) for kind in (torch.int8, torch.bool, torch.int64, torch.complex64)],
}  # fmt: skip


@pytest.mark.parametrize("said", NO_WEIGHTS)
@pytest.mark.parametrize("parts", [None, ["core"]])
def test_what_can_be_no_weight_is_refused_by_its_name(said, parts, folder):
    for number, tensor in enumerate(NO_WEIGHTS[said]):
        name = folder / f"{number}.pt"
        torch.save({"core.weight_hh_l0": tensor, "core.weight_ih_l0": WEIGHT}, name)
        with pytest.raises(RequestError, match=rf"init.from={name}: core.weight_hh_l0 .*{said}"):
            read_weights(name, "init.from")


@pytest.mark.parametrize("shape", [(), (0,), (24,), (24, 8, 1)])
def test_weights_of_other_dimensions_are_refused_with_and_without_growth(shape, folder):
    net = LanguageModel(5, partial(GRU, hidden_size=8), embedding_size=8, tied=False)
    given = {
        name: torch.zeros(shape) if "weight_hh" in name else value for name, value in net.state_dict().items()
    }
    for grow in (False, True):
        with pytest.raises(ValueError, match=r"core\.weight_hh_l0 is"):
            take_over(net, given, grow=grow)
    with pytest.raises(ValueError, match="must be"):
        from_keras([torch.zeros(8, 24), torch.zeros(shape), torch.zeros(2, 24)], reset_after=True)


@pytest.mark.parametrize("options", [{"int8": True}, {"prune": 0.5}, {"int8": True, "prune": 0.9}], ids=repr)
def test_compressed_weights_are_taken_as_what_they_stand_for(options, source, folder):
    export(source, "safetensors", folder / "packed.safetensors", force=True, **options)
    weights, _ = read_weights(folder / "packed.safetensors", "init.from")
    own = {name.removeprefix("net."): value for name, value in weights_of(source).items()}
    assert weights.keys() == own.keys()
    for name, value in weights.items():
        assert value.dtype == torch.float32
        step = own[name].abs().amax() / 127 if "int8" in options else 0
        kept = (value != 0) | (own[name] == 0) if "prune" in options else slice(None)
        assert ((value - own[name])[kept].abs() <= step).all()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["init.from=nowhere"], "init.from=nowhere: no such run directory"),
        (["init.from_file=x"], "init.from_file"),
        (["init.from=3"], "init.from: 3 is not of type"),
        (["transfer.freeze=[encoder]"], "transfer.freeze: the network has no part 'encoder'"),
        (["data.vocabulary=SOURCE", "data.level=word"], "its tokens are of level char; give data.level=char"),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_a_request_that_cannot_be_is_refused_with_its_key(overrides, said, source):
    with pytest.raises(RequestError, match=said):
        train(target("name=refused", *[text.replace("SOURCE", str(source)) for text in overrides]))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["init.parts=[decoder]"], "the source has no part 'decoder'"),
        (["model=lstm"], "its core is GRU, and this run's is LSTM"),
        ([], ""),
    ],
)
def test_check_says_what_train_would_of_the_source(overrides, said, source, capsys):
    code = main(["check", *target(f"init.from={source}", *overrides)])
    assert code == (2 if said else 0)
    assert said in capsys.readouterr().err


def test_a_grown_run_scores_as_its_source(source):
    grown = [text for text in TEXT if "hidden_size" not in text]
    result = train([*grown, "data.path=one.txt", "model.hidden_size=16", "task.net.embedding_size=16", "name=grown",
                    f"init.from={source}", "init.grow=true", "optim.lr=0"])  # fmt: skip
    theirs = json.loads((source / "result.json").read_text())["splits"]["valid"]
    assert result["splits"]["valid"]["metrics"]["loss"] == pytest.approx(theirs["metrics"]["loss"], abs=1e-6)


def test_a_vocabulary_of_an_earlier_run_is_kept(source):
    result = train(target(f"data.vocabulary={source}", "name=vocabulary"))
    ours, theirs = (json.loads((Path(p) / "tokenizer.json").read_text()) for p in (result["run_dir"], source))
    assert ours == theirs
    record = json.loads((Path(result["run_dir"]) / "run.json").read_text())
    assert record["data"]["vocabulary"] == record["config"]["source_sha256"]["data.vocabulary"]


WEIGHTS = {"core.weight_hh_l0": torch.ones(3, 1)}
SAYS = ("[]", "3", "null", "x", '{"config": 3}', '{"config": [1]}', '{"config": {"model": []}}')


@pytest.mark.parametrize("ending", ["safetensors", "ckpt", "pt", "npz"])
def test_a_source_that_is_damaged_is_one_message(ending, tmp_path):
    file = tmp_path / f"source.{ending}"
    contents = [b"", b"\x80", b"PK\x03\x04", b"\xff" * 99]
    if ending == "safetensors":
        contents += [save(WEIGHTS, {key: text}) for key in ("shared", "gatelab") for text in SAYS]
    elif ending != "npz":
        odd = [{"state_dict": [1]}, {"state_dict": WEIGHTS, "hyper_parameters": [1]}, {1: 2}, [1]]
        odd += [
            {"state_dict": WEIGHTS, "hyper_parameters": {"config": c}} for c in (3, "x", [1], {"model": 3})
        ]
        contents += [written(value) for value in odd]
    for content in contents:
        file.write_bytes(content)
        said, weights, config = "", WEIGHTS, {}
        try:
            weights, config = read_weights(file, "init.from")
        except RequestError as error:
            said = str(error)
        assert not said or said.startswith(f"init.from={file}: ")
        assert weights.keys() == WEIGHTS.keys()
        assert cell_of(config) is None


def written(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
