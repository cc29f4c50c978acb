"""New input is read as training reads its own, and what was found out about it is told, or it is refused by name."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data import LabelledTableDataModule, PanelDataModule, SoundDataModule
from gatelab.data.messages import DataError

DAYS = pd.date_range("2024-01-01", periods=60).astype(str)


def panel(**columns):
    frame = pd.DataFrame(
        {"id": ["A"] * 60 + ["B"] * 60, "day": [*DAYS] * 2, "y": [n * n % 11 for n in range(120)]}
    )
    return frame.assign(**columns)


def covariate(*values):
    return [values[n % len(values)] for n in range(120)]


COVARIATES = {
    "numbers": covariate(0.5, 1.5, 2.5),
    "truths": covariate(True, False, False),
    "words": covariate("no", "yes", "no"),
}


@pytest.mark.parametrize("trained", COVARIATES)
@pytest.mark.parametrize("given", COVARIATES)
@pytest.mark.parametrize("role", ["known_future", "static"])
def test_words_are_no_numbers_of_a_panel(tmp_path, trained, given, role):
    def values(kind):
        return COVARIATES[kind] if role == "known_future" else np.repeat(COVARIATES[kind][:2], 60)

    options = {
        "id": "id",
        "time": "day",
        "target": ["y"],
        "lookback": 6,
        "horizon": 2,
        "cache": str(tmp_path),
    }
    panel(x=values(trained)).to_csv(tmp_path / "t.csv", index=False)
    data = PanelDataModule("panel", str(tmp_path / "t.csv"), **options, **{role: ["x"]})
    data.setup()
    new = panel(x=values(given))
    if role == "known_future":
        new.loc[new["day"] >= DAYS[50], "y"] = np.nan
    new.to_csv(tmp_path / "n.csv", index=False)
    if given == "words" and trained != "words":
        with pytest.raises(
            DataError, match=r"column 'x' holds words \('no', 'yes'\) and held numbers in training"
        ):
            data.panel_input(str(tmp_path / "n.csv"), data.spec, None)
        return
    notes = data.panel_input(str(tmp_path / "n.csv"), data.spec, None).notes
    # what was words in training is words here
    told = given == "truths" and trained != "words"
    assert any("'x' says true or false" in note for note in notes) == told


def labelled(tmp_path, **columns):
    rows = [f"good day {n};{n % 7};{'ab'[n // 4 % 2]};r{n // 4}" for n in range(160)]
    (tmp_path / "t.csv").write_text("\n".join(["text;x;kind;run", *rows]) + "\n")
    data = LabelledTableDataModule(str(tmp_path / "t.csv"), "kind", cache=str(tmp_path), **columns)
    data.setup()
    fresh = LabelledTableDataModule(str(tmp_path / "t.csv"), "kind", cache=str(tmp_path), **columns)
    return data, fresh


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("text;x\ngood day;1\ngood;2\n", ["the fields are separated by semicolon"]),
        (
            "text,x\ngood moon,1\nblue day,2\n",
            ["not in the run's vocabulary, so read as unknown: moon, blue"],
        ),
        (
            "text,x\ngood,1\nNA,2\n",
            ["column 'text': 'NA' (1 time) is read as a word", "not in the run's vocabulary"],
        ),
    ],
)
def test_what_is_found_out_about_new_texts_is_told(tmp_path, text, told):
    data, fresh = labelled(tmp_path, text="text")
    (tmp_path / "n.csv").write_text(text)
    fresh.new_examples(tmp_path / "n.csv", data.spec, data.tokenizer)
    assert len(fresh.notes) == len(told)
    assert all(note.startswith(start) for note, start in zip(fresh.notes, told, strict=True))


@pytest.mark.parametrize("kind", ["truths", "mark", "total", "times"])
def test_what_is_found_out_about_new_rows_is_told(tmp_path, kind):
    data, fresh = labelled(tmp_path, id="run", channels=["x"])
    cells = {"truths": ["True", "False"], "mark": ["1", "-999"], "total": ["1", "2"]}.get(kind, [])
    cells = [cells[n % 2] for n in range(8)] if cells else [str(20240101 + n) for n in range(8)]
    rows = [f"q{n // 4},{cell}" for n, cell in enumerate(cells)] + ["Total,12"] * (kind == "total")
    (tmp_path / "n.csv").write_text("\n".join(["run,x", *rows]) + "\n")
    if kind == "total":
        with pytest.raises(DataError, match="row 9: 'Total' has this row alone"):
            fresh.new_examples(tmp_path / "n.csv", data.spec, None)
        return
    fresh.new_examples(tmp_path / "n.csv", data.spec, None)
    said = {"truths": "true or false", "mark": "-999 (4 times", "times": "rises like times"}[kind]
    assert [note for note in fresh.notes if said in note] == fresh.notes


@pytest.mark.parametrize("name", ["n.txt", "n", "n.mp4", "list.json"])
def test_a_file_that_is_no_sound_by_its_name_is_refused(tmp_path, name):
    (tmp_path / name).write_text("a.wav\n")
    with pytest.raises(DataError, match=rf"{name}: is no sound \(\.wav, .*no folder and no manifest"):
        SoundDataModule("files", str(tmp_path)).new_sounds(tmp_path / name, None)
