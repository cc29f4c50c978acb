"""Token ids in files that are mapped: found again, made again when damaged, and never in memory whole."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from gatelab.data import disk_cache
from gatelab.data.disk_cache import ArrayWriter, mapped
from gatelab.data.messages import DataError
from gatelab.data.text.baselines import text_baselines
from gatelab.data.text.module import TextDataModule
from gatelab.data.text.streams import StreamWindows, eval_streams, train_streams

IDS = np.arange(1000, dtype=np.int64)


class Make:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, writer: ArrayWriter) -> dict:
        self.calls += 1
        assert writer.add("train", np.dtype(np.uint16), [IDS[:300], IDS[:0], IDS[300:]]) == 1000
        assert writer.add("valid", np.dtype(np.uint16), iter([IDS[5:8]])) == 3
        assert writer.add("none", np.dtype(np.uint16), []) == 0
        return {"text": "λ", "number": 1}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "tokens").iterdir() if path.suffix != ".lock")


def check(entry) -> None:
    assert entry.facts == {"text": "λ", "number": 1}
    assert {name: ids.tolist() for name, ids in entry.arrays.items()} == {
        "train": IDS.tolist(),
        "valid": [5, 6, 7],
        "none": [],
    }
    assert {ids.dtype for ids in entry.arrays.values()} == {np.dtype("<u2")}
    assert isinstance(entry.arrays["train"], np.memmap)


def test_what_was_written_is_found(tmp_path):
    make = Make()
    for _ in range(2):
        check(mapped(tmp_path, lambda: {"k": 1}, make))
    assert make.calls == 1
    check(mapped(tmp_path, lambda: {"k": 2}, make))
    assert make.calls == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "more", "empty"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    make = Make()
    mapped(tmp_path, dict, make)
    (file,) = files(tmp_path)
    raw = file.read_bytes()
    changed = {
        "cut": raw[:-7],
        "flip": raw[:99] + bytes([raw[99] ^ 1]) + raw[100:],
        "more": raw + b"x",
        "empty": b"",
    }
    file.write_bytes(changed[damage])
    check(mapped(tmp_path, dict, make))
    assert make.calls == 2
    assert file.read_bytes() == raw


def test_without_a_cache_the_file_has_no_name(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    check(mapped(tmp_path / "file", dict, Make()))
    monkeypatch.setenv("GATELAB_DERIVED", "off")
    check(mapped(tmp_path / "other", dict, Make()))
    assert not (tmp_path / "other").exists()


def test_a_source_that_changes_meanwhile_is_not_kept(tmp_path):
    keys = iter([{"k": 1}, {"k": 2}])
    check(mapped(tmp_path, lambda: next(keys), Make()))
    assert files(tmp_path) == []


def test_an_error_leaves_nothing_behind(tmp_path):
    def refuse(writer: ArrayWriter) -> dict:
        writer.add("train", np.dtype(np.uint8), [IDS[:9]])
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        mapped(tmp_path, dict, refuse)
    assert files(tmp_path) == []


def test_old_files_make_room_and_the_newest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "MAPPED_LIMIT", 1)
    for k in range(3):
        mapped(tmp_path, lambda k=k: {"k": k}, Make())
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(("size", "dtype"), [(200, np.uint8), (300, np.uint16), (70_000, np.uint32)])
def test_tokens_take_the_smallest_type(tmp_path, size, dtype):
    (tmp_path / "t.txt").write_text("".join(f"w{n}\n" for n in range(size)))
    data = TextDataModule("text", "word", path=str(tmp_path / "t.txt"), split=[0.99, 0.01])
    data.setup()
    assert {ids.numpy().dtype for ids in data.tokens.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("cut", ["train", "eval"])
def test_windows_of_a_mapped_file_are_those_of_the_array(tmp_path, monkeypatch, cut):
    monkeypatch.setattr("gatelab.data.text.streams._RESIDENT", 0)  # leave memory after every window
    ids = mapped(tmp_path, dict, Make()).arrays["train"]

    def windows(tokens) -> StreamWindows:
        if cut == "train":
            return StreamWindows(train_streams(tokens, 4, 0, (333,)), 7)
        return StreamWindows(eval_streams(tokens, 4, 20, 0), 7)

    found, expected = windows(ids), windows(IDS)
    again = pickle.loads(pickle.dumps(found))
    assert len(found) == len(expected)
    for k in range(len(expected)):
        for other in (found[k], again[k]):
            assert all((a == b).all() for a, b in zip(other, expected[k], strict=True))


def test_a_pickled_file_is_opened_again_and_not_copied(tmp_path):
    ids = mapped(tmp_path, dict, Make()).arrays["train"]
    assert len(pickle.dumps(train_streams(ids, 4, 0))) < 1500 < ids.nbytes


def test_baselines_do_not_depend_on_blocks_or_tables(monkeypatch):
    random = np.random.default_rng(0)
    train, scored = random.integers(0, 40, 3000), random.integers(0, 40, 500)
    options = {"vocabulary": 40, "seed_token": 3, "boundaries": (100, 256, 1500)}
    expected = text_baselines(train, scored, **options)
    for block, table in ((128, 1 << 20), (128, 0), (1 << 22, 0)):
        monkeypatch.setattr("gatelab.data.text.baselines._BLOCK", block)
        monkeypatch.setattr("gatelab.data.text.baselines._TABLE", table)
        for name, metrics in text_baselines(train, scored, **options).items():
            assert metrics == pytest.approx(expected[name], rel=1e-14)


def test_a_corpus_shorter_than_a_window_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("a few words\n" * 20)
    data = TextDataModule("text", "char", path=str(tmp_path / "t.txt"), window=300, batch_size=1)
    data.setup()
    with pytest.raises(
        DataError, match=r"data\.window=300: the train text is 204 tokens, shorter than one window"
    ):
        data.train_dataloader()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured as Linux counts it")
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    from scripts.checks.memory import peak_of_training

    small, large = tmp_path / "small", tmp_path / "large"
    peaks = []
    for folder, size in ((small, 1 << 20), (large, 1 << 30)):
        folder.mkdir()
        peaks.append(peak_of_training(folder, size, steps=50))
    assert peaks[1] - peaks[0] < 400 << 20
