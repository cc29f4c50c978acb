"""Level byte: any file, 256 symbols, and a score in bits per byte under that name."""

import json
import math
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.data.messages import DataError
from gatelab.data.text.module import TextDataModule
from gatelab.data.text.tokenizer import ByteTokenizer, tokenizer_from_dict

RAW = bytes(range(256)) * 40 + b"\xef\xbb\xbf\r\n\x00" * 50


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "any.bin"
    path.write_bytes(RAW)
    return path


@pytest.mark.parametrize("fold", [None, 1])
def test_any_file_is_its_bytes(file, fold):
    data = TextDataModule("text", "byte", path=str(file), folds=None if fold is None else 3, fold=fold)
    data.setup()
    assert data.spec.vocabulary == 256
    assert sum(data.spec.tokens.values()) == sum(data.spec.characters.values()) == len(RAW)
    parts = [bytes(ids.tolist()) for ids in data.tokens.values()]
    if fold is None:
        assert b"".join(parts) == RAW
    else:
        (gap,) = data.boundaries
        assert parts[0][:gap] + parts[1] + parts[0][gap:] + parts[2] == RAW


def test_text_survives_and_broken_pieces_of_it_are_shown():
    tokenizer = tokenizer_from_dict(json.loads(json.dumps(ByteTokenizer().to_dict())))
    assert tokenizer.decode(tokenizer.encode("naïve 猫\n")) == "naïve 猫\n"
    assert tokenizer.encode("é").tolist() == [0xC3, 0xA9]
    assert tokenizer.decode([0xC3, 0x41]) == "\ufffdA"
    assert tokenizer.seed_token == tokenizer.encode("\n").item()
    assert tokenizer.unknown_in("猫") == []
    with pytest.raises(DataError, match="256 bytes"):
        tokenizer_from_dict({"level": "byte", "size": 255})


def test_another_vocabulary_is_refused(file):
    with pytest.raises(DataError, match=r"data\.vocabulary_size=100: at level byte it is 256"):
        TextDataModule("text", "byte", path=str(file), vocabulary_size=100).setup()


def test_a_run_scores_bits_per_byte(file, tmp_path, capsys):
    request = [
        "data=text",
        "data.level=byte",
        f"data.path={file}",
        "data.burn_in=50",
        f"paths.root={tmp_path}",
    ]
    small = ["model.hidden_size=4", "trainer.max_steps=2", "callbacks.progress=null"]
    assert main(["train", *request, *small, "task.monitor=val/bpb", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    scores = result["splits"]["valid"]
    assert scores["metrics"]["bpb"] == pytest.approx(scores["metrics"]["loss"] / math.log(2))
    for row in (scores["metrics"], *scores["baselines"].values()):
        assert "bpb" in row
        assert "bpc" not in row
    assert main(["generate", result["run_dir"], "--prompt", "é", "--tokens", "20"]) == 0
    assert main(["train", *request, *small, "task.monitor=val/bpc"]) == 2
    assert "at data.level=byte it is val/bpb" in capsys.readouterr().err
