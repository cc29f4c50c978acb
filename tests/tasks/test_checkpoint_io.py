import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gatelab.tasks import AtomicCheckpointIO, CheckpointError, Checkpoints, load_checkpoint

SMALL = {"weights": torch.arange(3.0), "step": 5}


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(SMALL, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            message = r"last\.ckpt: No space left on device .* free there\)\. The one before it is untouched"
            with pytest.raises(CheckpointError, match=message):
                AtomicCheckpointIO().save_checkpoint({"step": 6}, path)
        assert load_checkpoint(path)["step"] == 5
        assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("links", [True, False])
def test_the_last_checkpoint_but_one_is_kept(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for step in range(4):
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / "last.ckpt")
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / "best.ckpt")
    found = {path.name: load_checkpoint(path)["step"] for path in tmp_path.iterdir()}
    assert found == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 3}


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(SMALL, path)
    whole = path.read_bytes()
    at = whole.index(SMALL["weights"].numpy().tobytes())  # type: ignore[attr-defined]
    path.write_bytes(whole[: at + 4] + bytes([whole[at + 4] ^ 1]) + whole[at + 5 :])
    assert torch.load(path, weights_only=True)["weights"][1] != 1.0  # PyTorch does not notice
    with pytest.raises(CheckpointError, match=r"last\.ckpt .*data/0 is not what was written"):
        load_checkpoint(path)


def test_the_temporary_file_lies_beside_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moves.append((Path(a), Path(b))), replace(a, b)))
    AtomicCheckpointIO().save_checkpoint(SMALL, tmp_path / "new" / "last.ckpt")
    assert [(a.parent, b) for a, b in moves] == [(tmp_path / "new", tmp_path / "new" / "last.ckpt")]


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    day = {"callbacks": {"clock": [datetime.date(2020, 1, 1)]}}
    with pytest.raises(TypeError, match=r"the checkpoint\['callbacks'\]\['clock'\]\[0\] is a datetime.date"):
        AtomicCheckpointIO().save_checkpoint(day, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(SMALL, path)
    content = {"empty": b"", "truncated": path.read_bytes()[:-200], "text": b"hello"}[damage]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"last.ckpt \\({len(content)} bytes\\)"):
        AtomicCheckpointIO().load_checkpoint(path)
    AtomicCheckpointIO().remove_checkpoint(path)
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", ["text", "series"])
def test_every_checkpoint_of_a_run_is_plain_data(
    kind: str,
    text_data: Callable[..., Any],
    series_data: Callable[..., Any],
    make_task: Callable[..., Any],
    make_trainer: Callable[..., Any],
    tmp_path: Path,
) -> None:
    data = text_data() if kind == "text" else series_data()
    hparams = {"model": {"hidden_size": 12, "names": ["a", None]}, "lr": 0.01}
    task = make_task(data, hparams=hparams)
    make_trainer(callbacks=[Checkpoints(str(tmp_path / "ckpt"), every_n_steps=5)]).fit(task, datamodule=data)
    assert sorted(p.name for p in (tmp_path / "ckpt").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]
    for path in (tmp_path / "ckpt").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["hyper_parameters"] == hparams
        assert checkpoint["gatelab"]["spec"] == data.spec.to_dict()
        assert checkpoint["gatelab"]["task"] == type(task).__name__
        assert checkpoint["state_dict"].keys() == task.state_dict().keys()
        assert all(name.startswith("net.") for name in checkpoint["state_dict"])
