"""Recognition: a batch counts as its utterances do, pieces of sound give what the whole gives, every command works."""

import functools
import json
import wave
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.cli.main import main
from gatelab.core import GRU, SpeechRecognizer, TorchGRU
from gatelab.data import SpeechDataModule
from gatelab.run.export.files import as_graph
from gatelab.run.load import load_task
from gatelab.tasks import RecognitionTask
from gatelab.tasks.contract import Remark
from gatelab.tasks.explanation.measure import explain
from gatelab.tasks.optimizers import adam
from gatelab.tasks.speech.streaming import StreamingRecognizer

RATE = 8000
HERTZ = {"a": 400, "b": 1200}
TEXTS = ["ab", "ba", "a", "b", "aba", "bab", "aab", "abb", "bba", "baa"] * 2


def spoken(text: str) -> np.ndarray:
    """A tone for each letter, with silence around."""
    parts = [np.zeros(400)]
    for letter in text:
        parts += [0.5 * np.sin(2 * np.pi * HERTZ[letter] * np.arange(1000) / RATE), np.zeros(400)]
    return np.concatenate(parts)


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    lines = ["path,transcript"]
    for number, text in enumerate(TEXTS):
        write_wav(folder / f"{number}.wav", spoken(text))
        lines.append(f"{number}.wav,{text}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def data(manifest):
    made = SpeechDataModule("files", str(manifest), mels=20, batch_size=4)
    made.setup()
    return made


def task_of(data, core=GRU, **net):
    torch.manual_seed(0)
    cell = functools.partial(core, hidden_size=8)
    made = RecognitionTask.build_net(functools.partial(SpeechRecognizer, **net), cell, data.spec)
    return RecognitionTask(made, spec=data.spec, optimizer=adam).eval()


@pytest.mark.parametrize("net", [{"stride": 2}, {"bidirectional": True, "filters": 6}])
def test_a_batch_has_the_loss_and_gradients_of_its_utterances(net, data):
    task = task_of(data, **net).double()
    batch = next(iter(data.train_dataloader()))
    frames = batch.frames.double()

    def gradients(parts):
        task.zero_grad()
        total = 0.0
        for some in parts:
            length, count = int(some.lengths.max()), int(some.target_lengths.max())
            cut = some._replace(frames=some.frames[:, :length], targets=some.targets[:, :count])
            nll = task.train_loss(cut)[1]
            nll.backward()
            total += float(nll.detach())
        return total, torch.cat([p.grad.flatten() for p in task.parameters()])

    def rows(*numbers):
        return type(batch)(*(value[list(numbers)] for value in batch._replace(frames=frames)))

    # the log-probabilities are in float32, as a run's are
    whole, alone = gradients([rows(0, 1, 2, 3)]), gradients([rows(n) for n in range(4)])
    assert whole[0] == pytest.approx(alone[0], rel=1e-5)
    assert (whole[1] - alone[1]).abs().max() <= 1e-5 * alone[1].abs().max()


@pytest.mark.parametrize("net", [{}, {"stride": 3}, {"stride": 2, "filters": 6, "kernel": 4}])
@pytest.mark.parametrize("size", [1, 80, 333, 10_000])
def test_pieces_of_sound_give_what_the_whole_gives(net, size, data):
    task = task_of(data, **net)
    listen = StreamingRecognizer(task, data)
    sound = torch.from_numpy(spoken("abba")[: 4000 if size > 1 else 400].astype(np.float32))
    with torch.inference_mode():
        whole = task.net(data.frames.of(sound)[None])[0][:, 0].log_softmax(-1)
    state, pieces, said, text = None, [], None, ""
    for start in range(0, len(sound), size):
        log_probs, state = listen.log_probs(sound[start : start + size], state)
        pieces.append(log_probs)
        word, said = listen(sound[start : start + size], said)
        text += word
    assert (torch.cat(pieces) - whole).abs().max() < 1e-6
    assert text == task._said(whole[:, None], torch.tensor([len(whole) * task.net.stride]))[0]


def test_what_cannot_stream_is_refused(data):
    with pytest.raises(ValueError, match="bidirectional=true reads the whole utterance"):
        StreamingRecognizer(task_of(data, bidirectional=True), data)
    other = SpeechDataModule(normalize="utterance")
    with pytest.raises(ValueError, match=r"train with data.normalize=global to stream"):
        StreamingRecognizer(task_of(data), other)


def test_a_stride_that_leaves_too_few_steps_is_refused(data):
    with pytest.raises(ValueError, match=rf"stride=30: .* give at most {data.spec.most_stride}"):
        task_of(data, stride=30)


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    """A recogniser of letters, trained for a moment."""
    root = tmp_path_factory.mktemp("run")
    small = ["data.mels=20", "data.batch_size=4", "model.hidden_size=24", "optim.lr=0.02"]
    request = ["data=transcribed", f"data.path={manifest}", *small, "task.net.stride=2", "callbacks=none"]
    assert main(["train", *request, "trainer.max_epochs=25", "threads=1", f"paths.root={root}"]) == 0
    (directory,) = (file.parent for file in root.rglob("result.json"))
    return directory


def test_it_learns_to_write_letters_down(run, manifest, tmp_path):
    result = json.loads((run / "result.json").read_text())
    assert result["splits"]["valid"]["metrics"]["cer"] < 50
    write_wav(tmp_path / "new.wav", spoken("ab"))
    for given, rows in ((tmp_path / "new.wav", 1), (manifest, 20), (tmp_path, 1)):
        output = tmp_path / f"{rows}-{given.stem}.csv"
        assert main(["predict", str(run), "--input", str(given), "--output", str(output)]) == 0
        frame = pd.read_csv(output, keep_default_na=False)
        assert list(frame) == ["path", "transcript"]
        assert len(frame) == rows
        assert all(set(text) <= {"a", "b"} for text in frame["transcript"])


def test_the_run_streams_and_its_sample_stands_beside_the_truth(run):
    loaded = load_task(run)
    listen = StreamingRecognizer(loaded.task, loaded.reader)
    sound = torch.from_numpy((spoken("ba") * 32767).astype("<i2").astype(np.float32) / 32768)
    text, state = listen(sound[:1000])
    text += listen(sound[1000:], state)[0]
    with torch.inference_mode():
        logits = loaded.task.net(listen.frames.of(sound)[None])[0]
    assert text == loaded.task._said(logits.log_softmax(-1), torch.tensor([2 * len(logits)]))[0]
    sample = loaded.task.sample(loaded)
    assert sample.columns == ("spoken", "written down")
    assert all(set(truth) <= {"a", "b"} for truth, _ in sample.rows)


@pytest.mark.parametrize(
    "kind", ["safetensors", "onnx", pytest.param("torch-export", marks=pytest.mark.slow)]
)
def test_it_is_exported(kind, run, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    assert main(["export", str(run), "--format", kind, "--output", f"{tmp_path}/model.{kind}"]) == 0


def test_a_graph_whose_last_frames_nothing_would_read_is_refused(run, tmp_path, capsys):
    request = ["export", str(run), "--format", "onnx", "--output", f"{tmp_path}/model.onnx", "--steps"]
    assert main([*request, "3"]) == 2
    assert "--steps 3: the network reads 2 steps of its input at once" in capsys.readouterr().err


def test_a_graph_of_both_directions_has_no_state(data):
    task = task_of(data, bidirectional=True, stride=2)
    interface = task.graph()
    assert list(interface.inputs) == ["frames"]
    assert list(interface.outputs) == ["logits"]
    frames = task.example_input(2, 10)
    torch.testing.assert_close(as_graph(task.net, interface)(*frames)[0], task.net(*frames)[0])


@pytest.mark.parametrize("core", [GRU, TorchGRU])
def test_of_a_sound_too_short_for_a_step_nothing_is_written_down_and_it_is_told(core, data, tmp_path):
    task = task_of(data, core=core, stride=3)
    for name, samples in (("a_long", spoken("ab")), ("b_short", np.zeros(10)), ("c_long", spoken("ba"))):
        write_wav(tmp_path / f"{name}.wav", samples)
    new = Run(data, SpeechDataModule("files", mels=20))
    with pytest.warns(Remark) as told:
        said = task.predict(new, tmp_path)["transcript"].tolist()
    assert any("at once, so nothing is written down" in str(each.message) for each in told)
    assert any("shorter than a window of 25 ms" in str(each.message) for each in told)
    (tmp_path / "b_short.wav").unlink()
    alone = task.predict(Run(data, SpeechDataModule("files", mels=20)), tmp_path)["transcript"].tolist()
    assert said == [alone[0], "", alone[1]]


def test_a_sound_of_another_rate_is_refused(run, tmp_path, capsys):
    with wave.open(str(tmp_path / "fast.wav"), "wb") as file:
        file.setparams((1, 2, 2 * RATE, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    request = ["predict", str(run), "--input", f"{tmp_path}/fast.wav", "--output", f"{tmp_path}/x.csv"]
    assert main(request) == 2
    assert "fast.wav: has 16,000 Hz" in capsys.readouterr().err


@pytest.mark.parametrize("net", [{"stride": 2, "filters": 6}, {"bidirectional": True}])
def test_it_is_explained_with_a_spectrogram(net, data, manifest):
    task = task_of(data, **net)
    reading = task.reading(Run(data, data))
    found = explain(reading, ablations=1)
    assert found["attribution"]["completeness_error"] <= 0.01
    values = np.array(found["attribution"]["values"])
    assert values.shape == (len(found["attribution"]["steps"]), data.spec.channels)
    if not net.get("bidirectional"):  # what comes after the step of the symbol is read by nothing
        assert (values[-1] == 0).all()
        assert found["context"]["k"][:2] == [0, 1]
        assert found["context"]["rise"][0] != 0
    own = task.reading(Run(data, data), manifest.parent / "0.wav")
    assert "own transcripts" in own.note


def test_a_sound_too_short_for_a_step_is_left_out_of_an_explanation(data, tmp_path):
    task = task_of(data, core=TorchGRU, stride=3)
    write_wav(tmp_path / "short.wav", np.zeros(10))
    with pytest.raises(ValueError, match="no sound has the 3 frames that the network reads at once"):
        task.reading(Run(data, data), tmp_path)
    write_wav(tmp_path / "long.wav", spoken("ab"))
    assert task.reading(Run(data, data), tmp_path).note.startswith("1 utterances of")


class Run(NamedTuple):
    data: Any
    reader: Any
    tokenizer: Any = None
