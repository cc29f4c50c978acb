"""`gatelab predict`: original units, continued stamps, and clear refusals."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from gatelab.cli.main import main
from gatelab.run.load import load_task
from gatelab.run.train import train

REQUEST = [
    "data=table",
    "data.time=when",
    "data.target=[load]",
    "data.lookback=24",
    "data.horizon=12",
    "model.hidden_size=8",
    "trainer.max_epochs=3",
    "callbacks=none",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("predict")
    hours = pd.date_range("2024-01-01", periods=600, freq="h")
    values = 100 + 10 * np.sin(np.arange(600) * 2 * np.pi / 24)
    table = pd.DataFrame({"when": hours, "load": values, "other": values[::-1]})
    table.to_csv(root / "mine.csv", index=False)
    request = [*REQUEST, f"data.path={root}/mine.csv", "name=mine", f"paths.root={root}"]
    assert main(["train", *request]) == 0
    (run,) = (p.parent for p in root.rglob("result.json"))
    return run, root, table


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_forecast_continues_the_table_in_original_units(trained, ending):
    run, root, table = trained
    output = root / f"forecast.{ending}"
    assert main(["predict", str(run), "--input", f"{root}/mine.csv", "--output", str(output)]) == 0
    forecast = pd.read_csv(output, parse_dates=["when"]) if ending == "csv" else pd.read_parquet(output)
    assert list(forecast.columns) == ["when", "load"]
    assert len(forecast) == 12
    assert forecast["when"].iloc[0] == table["when"].iloc[-1] + pd.Timedelta("1h")
    assert forecast["load"].between(60, 140).all()


def test_a_cycle_goes_by_the_times_of_the_table(trained):
    """The last rows alone lead to the forecast of the whole table; an hour later by the clock, to another."""
    root, table = trained[1:]
    request = [*REQUEST, f"data.path={root}/mine.csv", f"paths.root={root}/cycle", "task.net.cycle=24"]
    assert main(["train", *request, "trainer.max_steps=20", "test=false"]) == 0
    (run,) = (p.parent for p in (root / "cycle").rglob("result.json"))
    last = table.tail(29)
    forecasts = []
    for frame in (table, last, last.assign(when=last["when"] + pd.Timedelta("1h"))):
        frame.to_csv(root / "cycle.csv", index=False)
        asked = [
            "predict",
            str(run),
            "--input",
            f"{root}/cycle.csv",
            "--output",
            f"{root}/ahead.csv",
            "--force",
        ]
        assert main(asked) == 0
        forecasts.append(pd.read_csv(root / "ahead.csv")["load"].to_numpy())
    assert np.array_equal(forecasts[0], forecasts[1])
    assert abs(forecasts[0] - forecasts[2]).min() > 1e-4


@pytest.mark.parametrize("decoder", ["direct", "recursive"])
@pytest.mark.quick(1, rest="ci")
def test_a_distribution_is_written_with_a_column_a_quantile(trained, decoder, capsys):
    root = trained[1]
    request = [*REQUEST, f"data.path={root}/mine.csv", f"paths.root={root}/{decoder}", "trainer.max_steps=5"]
    levels = ["task.net.output=quantiles", "task.net.levels=[0.05,0.5,0.9]", f"task.net.decoder={decoder}"]
    assert main(["train", *request, "data.target=[load,other]", *levels, "test=false"]) == 0
    (run,) = (p.parent for p in (root / decoder).rglob("result.json"))
    output = root / f"{decoder}.csv"
    assert main(["predict", str(run), "--input", f"{root}/mine.csv", "--output", str(output)]) == 0
    forecast = pd.read_csv(output)
    named = [f"{target}{end}" for target in ("load", "other") for end in ("", "_q0.05", "_q0.5", "_q0.9")]
    assert list(forecast.columns) == ["when", *named]
    for target in ("load", "other"):
        quantiles = forecast[[f"{target}_q{level}" for level in (0.05, 0.5, 0.9)]].to_numpy()
        assert (np.diff(quantiles) > 0).all()
        assert (abs(quantiles - 100) < 60).all()
        if decoder == "direct":
            assert forecast[target].equals(forecast[f"{target}_q0.5"])
    again = root / f"{decoder}_again.csv"
    assert main(["predict", str(run), "--input", f"{root}/mine.csv", "--output", str(again)]) == 0
    assert again.read_bytes() == output.read_bytes()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.drop(columns="other"), "column 'other', which does not exist"),
        (lambda t: t.head(10), "10 rows"),
        (lambda t: t.assign(load=t["load"].where(t.index != 590)), "missing values: 'load' 1"),
        (lambda t: t.assign(load="x"), "'load'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(trained, change, expected, capsys):
    run, root, table = trained
    change(table).to_csv(root / "bad.csv", index=False)
    assert main(["predict", str(run), "--input", f"{root}/bad.csv", "--output", f"{root}/o.csv"]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert told.count(f"{root}/bad.csv") == 1


def step(table, frequency, rows=100):
    return table.head(rows).assign(when=pd.date_range("2024-01-01", periods=rows, freq=frequency))


@pytest.mark.parametrize("frequency", ["D", "30min", "2h", "W-MON", "MS", "QE-NOV", "B", "YS-APR", "s"])
def test_a_table_of_another_step_is_refused_with_both(trained, frequency, capsys):
    run, root, table = trained
    step(table, frequency, 60).to_csv(root / "other.csv", index=False)
    assert main(["predict", str(run), "--input", f"{root}/other.csv", "--output", f"{root}/o.csv"]) == 2
    assert f"the step of its rows is {frequency}, the run was trained on h" in capsys.readouterr().err
    assert not (root / "o.csv").exists()


def test_hours_with_an_offset_from_the_hour_and_from_utc_are_continued(trained, capsys):
    run, root, table = trained
    late = pd.date_range("2024-03-30 20:17", periods=60, freq="h", tz="Europe/Paris")
    table.head(60).assign(when=late).to_csv(root / "late.csv", index=False)
    assert main(["predict", str(run), "--input", f"{root}/late.csv", "--output", f"{root}/late_out.csv"]) == 0
    written = pd.read_csv(root / "late_out.csv")["when"]
    assert written[0] == (late[-1] + pd.Timedelta("1h")).isoformat(sep=" ")
    assert "forecasts are stamped with +02:00" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recorded", "found"),
    [("W", "W-WED"), ("QS", "QS-FEB"), ("QE", "QE-NOV"), ("YS", "YS-APR"), ("YE", "YE-JUN")],
)
def test_a_run_recorded_without_the_anchor_takes_that_of_the_table(trained, tmp_path, recorded, found):
    run, _root, table = trained
    old = tmp_path / "old"
    shutil.copytree(run, old)
    record = json.loads((old / "run.json").read_text())
    record["spec"]["frequency"] = recorded
    (old / "run.json").write_text(json.dumps(record))
    rows = step(table, found, 60)
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert main(["predict", str(old), "--input", f"{tmp_path}/t.csv", "--output", f"{tmp_path}/o.csv"]) == 0
    expected = pd.date_range(rows["when"].iloc[-1], periods=13, freq=found)[1:]
    assert pd.read_csv(tmp_path / "o.csv", parse_dates=["when"])["when"].tolist() == expected.tolist()


def holed(table):
    return table.drop(index=[580]).assign(load=table["load"].where(table.index != 590))


def test_holes_are_refused_as_in_training_with_a_fix_that_predict_knows(trained, capsys):
    run, root, table = trained
    holed(table).to_csv(root / "holes.csv", index=False)
    assert main(["predict", str(run), "--input", f"{root}/holes.csv", "--output", f"{root}/o.csv"]) == 2
    said = capsys.readouterr().err
    assert "1 time is missing" in said
    assert "missing values: 'load' 1" in said
    assert "data." not in said


@pytest.mark.parametrize("change", ["encoding", "column", "none"])
def test_a_fix_that_predict_cannot_take_says_so(trained, tmp_path, capsys, change):
    run, _, table = trained
    names = {"column": {"other": "another"}, "encoding": {"other": "h\xf6he"}}.get(change, {})
    text = table.rename(columns=names).to_csv(index=False) if change != "none" else ""
    (tmp_path / "n.csv").write_bytes(text.encode("latin-1"))
    given = ["--input", str(tmp_path / "n.csv"), "--output", str(tmp_path / "o.csv")]
    assert main(["predict", str(run), *given]) == 2
    told = capsys.readouterr().err
    assert ("; these settings are the run's, so write the file as its data are" in told) == (change != "none")


def test_holes_are_filled_as_in_training_and_it_is_said(trained, tmp_path, capsys):
    run, root, table = trained
    filling = tmp_path / "filling"
    shutil.copytree(run, filling)
    record = json.loads((filling / "run.json").read_text())
    record["config"]["data"] |= {"gaps": "fill", "missing": "fill"}
    (filling / "run.json").write_text(json.dumps(record))
    holed(table).to_csv(root / "holes.csv", index=False)
    output = tmp_path / "o.csv"
    assert main(["predict", str(filling), "--input", f"{root}/holes.csv", "--output", str(output)]) == 0
    said = capsys.readouterr().err
    assert "1 missing time " in said
    assert "missing values carried forward from the row before: 'load' 1" in said


@pytest.fixture
def spellings(tmp_path):
    """Ways to name a file: itself, a detour, a link to it, a link to its folder, another name of the same file."""

    def ways(file):
        (tmp_path / "folder").symlink_to(file.parent)
        (tmp_path / f"link{file.suffix}").symlink_to(file)
        yield file
        yield file.parent / "." / ".." / file.parent.name / file.name
        yield tmp_path / f"link{file.suffix}"
        yield tmp_path / "folder" / file.name
        os.link(file, other := file.with_name(f"hard{file.suffix}"))
        yield other
        other.unlink()

    return ways


@pytest.mark.parametrize("what", ["input", "trained on", "of the run", "other"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_output_never_replaces_an_input_or_a_file_of_the_run_and_others_by_force_only(
    trained, tmp_path, spellings, what, force, capsys
):
    run, root, table = trained
    given = tmp_path / "given.csv"
    table.to_csv(given, index=False)
    other = tmp_path / "notes" / "mine.csv"
    other.parent.mkdir()
    other.write_text("mine")
    file = {
        "input": given,
        "trained on": root / "mine.csv",
        "of the run": run / "metrics.csv",
        "other": other,
    }[what]
    before = file.read_bytes()
    replaced = what == "other" and bool(force)
    for output in spellings(file):
        code = main(["predict", str(run), "--input", str(given), "--output", str(output), *force])
        said = capsys.readouterr().err
        assert code == (0 if replaced else 2), output
        assert replaced or (file.read_bytes() == before and f"--output {output}: " in said)


def test_a_folder_is_no_output(trained, tmp_path, capsys):
    run, root, _ = trained
    (tmp_path / "o.csv").mkdir()
    assert (
        main(["predict", str(run), "--input", f"{root}/mine.csv", "--output", f"{tmp_path}/o.csv", "--force"])
        == 2
    )
    assert "is not a file" in capsys.readouterr().err


@pytest.mark.parametrize("time", ["date", None])
def test_the_sample_of_a_forecaster_has_the_dates_of_its_rows(tmp_path, time):
    rows = pd.DataFrame(
        {"date": pd.date_range("2024-03-01 05:00", periods=300, freq="h"), "load": range(300)}
    )
    rows["load"] = np.sin(rows["load"])
    (rows if time else rows[["load"]]).to_csv(tmp_path / "t.csv", index=False)
    given = [f"data.time={time}"] if time else []
    result = train([
        "data=table", f"data.path={tmp_path}/t.csv", *given, "task=forecasting", "data.lookback=24", "data.horizon=6",
        "model.hidden_size=4", "trainer.max_steps=1", "callbacks=none", "threads=1", f"paths.root={tmp_path}",
    ])  # fmt: skip
    loaded = load_task(result["run_dir"])
    shown = loaded.task.sample(loaded)
    first, second = shown.windows[:2]
    assert len(first.past) == 12
    if time is None:
        assert first.times is None
        assert shown.steps == "steps of the validation split"
        return
    begin = rows["date"][210]  # 70 % of the rows are for training
    assert first.times[12] == begin.isoformat(timespec="minutes")
    assert first.times[0] == (begin - pd.Timedelta("12h")).isoformat(timespec="minutes")
    assert second.times[0] == (begin + pd.Timedelta("6h")).isoformat(timespec="minutes")
    assert first.future == pytest.approx(rows["load"][210:216].tolist(), abs=1e-5)
