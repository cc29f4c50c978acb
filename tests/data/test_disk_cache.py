"""What is kept on disk: found as it was made, never out of date, never trusted, never in the way."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data import disk_cache
from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.messages import DataError
from gatelab.data.series import sources
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.sources import load_named
from gatelab.data.text import encoded
from gatelab.data.text.module import TextDataModule

ARRAYS = {
    "bytes": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "rows": np.linspace(0, 1, 6).reshape(2, 3),
    "columns": np.asfortranarray(np.linspace(0, 1, 6).reshape(2, 3)),
    "times": np.array(["2024-01-01T00", "2024-01-01T01"], dtype="datetime64[ns]"),
    "none": np.zeros((0, 3)),
}
FACTS = {
    "text": "λ\n\x00",
    "number": 0.1 + 0.2,
    "nothing": None,
    "list": [1, [2, {"a": True}]],
    "nan": float("nan"),
}


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "derived").iterdir()) if (folder / "derived").is_dir() else []


class Maker:
    """Counts how often it is asked."""

    def __init__(self, value: int = 1, during=None) -> None:
        self.value, self.during, self.calls = value, during, 0

    def __call__(self) -> CacheEntry:
        self.calls += 1
        if self.during is not None:
            self.during()
        return CacheEntry({"a": np.full(1000, self.value)}, {"value": self.value})


def test_what_was_kept_is_found_as_it_was_made(tmp_path):
    made = cached(tmp_path, lambda: {"k": 1}, lambda: CacheEntry(ARRAYS, FACTS))
    maker = Maker()
    found = cached(tmp_path, lambda: {"k": 1}, maker)
    assert maker.calls == 0
    for kept in (made, found):
        assert list(kept.arrays) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert kept.arrays[name].dtype == array.dtype
            assert kept.arrays[name].flags.f_contiguous == array.flags.f_contiguous
            assert np.array_equal(kept.arrays[name], array)
        assert repr(kept.facts) == repr(FACTS)


def test_another_key_and_other_code_make_it_anew(tmp_path, monkeypatch):
    maker = Maker()
    for key in ({"k": 1}, {"k": 2}, {"k": 1, "other": None}, {"k": 1}):
        cached(tmp_path, lambda key=key: key, maker)
    assert maker.calls == 3
    monkeypatch.setitem(disk_cache._MAKERS, "code", "edited")
    cached(tmp_path, lambda: {"k": 1}, maker)
    assert maker.calls == 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    cached(folder, lambda: {"k": 1}, Maker())
    (entry,) = entries(folder)
    return entry.name, entry.read_bytes()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_entry_is_made_again_and_replaced(whole, tmp_path_factory, data):
    name, raw = whole
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "derived").mkdir()
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = data.draw(st.sampled_from(["cut", "flip", "more"]))
    damaged = {
        "cut": raw[:place],
        "flip": raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :],
        "more": raw + raw[:place] + b"x",
    }[changed]
    (folder / "derived" / name).write_bytes(damaged)
    maker = Maker()
    assert cached(folder, lambda: {"k": 1}, maker).facts == {"value": 1}
    assert maker.calls == 1
    assert (folder / "derived" / name).read_bytes() == raw


def test_a_source_that_changes_meanwhile_is_not_kept(tmp_path):
    file = tmp_path / "source"
    file.write_text("before")
    maker = Maker(during=lambda: file.write_text("after"))
    cached(tmp_path, lambda: {"source": file.read_text()}, maker)
    assert entries(tmp_path) == []


def test_an_error_is_raised_each_time_and_nothing_kept(tmp_path):
    def refuse() -> CacheEntry:
        raise DataError("no")

    for _ in range(2):
        with pytest.raises(DataError, match="no"):
            cached(tmp_path, dict, refuse)
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_used_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert cached(tmp_path / "file", dict, Maker(3)).facts == {"value": 3}


def test_it_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("GATELAB_DERIVED", "off")
    maker = Maker()
    for _ in range(2):
        cached(tmp_path, dict, maker)
    assert maker.calls == 2
    assert entries(tmp_path) == []


def test_entries_not_used_for_longest_make_room(tmp_path, monkeypatch):
    cached(tmp_path, lambda: {"k": 0}, Maker())
    (first,) = entries(tmp_path)
    monkeypatch.setattr(disk_cache, "LIMIT", 3 * first.stat().st_size)
    for k in (1, 2):
        cached(tmp_path, lambda k=k: {"k": k}, Maker())
    for age, file in enumerate(entries(tmp_path)):
        os.utime(file, (1000 + age, 1000 + age))
    cached(tmp_path, lambda: {"k": 0}, Maker())  # used just now
    oldest = min((file for file in entries(tmp_path) if file != first), key=lambda file: file.stat().st_mtime)
    cached(tmp_path, lambda: {"k": 3}, Maker())
    assert len(entries(tmp_path)) == 3
    assert first in entries(tmp_path)
    assert oldest not in entries(tmp_path)


def test_many_that_ask_at_once_all_get_whole_results(tmp_path):
    start = threading.Barrier(8)

    def ask(_: int) -> list[int]:
        start.wait(60)
        kept = [cached(tmp_path, lambda k=k: {"k": k}, Maker(k)) for k in range(60)]
        return [int(one.arrays["a"].sum()) // 1000 for one in kept]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [list(range(60))] * 8
    assert len(entries(tmp_path)) == 60
    assert all(disk_cache._decode(file.read_bytes()) is not None for file in entries(tmp_path))


def everything_of_a_text(**options) -> list:
    data = TextDataModule(**options)
    data.setup()
    found = [data.tokenizer.to_dict(), data.boundaries, data.splits, data.spec, data.notes, data.fingerprint]
    tokens = {split: ids.tolist() for split, ids in data.tokens.items()}
    narrow = torch.uint8 if data.tokenizer.size <= 256 else torch.uint16
    assert all(ids.dtype == narrow for ids in data.tokens.values())
    return [*found, tokens, {split: data.baselines(split) for split in data.splits}]


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
@pytest.mark.parametrize("fold", [None, 1])
def test_a_text_that_was_found_is_the_one_that_was_read(tmp_path, monkeypatch, level, fold):
    file = tmp_path / "my.txt"
    file.write_text("".join(f"the {i % 37} quick foxes λ\n" for i in range(400)))
    options = {
        "corpus": "text",
        "level": level,
        "path": str(file),
        "cache": str(tmp_path / "cache"),
        "vocabulary_size": 300 if level == "bpe" else None,
        "folds": None if fold is None else 3,
        "fold": fold,
    }
    monkeypatch.setenv("GATELAB_DERIVED", "off")
    without = everything_of_a_text(**options)
    monkeypatch.delenv("GATELAB_DERIVED")
    made = everything_of_a_text(**options)
    with monkeypatch.context() as patch:
        patch.setattr(encoded, "load_corpus", None)
        patch.setattr("gatelab.data.text.module.text_baselines", None)
        found = everything_of_a_text(**options)
    assert without == made == found
    file.write_text(file.read_text() + "one line more\n")
    assert everything_of_a_text(**options) != found


def everything_of_a_series(**options) -> list:
    data = SeriesDataModule(lookback=12, horizon=6, **options)
    data.setup()
    times = None if data.data.times is None else (data.data.times.dtype.str, data.data.times.tolist())
    arrays = [data.data.values, data.scaled, *data.origins.values()]
    bits = [(array.dtype.str, array.shape, array.strides, array.tobytes("A")) for array in arrays]
    return [bits, times, data.spec, data.notes, data.fingerprint, {s: data.baselines(s) for s in data.splits}]


@pytest.mark.parametrize(
    ("name", "fold"), [("embedded_series", None), ("embedded_series", 1), ("exchange", None), ("table", 1)]
)
@pytest.mark.quick(1, rest="ci")
def test_a_series_that_was_found_is_the_one_that_was_read(tmp_path, monkeypatch, mirror, name, fold):
    options = {"cache": str(tmp_path / "cache"), "folds": None if fold is None else 3, "fold": fold}
    if name == "table":
        frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=300, freq="h")})
        frame["load"], frame["wind"] = np.random.default_rng(0).normal(size=(2, 300))
        frame.to_csv(tmp_path / "t.csv", index=False)
        options |= {"series": "table", "path": str(tmp_path / "t.csv"), "time": "when"}
    else:
        options |= {"series": name, "mirror": str(mirror)}
    monkeypatch.setenv("GATELAB_DERIVED", "off")
    without = everything_of_a_series(**options)
    monkeypatch.delenv("GATELAB_DERIVED")
    made = everything_of_a_series(**options)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "load_named", None)
        patch.setattr("gatelab.data.series.table.read_table", None)
        patch.setattr("gatelab.data.series.module.fit_linear", None)
        found = everything_of_a_series(**options)
    assert without == made == found
    if name == "table":
        assert everything_of_a_series(**{**options, "time": None, "channels": ["load", "wind"]}) != found
        frame.assign(load=frame["load"] + 1).to_csv(tmp_path / "t.csv", index=False)
        assert everything_of_a_series(**options) != found


@pytest.mark.parametrize("name", ["etth1", "exchange"])
def test_a_published_series_keeps_its_layout_and_so_the_last_bits_of_its_scaler(tmp_path, mirror, name):
    direct = load_named(name, seed=0, mirror=str(mirror), cache=None)
    for _ in range(2):
        data = SeriesDataModule(name, mirror=str(mirror), cache=str(tmp_path))
        data.setup()
        assert data.data.values.strides == direct.values.strides
        train = direct.values[: len(data.origins["train"]) + 96 + 95]
        assert data.spec.mean == tuple(train.mean(axis=0).tolist())


def test_baselines_of_a_split_nobody_asked_for_are_not_worked_out(tmp_path, monkeypatch):
    asked = []
    original = disk_cache.cached

    def spy(folder, key, make):
        asked.append(key())
        return original(folder, key, make)

    monkeypatch.setattr("gatelab.data.series.module.cached", spy)
    data = SeriesDataModule("embedded_series", cache=str(tmp_path))
    data.setup()
    data.baselines("valid")
    assert [key["split"] for key in asked] == ["valid"]


def test_a_mirror_with_other_bytes_is_refused_although_the_text_was_kept(tmp_path, mirror):
    options = {"level": "char", "cache": str(tmp_path / "cache")}
    TextDataModule("tinyshakespeare", mirror=str(mirror), **options).setup()
    copy = tmp_path / "mirror" / "tinyshakespeare"
    copy.mkdir(parents=True)
    (copy / "input.txt").write_text("not Shakespeare\n")
    with pytest.raises(DataError, match="other bytes than the published ones"):
        TextDataModule("tinyshakespeare", mirror=str(tmp_path / "mirror"), **options).setup()
