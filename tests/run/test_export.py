"""Exported files give the run's own outputs, with any batch and, where that is promised, any number of steps."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load

from gatelab.cli.main import main
from gatelab.core import SequenceClassifier, TorchGRU
from gatelab.core.labels.classifier import Pooling
from gatelab.core.weights.compression import unpack
from gatelab.run import RequestError, RunFailed
from gatelab.run.export import export
from gatelab.run.export.files import as_graph, int8_graph, onnx_graph
from gatelab.run.load import load_task
from gatelab.run.scoring.evaluate import score
from gatelab.run.train import train
from gatelab.tasks.contract import GraphInterface

SMALL = ["trainer.max_steps=1", "trainer.max_epochs=1", "model.hidden_size=6", "threads=1", "callbacks=none"]
DATA = {
    "text": ["data=stdlib", "data.max_characters=20000", "model.num_layers=2"],
    "lstm": ["data=stdlib", "data.max_characters=20000", "model=lstm"],
    "cho": ["data=stdlib", "data.max_characters=20000", "model.reset_after=false"],
    "norm": ["data=stdlib", "data.max_characters=20000", "model.layer_norm=true"],
    "nn": ["data=stdlib", "data.max_characters=20000", "model=nn_lstm"],
    "rnn": ["data=stdlib", "data.max_characters=20000", "model=nn_rnn"],
    "min": ["data=stdlib", "data.max_characters=20000", "model=mingru"],
    "awd": [
        "data=stdlib",
        "data.max_characters=20000",
        "model.num_layers=2",
        "task.net.embedding_size=4",
        "task.net.last_as_embedding=true",
        "task.net.locked_dropout=true",
        "task.net.weight_drop=0.3",
    ],
    "series": ["data=embedded_series", "data.lookback=8", "data.horizon=4"],
    "cycle": ["data=embedded_series", "data.lookback=8", "data.horizon=4", "task.net.cycle=24"],
    "panel": [
        *("data=retail_panel", "data.lookback=8", "data.horizon=4", "data.calendar=null"),
        *("data.static=[size,store]", "task.net.decoder=mlp", "task.net.mask_input=true"),
    ],
    "quantiles": [
        "data=embedded_series",
        "data.lookback=8",
        "data.horizon=5",
        "task.net.output=quantiles",
        "task.net.decoder=segments",
        "task.net.patch=4",
        "task.net.channel_independent=true",
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run(kind)`: the directory of a run, trained for one step, once for all tests."""
    root, made = tmp_path_factory.mktemp("export"), {}

    def get(kind):
        if kind not in made:
            made[kind] = train([*DATA[kind], *SMALL, "test=false", f"paths.root={root}"])["run_dir"]
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["text", "series", "awd"])
@pytest.mark.quick(1, rest="ci")
def test_weights_come_back_bit_for_bit_with_their_configuration(kind, run, tmp_path):
    done = export(run(kind), "safetensors", tmp_path / "x.safetensors")
    assert done.difference == 0
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        note = json.loads(file.metadata()["gatelab"])
        names = set(file.keys())
    assert note["config"]["model"]["hidden_size"] == 6
    assert not any("parametrizations" in name for name in names)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        pytest.param("text", {"tokens": ["time", "batch"], "state": [2, "batch", 6]}, marks=pytest.mark.slow),
        ("lstm", {"tokens": ["time", "batch"], "state_h": [1, "batch", 6], "state_c": [1, "batch", 6]}),
        ("awd", {"tokens": ["time", "batch"], "state": [1, "batch", 10]}),
        ("cho", {"tokens": [1, "batch"], "state": [1, "batch", 6]}),
        pytest.param("norm", {"tokens": [1, "batch"], "state": [1, "batch", 6]}, marks=pytest.mark.slow),
        ("series", {"past": ["batch", "time", 4]}),
        ("quantiles", {"past": ["batch", "time", 4]}),
        ("cycle", {"past": ["batch", 8, 4], "start": ["batch"]}),
        (
            "panel",
            {
                "past": ["batch", 8, 1],
                "observed": ["batch", 8, 1],
                "known_codes": ["batch", 12, 2],
                "static": ["batch", 1],
                "static_codes": ["batch", 1],
            },
        ),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_onnx_gives_the_outputs_of_the_run(kind, inputs, run, tmp_path):
    pytest.importorskip("onnxscript")
    done = export(run(kind), "onnx", tmp_path / "x.onnx")
    assert done.inputs == inputs
    assert done.difference <= done.tolerance


@pytest.mark.filterwarnings("ignore")  # of the older ONNX exporter, as `export` does
@pytest.mark.parametrize("pooling", Pooling.__args__)
@pytest.mark.ci
def test_an_onnx_graph_of_a_classifier_gives_its_outputs_at_any_number_of_steps(pooling):
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = SequenceClassifier(
        0, 3, partial(TorchGRU, hidden_size=6), channels=2, pooling=pooling, bidirectional=True
    )
    interface = GraphInterface({"inputs": ("batch", "time", 2)}, {"logits": ("batch", 3)})
    with torch.inference_mode():
        run = onnx_graph(as_graph(net.eval(), interface), (torch.randn(2, 12, 2),), interface, "{}")[1]
        for steps in (1, 5, 12, 40):
            x = torch.randn(3, steps, 2)
            torch.testing.assert_close(run((x,))[0], net(x))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("text", [3, "batch"]),
        ("series", ["batch", 3, 4]),
        pytest.param("panel", ["batch", 8, 1], marks=pytest.mark.slow),
        pytest.param("quantiles", ["batch", 12, 4], marks=pytest.mark.slow),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_torch_export_gives_the_outputs_of_the_run(kind, inputs, run, tmp_path):
    steps = next(n for n in inputs if isinstance(n, int))
    done = export(run(kind), "torch-export", tmp_path / "x.pt2", steps=steps)
    assert next(iter(done.inputs.values())) == inputs
    assert done.difference <= done.tolerance
    assert torch.export.load(tmp_path / "x.pt2").graph.find_nodes(op="placeholder")


OTHERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("text", "cho", "nn", "rnn", "min")]


@pytest.mark.parametrize("kind", ["lstm", "awd", *OTHERS])
@pytest.mark.ci
def test_time_is_free_in_torch_export_of_a_language_model_of_any_cell(kind, run, tmp_path):
    done = export(run(kind), "torch-export", tmp_path / "x.pt2")
    assert done.inputs["tokens"] == ["time", "batch"]
    loaded = load_task(run(kind))
    graph = torch.export.load(tmp_path / "x.pt2").module()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(loaded.task.spec.vocabulary, (37, 3), generator=generator)
    with torch.inference_mode():
        expected, state = loaded.task.net(tokens)
        begin = torch.zeros_like(state[0] if isinstance(state, tuple) else state)
        carried = [begin] * (len(done.inputs) - 1)
        pieces = []
        for piece in (tokens[:1], tokens[1:6], tokens[6:]):  # the state that comes out goes in again
            y, *carried = graph(piece, *carried)
            pieces.append(y)
    assert torch.allclose(torch.cat(pieces), expected, atol=1e-5)


def test_a_file_that_is_there_is_replaced_with_force_only(run, capsys):
    where = run("series")
    assert main(["export", where, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["export", where]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["export", where, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.parametrize(
    "name", ["run.json", "metrics.csv", "checkpoints/best.ckpt", "mine.csv", "link", "folder"]
)
def test_a_file_that_is_no_export_is_never_replaced(run, tmp_path, capsys, name):
    mine, link, folder = tmp_path / "mine.csv", tmp_path / "x.safetensors", tmp_path / "folder.safetensors"
    mine.write_text("date,load")
    folder.mkdir()
    link.symlink_to(Path(run("series")) / "run.json")
    file = {"mine.csv": mine, "link": link, "folder": folder}.get(name, Path(run("series")) / name)
    before = file.is_file() and file.read_bytes()
    assert main(["export", run("series"), "--force", "--output", str(file)]) == 2
    assert "give another name" in (said := capsys.readouterr().err) or "of another kind" in said
    assert before == (file.is_file() and file.read_bytes())


def test_a_file_with_other_outputs_is_refused_and_not_left(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        safetensors.torch, "load", lambda content: {k: v + 1e-3 for k, v in load(content).items()}
    )
    with pytest.raises(RunFailed, match="other outputs than the run"):
        export(run("series"), "safetensors", tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_what_installs_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RequestError, match=r"onnxruntime.*pip install 'gatelab\[onnx\]'"):
        export(run("series"), "onnx", tmp_path / "x.onnx")


def test_compressed_weights_are_smaller_and_say_what_they_cost(run, tmp_path, capsys):
    file, where = tmp_path / "x.safetensors", run("awd")
    assert main(["export", where, "--prune", "0.5", "--int8", "--output", str(file), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["bytes"] == file.stat().st_size < done["bytes_before"]
    assert done["difference"] == 0
    assert list(done["cost"]) == ["valid"]
    assert done["monitor"] == "loss"
    loaded = load_task(where)
    stored = load(file.read_bytes())
    with safe_open(file, "pt") as opened:
        note = opened.metadata()
    assert {t.dtype for name, t in stored.items() if name in json.loads(note["packed"])} == {torch.int8}
    weights = unpack(stored, json.loads(note["packed"]))
    weights |= {name: weights[source] for name, source in json.loads(note["shared"]).items()}
    total = sum(weights[name].numel() for name in json.loads(note["packed"]))
    zeros = sum(int((weights[name] == 0).sum()) for name in json.loads(note["packed"]))
    assert zeros >= round(0.5 * total)
    with torch.no_grad():
        for name, parameter in loaded.task.net.named_parameters():
            parameter.copy_(weights[name.replace("parametrizations.", "").replace(".original", "")])
    again = score(loaded.task, loaded.data, "valid")
    loss = done["cost"]["valid"]["loss"]
    assert again["loss"] == loss["exported"]
    assert loss["difference"] == loss["exported"] - loss["run"] != 0
    assert score(load_task(where).task, loaded.data, "valid")["loss"] == loss["run"]


@pytest.mark.parametrize(
    "kind",
    ["text", pytest.param("lstm", marks=pytest.mark.slow), pytest.param("series", marks=pytest.mark.slow)],
)
def test_an_onnx_graph_in_int8_multiplies_in_int8_and_is_scored_itself(kind, run, tmp_path):
    onnx = pytest.importorskip("onnx")
    done = export(run(kind), "onnx", tmp_path / "x.onnx", int8=True, steps=None if kind == "series" else 1)
    operations = [node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node]
    assert "MatMulInteger" in operations
    assert not {"GRU", "LSTM", "Gemm"} & set(operations)
    assert 1e-6 < done.difference <= done.tolerance
    assert done.scored == "graph"
    cost = done.cost["valid"][done.monitor]
    assert 0 < abs(cost["difference"]) < 0.05 * cost["run"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the older ONNX exporter
@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_a_graph_in_int8_overflow_on_no_processor(sign, rows):
    """Every weight and input at the end of its range: two products of 8 bits do not fit into 16, those of 7 do."""
    onnx = pytest.importorskip("onnx")
    layer = torch.nn.Linear(64, 5, bias=False)
    torch.nn.init.constant_(layer.weight, sign)
    x = torch.ones(rows, 64)
    interface = GraphInterface({"x": ("batch", 64)}, {"y": ("batch", 5)})
    content, run = int8_graph(onnx_graph(layer, (x,), interface, "{}")[0], interface)
    torch.testing.assert_close(run((x,))[0], layer(x), rtol=0.01, atol=0.0)
    weights = [onnx.numpy_helper.to_array(t) for t in onnx.load_model_from_string(content).graph.initializer]
    (stored,) = [w for w in weights if w.dtype == "int8" and w.size == layer.weight.numel()]
    assert abs(stored.astype(int)).max() * 255 * 2 < 2**15


@pytest.mark.slow
def test_of_a_graph_in_int8_that_cannot_be_scored_the_rounded_weights_are(run, tmp_path):
    pytest.importorskip("onnxscript")
    done = export(run("text"), "onnx", tmp_path / "x.onnx", int8=True, steps=3)
    assert done.scored == "weights"
    assert done.cost["valid"]["loss"]["difference"] != 0


def test_a_graph_of_pruned_weights_gives_their_outputs(run, tmp_path):
    pytest.importorskip("onnxscript")
    done = export(run("text"), "onnx", tmp_path / "x.onnx", prune=0.9, test=True)
    assert done.difference <= done.tolerance == 1e-5
    assert done.scored == "weights"
    assert list(done.cost) == ["valid", "test"]
    assert done.cost["valid"]["loss"]["difference"] != 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--prune", "1"], "--prune 1: the share"),
        (["--prune", "nan"], "--prune nan: the share"),
        (["--int8", "--format", "torch-export"], "for --format safetensors and onnx"),
        (["--test"], "`gatelab eval` scores a run"),
    ],
)
def test_what_cannot_be_compressed_is_refused(given, said, run, capsys):
    assert main(["export", run("series"), *given]) == 2
    assert said in capsys.readouterr().err
