"""A table becomes examples, and what is wrong with one is told with file, column and row."""

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.data import DataError, LabelledTableDataModule

TEXTS = [f"{word} film {i}" for word in ("good", "bad", "dull") for i in range(10)]
MOODS = [mood for mood in ("+", "-", "0") for _ in range(10)]


@pytest.fixture
def table(tmp_path):
    """Write a table and make its DataModule."""

    def make(frame, setup=True, **options):
        path = tmp_path / "my.csv"
        frame.to_csv(path, index=False)
        data = LabelledTableDataModule(str(path), cache=str(tmp_path / "cache"), **options)
        if setup:
            data.setup()
        return data

    return make


def texts(**columns):
    return pd.DataFrame({"review": TEXTS, "mood": MOODS} | columns)


def series(count=12, steps=5):
    """Walks of `count` ids, up or down, their rows mixed up."""
    rows = [
        {
            "run": f"r{i}",
            "second": t,
            "x": (t if i % 2 else -t) + 100,
            "y": i,
            "way": "up" if i % 2 else "down",
        }
        for t in range(steps)
        for i in range(count)
    ]
    return pd.DataFrame(rows)


WALKS = {"label": "way", "id": "run", "time": "second"}


def test_texts_become_tokens_of_the_training_texts(table):
    data = table(texts(), text="review", label="mood", punctuation="apart", lower=True, min_count=2)
    assert data.spec.classes == ("+", "-", "0")
    assert sum(data.spec.examples.values()) == 30
    assert data.spec.vocabulary == data.tokenizer.size
    batch = next(iter(data.val_dataloader()))
    for ids, length, label in zip(batch.inputs, batch.lengths, batch.labels, strict=True):
        assert (
            data.tokenizer.decode(ids[:length]).split()[0]
            == {"+": "good", "-": "bad", "0": "dull"}[data.spec.classes[label]]
        )
    assert "my.csv" in data.fingerprint


def test_a_split_column_decides(table):
    words = ["train"] * 6 + ["dev"] * 2 + ["test"] * 2
    data = table(texts(part=words * 3), text="review", label="mood", split_column="part")
    assert data.spec.examples == {"train": 18, "valid": 6, "test": 6}
    data = table(
        texts(part=["train"] * 9 + ["test"] + (["train"] * 8 + ["test"] * 2) * 2),
        setup=False,
        text="review",
        label="mood",
        split_column="part",
    )
    data.setup()
    assert data.spec.examples["test"] == 5
    assert any("drawn from each class" in note for note in data.notes)


def test_rows_of_an_id_are_one_sequence_in_order_of_time(table):
    frame = series()
    mixed = frame.sample(frac=1, random_state=0)
    plain, shuffled = (table(f, channels=["x"], **WALKS) for f in (frame, mixed))
    values = plain.parts["train"].sequences.values
    mean, std = values.mean(), values.std()
    assert plain.spec.mean == pytest.approx((mean,))
    assert plain.spec.std == pytest.approx((std,))
    batch = next(iter(plain.val_dataloader()))
    steps = torch.diff(batch.inputs[..., 0]) * std
    assert steps.sign().unique(dim=1).shape[1] == 1
    assert (steps[:, 0] > 0).tolist() == [plain.spec.classes[i] == "up" for i in batch.labels]
    assert sum(shuffled.spec.examples.values()) == 12
    assert table(frame, **WALKS).spec.names == ("x", "y")


def test_new_rows_need_no_label_and_are_scaled_as_training(table, tmp_path):
    data = table(series(), channels=["x"], **WALKS)
    new = tmp_path / "new.csv"
    series(3).drop(columns="way").to_csv(new, index=False)
    named, batches = data.new_examples(new, data.spec, None)
    assert named == {"run": ["r0", "r1", "r2"]}
    (batch,) = batches
    back = batch.inputs * data.spec.std[0] + data.spec.mean[0]
    assert np.allclose(back[1, :, 0], [100, 101, 102, 103, 104])


def changed(frame, row, column, value):
    frame = frame.copy()
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


REVIEW = {"text": "review", "label": "mood"}


@pytest.mark.parametrize(
    ("frame", "options", "said"),
    [
        (
            texts(),
            REVIEW | {"text": "reviw"},
            r"data.text names the column 'reviw', which does not exist. Did you",
        ),
        (texts(), REVIEW | {"label": "class"}, "data.label names the column 'class'.*There are review, mood"),
        (changed(texts(), 3, "review", " "), REVIEW, "row 4: the text is empty; remove it"),
        (changed(texts(), 3, "mood", None), REVIEW, "column 'mood' is empty in row 4"),
        (texts(n=range(30)), REVIEW | {"label": "n"}, "30 different labels for 30 examples"),
        (
            texts(part=["train"] * 29 + ["tset"]),
            REVIEW | {"split_column": "part"},
            "row 30: 'tset' is no split",
        ),
        (
            texts(part=["train"] * 15 + ["valid"] * 5 + ["test"] * 10),
            REVIEW | {"split_column": "part"},
            r"'0': no training example has that label \(first in row 21, test\)",
        ),
        (
            changed(series(), 7, "way", "down"),
            WALKS | {"channels": ["x"]},
            "run 'r7': its label .way. changes, from",
        ),
        (
            changed(series(), 7, "x", "much"),
            WALKS | {"channels": ["x"]},
            "column 'x', row 8: 'much' is no number",
        ),
        (changed(series(), 7, "x", None), WALKS | {"channels": ["x"]}, "column 'x' is empty in row 8"),
        (changed(series(), 7, "second", 1), WALKS, "run 'r7': rows 8 and 20 have the same second"),
        (
            series().assign(second="01/02/2024"),
            WALKS,
            "column 'second', row 1: '01/02/2024' can be read day first",
        ),
        (series(), WALKS | {"channels": ["z"]}, "data.channels names the column 'z'"),
        (series(), WALKS | {"id": "no"}, "data.id names the column 'no'"),
    ],
)
def test_what_is_wrong_is_told_with_file_column_and_row(table, frame, options, said):
    with pytest.raises(DataError, match=said) as error:
        table(frame, **options)
    assert "my.csv: " in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "mood"}, "give data.text=COLUMN.*or data.id=COLUMN"),
        ({"label": "mood", "text": "review", "id": "run"}, "not both"),
        ({"label": "mood", "text": "review", "time": "t"}, "data.text needs neither"),
        ({"label": "mood", "text": "mood"}, "data.text and data.label both name the column 'mood'"),
        (
            {**WALKS, "channels": ["x", WALKS["label"]]},
            f"data.channels and data.label both .*'{WALKS['label']}'",
        ),
        ({**WALKS, "channels": [WALKS["id"]]}, "data.channels and data.id both name"),
        ({**WALKS, "channels": []}, "data.channels is empty; give columns, or null"),
        ({**WALKS, "channels": ["x", "x"]}, "data.channels names twice the column 'x'"),
        ({**REVIEW, "split": [0.5, 0.6]}, r"data.split=.0.5, 0.6.: give .train, valid."),
        ({**REVIEW, "min_count": 0}, "data.min_count=0: give at least 1"),
        ({**REVIEW, "batching": "sorted"}, "data.batching=sorted: give similar or random"),
        ({**REVIEW, "level": "char", "punctuation": "apart"}, "give punctuation=kept"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_file_is_read(options, said):
    with pytest.raises(DataError, match=said):
        LabelledTableDataModule("nowhere.csv", **options)


def test_texts_that_train_and_are_scored_as_well_are_told(table):
    data = table(texts(review=TEXTS[:3] * 10), text="review", label="mood")
    assert any("occur in training as well" in note for note in data.notes)
    dropped = table(
        texts(review=TEXTS[:3] * 10), text="review", label="mood", duplicates="drop", split=[0.5, 0.5]
    )
    assert sum(dropped.spec.examples.values()) == 9
    assert any("21 of 30 examples repeat another one" in note for note in dropped.notes)


def test_all_problems_of_a_table_of_texts_stand_in_one_message(tmp_path):
    (tmp_path / "t.csv").write_text("text,mood,part\n,+,train\nb,,tset\n\u200b,+,train\n")
    given = {"text": "text", "label": "mood", "split_column": "part", "cache": str(tmp_path / "c")}
    with pytest.raises(
        DataError, match=r"(?s)3 problems:.*'mood' is empty in row 2.*'tset' is no split.*row 1, row 3: the"
    ):
        LabelledTableDataModule(str(tmp_path / "t.csv"), **given).setup()
    with pytest.raises(DataError, match=r"(?s)3 problems:.*data.label.*'tset'.*data.text"):
        LabelledTableDataModule(str(tmp_path / "t.csv"), **given | {"text": "x", "label": "y"}).setup()


@pytest.mark.parametrize("cell", ['"hi" he said', '"he said \\"hi\\", ok"', '"never closed'])
def test_a_quote_that_parsers_would_guess_is_refused_by_its_line(table, tmp_path, cell):
    frame = texts()
    table(frame, **REVIEW)
    path = tmp_path / "my.csv"
    path.write_text(path.read_text() + f"{cell},+\n")
    with pytest.raises(DataError, match=f"line {len(frame) + 2}: a quote begins a field and is not closed"):
        LabelledTableDataModule(str(path), cache=str(tmp_path / "cache"), **REVIEW).setup()
    path.write_text(path.read_text().replace(cell, '"he said ""hi""" '))
    LabelledTableDataModule(str(path), cache=str(tmp_path / "cache"), **REVIEW).setup()


@pytest.mark.parametrize("level", [0.0, 1e5, -1e6, 1.7e9])
@pytest.mark.parametrize("step", [1e-3, 1.0, 1e3])
def test_small_steps_on_a_large_level_are_what_the_network_reads(table, level, step):
    frame = series().assign(x=lambda f: level + step * f["second"], c=0.1)
    data = table(frame, channels=["x", "c"], **WALKS)
    exact = frame["x"].to_numpy()
    batch = next(iter(data.val_dataloader()))
    wanted = (exact[:: len(exact) // 5][:5] - exact.mean()) / exact.std()
    assert np.allclose(batch.inputs[0, :, 0], wanted, atol=2e-3)
    assert batch.inputs[..., 1].abs().max() < 1e-6
    assert [note for note in data.notes if "constant" in note] == ["constant in training: c"]


@pytest.mark.parametrize("value", [3e38, -1e39, 1e308, float("inf")])
def test_a_value_that_no_network_holds_is_refused_by_its_row(table, value):
    with pytest.raises(DataError, match=r"column 'x', row 4: .* is no number below 3e38"):
        table(changed(series(), 3, "x", value), channels=["x"], **WALKS)


WORDS = ["n.a.", "?", "12%", "$3", "-", "#DIV/0!"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("rows", [1, 20])
def test_a_channel_with_words_among_its_numbers_is_refused_not_dropped(table, word, rows):
    frame = series()
    for row in range(3, 3 + rows):
        frame = changed(frame, row, "x", word)
    said = (
        rf"column 'x', row 4: {re.escape(repr(word))} is no number; write numbers, or choose other channels"
    )
    with pytest.raises(DataError, match=said):
        table(frame, **WALKS)
    assert table(frame, channels=["y"], **WALKS).spec.names == ("y",)


def test_columns_of_words_are_left_out_and_told(table):
    frame = series().assign(place="north", note=[f"see {i}" for i in range(60)], on=["A1", "B2"] * 30)
    data = table(frame, **WALKS)
    assert data.spec.names == ("x", "y")
    assert "left out, without numbers: 'place', 'note', 'on'" in data.notes
    with pytest.raises(DataError, match="no column holds numbers beside those with another meaning"):
        table(frame.drop(columns=["x", "y"]), **WALKS)


@pytest.mark.parametrize(("name", "start"), [("", 0), ("", 7), ("n", 0), ("n", 1)])
def test_a_counter_of_rows_is_no_channel(table, name, start):
    frame = series()
    frame.insert(0, name, range(start, start + len(frame)))
    data = table(frame, **WALKS)
    assert data.spec.names == ("x", "y")
    assert any("counts the rows" in note for note in data.notes)
    asked = name or "Unnamed: 0"
    assert table(frame, channels=[asked], **WALKS).spec.names == (asked,)


@pytest.mark.parametrize("kind", [Decimal, str, lambda value: float(value) + 0.5])
def test_numbers_of_parquet_are_channels_however_they_are_kept(tmp_path, kind):
    frame = series()
    frame["x"] = [kind(str(value)) for value in frame["x"]]
    frame.to_parquet(tmp_path / "t.parquet")
    data = LabelledTableDataModule(str(tmp_path / "t.parquet"), cache=str(tmp_path / "c"), **WALKS)
    data.setup()
    assert data.spec.names == ("x", "y")


@pytest.mark.parametrize("mark", [-999, 9999, 1e20])
def test_a_number_that_may_mark_a_missing_value_is_told(table, mark):
    data = table(changed(series(), 3, "x", float(mark)), **WALKS)
    (note,) = [note for note in data.notes if "far from all other values" in note]
    assert note.startswith(f"column 'x': {mark:.10g} (1 time, first in row 4)")
    assert note.endswith("if it marks missing values, empty these cells")


@pytest.mark.parametrize(
    ("moods", "said"),
    [
        (["pos", "POS", "neg"], "'pos' and 'POS'"),
        (["1", "1.0", "2"], "'1' and '1.0'"),
        (["-1.00", "-1", "A", "a"], "'-1.00' and '-1', 'A' and 'a'"),
        (["1", "1.5", "a"], ""),
        (["v1", "v1.0", "10"], ""),
    ],
)
def test_classes_that_may_be_one_are_told(table, moods, said):
    data = table(texts(mood=np.resize(moods, 30)), **REVIEW)
    told = [note for note in data.notes if "were taken for different ones" in note]
    assert len(told) == bool(said)
    assert all(said in note for note in told)


def test_ids_that_may_be_one_are_told(table):
    frame = series()
    ids = frame[WALKS["id"]].unique()
    frame[WALKS["id"]] = frame[WALKS["id"]].replace({ids[0]: "x1", ids[1]: "X1"})
    data = table(frame, channels=["x"], **WALKS)
    assert [note for note in data.notes if "'x1' and 'X1'" in note and note.startswith("ids in column")]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["test"] * 30, "all examples are in the test split"),
        (["valid"] * 30, "the train split is empty"),
        (["valid", "test"] * 15, "the train split is empty"),
        (["train", "test"] + ["test"] * 28, "training example|valid split is empty"),
    ],
)
def test_splits_that_leave_none_to_train_are_refused(table, parts, said):
    with pytest.raises(DataError, match=rf"my\.csv: .*{said}"):
        table(texts(part=parts), split_column="part", **REVIEW)


def test_a_split_that_changes_within_an_id_is_told_by_its_names(table):
    frame = series().assign(part="train")
    frame.loc[7, "part"] = "test"
    with pytest.raises(
        DataError, match=r"its split .part. changes, from 'test' in row 8 to 'train' in row 20"
    ):
        table(frame, split_column="part", channels=["x"], **WALKS)
