"""A trained translator is exported as a graph that gives the run's own outputs."""

import pytest
import torch

import gatelab
from gatelab.cli.main import main
from gatelab.run import export as export_module

pytestmark = pytest.mark.slow  # forty steps of encoder and decoder are written out


@pytest.mark.parametrize("kind", ["safetensors", "onnx", "torch-export"])
@pytest.mark.parametrize("model", ["gru", "nn_lstm"])
def test_it_is_exported(kind, model, tmp_path, capsys):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    for name, word in (("a", "yes"), ("b", "ja")):
        (tmp_path / f"{name}.txt").write_text(f"{word} and {word}\n{word}\n" * 20)
    small = ["model.hidden_size=8", "trainer.max_epochs=1", "callbacks=none", "test=false", f"model={model}"]
    files = [f"data.source={tmp_path}/a.txt", f"data.target={tmp_path}/b.txt", f"paths.root={tmp_path}"]
    assert main(["train", "data=pairs", *files, *small]) == 0
    (run,) = (file.parent for file in tmp_path.rglob("result.json"))
    assert main(["export", str(run), "--format", kind, "--steps", "6", "--output", f"{tmp_path}/model"]) == 0
    assert "largest difference" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
@pytest.mark.parametrize("options", [[], ["model=nn_lstm", "task.net.input_feeding=true"]])
def test_encoder_and_step_say_what_the_whole_network_says(kind, options, tmp_path, monkeypatch):
    """A loop over the exported files gives the greedy translation of the run."""
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    for name, word in (("a", "yes"), ("b", "ja")):
        (tmp_path / f"{name}.txt").write_text(f"{word} and {word}\n{word}\n" * 20)
    small = ["model.hidden_size=8", "trainer.max_epochs=1", "callbacks=none", "test=false", *options]
    files = [f"data.source={tmp_path}/a.txt", f"data.target={tmp_path}/b.txt", f"paths.root={tmp_path}"]
    assert main(["train", "data=pairs", *files, *small]) == 0
    (run,) = (file.parent for file in tmp_path.rglob("result.json"))
    runs = {}
    write = export_module.onnx_graph if kind == "onnx" else export_module.torch_export

    def kept(*given):
        content, ran = write(*given)
        runs[len(runs)] = ran
        return content, ran

    monkeypatch.setattr(export_module, write.__name__, kept)
    steps = ["--steps", "6", "--format", kind]
    for part in ("encoder", "step"):
        assert main(["export", str(run), "--part", part, *steps, "--output", f"{tmp_path}/{part}"]) == 0
    loaded = gatelab.load(run)
    end = loaded.task.spec.seed_token
    with torch.inference_mode():
        source, lengths = torch.tensor([[1], [2], [1], [0], [0], [0]]), torch.tensor([3])
        wanted = loaded.task.search(source, lengths, 1, 1.0)[0].tokens
        values, keys, *state = runs[0]((source, lengths))
        said, token = [], end
        while len(said) < len(wanted):
            logits, *state = runs[1]((torch.tensor([[token]]), lengths, values, keys, *state))
            logits[..., loaded.task.spec.unknown_token] = -torch.inf
            token = int(logits[0, 0].argmax())
            said.append(token)
    assert said == list(wanted)
    assert main(["export", str(run), "--part", "half", *steps]) == 2
