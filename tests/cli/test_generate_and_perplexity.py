"""`gatelab generate` and `gatelab perplexity` on a trained run: text, CSV and JSON that they print, and refusals."""

import csv
import gzip
import io
import json
import math
from types import SimpleNamespace

import pytest

from gatelab.api import Run
from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.run.train import train

LINES = ["the cat sat on the mat", "a dog lay by the door", "the rain fell on a dog"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of words with an adaptive softmax, its scores, and its test file."""
    root = tmp_path_factory.mktemp("language")
    for name, times in (("train", 30), ("valid", 3), ("test", 4)):
        (root / f"{name}.txt").write_text("".join(f"{line}\n" for line in LINES * times))
    paths = [f"data.{key}={root}/{name}.txt" for key, name in (("path", "train"), ("valid_path", "valid"))]
    result = train(
        [
            *("data=text", "data.level=word", *paths, f"data.test_path={root}/test.txt", "data.batch_size=4"),
            *("task.net.cutoffs=[4,8]", "task.net.tied=false", "model.hidden_size=16", "optim.lr=1e-2"),
            *("trainer.max_steps=20", "trainer.max_epochs=2", "callbacks=none", f"paths.root={root}"),
        ]
    )
    return result["run_dir"], result["splits"]["test"]["metrics"], root / "test.txt"


def output(capsys, *arguments):
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("window", [1, 7, 35, 1000])
def test_a_file_scores_as_the_split_that_it_is(trained, capsys, window):
    run, split, file = trained
    scores = json.loads(output(capsys, "perplexity", run, file, "--json", "--window", window))
    for name in ("loss", "ppl", "bpc"):
        assert scores[name] == pytest.approx(split[name], rel=1e-6)
    assert scores["tokens"] == split["tokens"]
    assert Run(run).perplexity(file)["loss"] == pytest.approx(split["loss"], rel=1e-6)


def test_tokens_are_printed_one_a_row(trained, capsys, monkeypatch):
    run, split, file = trained
    given = SimpleNamespace(buffer=io.BytesIO(file.read_bytes()))
    monkeypatch.setattr("sys.stdin", given)
    assert main(["perplexity", run, "-", "--per-token"]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [row["token"] for row in rows[:7]] == [*LINES[0].split(), "\n"]
    assert [int(row["position"]) for row in rows] == list(range(int(split["tokens"])))
    assert sum(float(row["nll"]) for row in rows) / len(rows) == pytest.approx(split["loss"], rel=1e-6)
    assert float(rows[0]["bits"]) == pytest.approx(float(rows[0]["nll"]) / math.log(2))
    assert printed.err.startswith(f"loss {split['loss']:.4f}, ppl ")
    report = json.loads(output(capsys, "perplexity", run, file, "--per-token", "--json"))
    assert [row["token"] for row in report["per_token"]] == [row["token"] for row in rows]
    assert report["loss"] == pytest.approx(split["loss"], rel=1e-6)
    assert "| ppl " in output(capsys, "perplexity", run, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no token in it"),
        (b"a dog\n\xff", "line 2 is not UTF-8"),
        (None, "is a folder"),
    ],
)
def test_a_text_that_cannot_be_scored_is_refused(trained, tmp_path, capsys, content, message):
    run, _, _ = trained
    file = tmp_path / "text" if content is not None else tmp_path
    if content is not None:
        file.write_bytes(content)
    assert main(["perplexity", run, str(file), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"{file}: {message}" in printed.err


def test_a_packed_text_scores_as_it_does_unpacked(trained, tmp_path, capsys):
    run, _, _ = trained
    (tmp_path / "text.txt").write_bytes(b"a dog\n" * 9)
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(b"a dog\n" * 9))
    found = [
        json.loads(output(capsys, "perplexity", run, tmp_path / name, "--json"))
        for name in ("text.txt", "text.txt.gz")
    ]
    assert found[0]["loss"] == found[1]["loss"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.4\na dog", "is a PDF"),
        (b"\x89PNG\r\n", "is an image"),
        ("a dog".encode("utf-32"), "is UTF-32LE"),
    ],
)
def test_what_is_no_text_is_not_scored(trained, tmp_path, capsys, content, message):
    (tmp_path / "text.txt").write_bytes(content)
    assert main(["perplexity", trained[0], str(tmp_path / "text.txt")]) == 2
    assert f"text.txt: {message}" in capsys.readouterr().err


def test_texts_are_printed_one_after_another_or_in_one_document(trained, capsys):
    run, _, _ = trained
    asked = (
        "generate",
        run,
        "--prompt",
        "the",
        "--tokens",
        "8",
        "--n",
        "3",
        "--stop",
        "\\n",
        "--min-p",
        "0.05",
    )
    first, second, third = output(capsys, *asked).rstrip("\n").split("\n--- ")
    assert first.startswith("the ")
    assert (second[:7], third[:7]) == ("2 of 3\n", "3 of 3\n")
    report = json.loads(output(capsys, *asked, "--json"))
    assert report["texts"] == [first, second[7:], third[7:]]
    assert report["text"] == first
    assert report["temperature"] == 0.8
    assert not any("\n" in text for text in report["texts"])
    assert output(capsys, *asked, "--stream").rstrip("\n") == "\n--- ".join((first, second, third))
    assert Run(run).generate_several("the", 3, tokens=8, stop=["\n"], min_p=0.05) == report["texts"]


def test_at_a_terminal_the_text_comes_bit_by_bit(trained, capsys, monkeypatch):
    run, _, _ = trained
    parts = []
    monkeypatch.setattr("gatelab.cli.generate._show", parts.append)
    monkeypatch.setattr("gatelab.cli.main.Output.isatty", lambda self: True, raising=False)
    output(capsys, "generate", run, "--tokens", "5")
    assert len(parts) > 3
    parts.clear()
    output(capsys, "generate", run, "--tokens", "5", "--json")
    assert parts == []


def test_the_likeliest_text_is_no_less_likely_than_the_greedy_one(trained, capsys, tmp_path):
    run, _, _ = trained
    losses = []  # so wide a beam sees every text of three words
    for options in (("--beam", "1000"), ("--temperature", "0")):
        asked = ("--prompt", "a dog", "--tokens", "3", *options, "--json")
        text = json.loads(output(capsys, "generate", run, *asked))["text"]
        (tmp_path / "text").write_text(text)
        losses.append(Run(run).perplexity(tmp_path / "text")["loss"])
    assert losses[0] <= losses[1] + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "-1"], "temperature must be at least 0"),
        (["--min-p", "1.5"], "min_p must lie in [0, 1]"),
        (["--repetition-penalty", "0"], "repetition_penalty must be above 0"),
        (["--beam", "3", "--top-k", "2"], "leave top_k out"),
        (["--beam", "3", "--temperature", "0.8"], "leave temperature out"),
        (["--beam", "3", "--stream"], "--stream and --beam"),
        (["--json", "--stream"], "--stream and --json"),
        (["--stop", ""], "none of them empty"),
    ],
)
def test_bad_options_are_refused_before_anything_is_loaded(options, message, tmp_path, capsys):
    assert main(["generate", str(tmp_path / "no run here"), *options]) == 2
    assert message in capsys.readouterr().err


def test_one_text_is_asked_of_generate(trained):
    with pytest.raises(RequestError, match="generate_several"):
        Run(trained[0]).generate("the", n=2)


def test_every_line_of_a_file_is_continued_side_by_side(trained, tmp_path, monkeypatch):
    run, _, _ = trained
    lines = ["the cat", "a dog lay by", "rain", "", "the rain fell"]
    (tmp_path / "mine.txt").write_text("\n".join(lines) + "\n")
    together = Run(run).predict(tmp_path / "mine.txt")
    assert together["prompt"].tolist() == lines
    assert all(text.startswith(line) for line, text in zip(lines, together["text"], strict=True))
    assert all(len(text.split()) > 100 for text in together["text"])
    monkeypatch.setattr("gatelab.tasks.text.language_model.LINES_AT_ONCE", 1)
    alone = Run(run).predict(tmp_path / "mine.txt")
    assert alone["text"].tolist() == [Run(run).generate(line) for line in lines]
