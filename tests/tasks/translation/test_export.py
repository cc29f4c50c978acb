"""A trained translator is exported as a graph that gives the run's own outputs."""

import pytest

from gatelab.cli.main import main

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
