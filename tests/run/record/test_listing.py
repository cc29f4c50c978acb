"""Runs are found by every unique beginning, and listed, filtered and sorted by every key that they have."""

import json
import random
import shutil
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.run.record.find import find_run
from gatelab.run.record.listing import differences, list_runs, order, resolved_key, select, value_of

SIZES = (8, 64, 128)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """18 runs of two names; one has a score that is not a number, one is damaged, one was set aside."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    for number in range(18):
        name, size, seed = ("ptb_gru", "ptb_rnn")[number % 2], SIZES[number % 3], number // 6
        folder = tmp_path / "runs" / name / f"{draw.getrandbits(32):08x}-s{seed}"
        folder.mkdir(parents=True)
        model = {"_target_": f"gatelab.core.{name[4:].upper()}", "hidden_size": size, "_partial_": True}
        config = {
            "model": model,
            "optim": {"lr": 1e-3 * (1 + number)},
            "data": {"seed": seed, "num_workers": number},
        }
        config |= {
            "seed": seed,
            "task": {"monitor": "val/loss"},
            "tags": ["odd"] * (number % 2),
            "note": f"run {number}",
        }
        attempts = [{"started": f"2026-01-{number + 1:02d}T00:00:00+00:00"}]
        (folder / "run.json").write_text(json.dumps({"config": config, "attempts": attempts}))
        value = float("nan") if number == 3 else number / 10
        result = {"outcome": "done", "monitor": "val/loss", "parameters": size, "seconds": {"fit": 1.0}}
        result["splits"] = {"valid": {"metrics": {"loss": value}}, "test": {"metrics": {"ppl": 2 * value}}}
        if number != 5:
            (folder / "result.json").write_text(json.dumps(result))
        if number == 17:
            (folder / "run.json").write_text("{")
    shutil.copytree(folder, folder.with_name(f"{folder.name}.old-1"))
    return list_runs("runs")


def test_every_beginning_finds_its_run_or_names_all_that_begin_so(runs):
    whole = [row["run_dir"] for row in runs if ".old-" not in row["run_dir"]]
    for path in whole:
        for text in (path, path.removeprefix("runs/"), path.rpartition("/")[2]):
            for length in range(1, len(text) + 1):
                begun = text[:length]
                if Path(begun).is_dir() and begun.rstrip("/") != path:
                    with pytest.raises(RequestError, match="name one"):
                        find_run(begun)
                    continue
                ways = {
                    p
                    for p in whole
                    for t in (p, p.removeprefix("runs/"), p.rpartition("/")[2])
                    if t.startswith(begun)
                }
                if len(ways) == 1:
                    assert str(find_run(begun)) == path
                else:
                    with pytest.raises(RequestError, match=rf"{len(ways)} runs begin so") as refused:
                        find_run(begun)
                    assert sum(p in str(refused.value) for p in ways) == min(8, len(ways))
    for text in ("", " ", "zzz", "runs/zzz", "/nowhere"):
        with pytest.raises(RequestError, match="no run below"):
            find_run(text)


def test_a_folder_of_something_else_hides_no_run_of_its_name_and_a_study_is_told(runs):
    first = Path(runs[0]["run_dir"])
    first.rename(kept := (Path("runs") / "sounds").mkdir() or Path("runs/sounds") / first.name)
    Path("sounds").mkdir()
    assert find_run("sounds/") == kept
    Path("nothing").mkdir()
    assert find_run("nothing") == Path("nothing")  # for the caller's message
    Path("studies/size").mkdir(parents=True)
    Path("studies/size/study.json").touch()
    with pytest.raises(RequestError, match="It is a study: `gatelab study size` lists its runs"):
        find_run("size")


@pytest.mark.parametrize("sign", ["=", "==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize(
    "key", ["model.hidden_size", "hidden_size", "optim.lr", "seed", "parameters", "test.ppl"]
)
def test_a_condition_keeps_what_python_keeps(key, sign, runs):
    whole = resolved_key(key, runs)
    for wanted in {value for row in runs if isinstance(value := value_of(row, whole), int | float)}:
        kept = select(runs, where=f"{key}{sign}{wanted}")
        code = f"value {'==' if sign == '=' else sign} wanted"
        for row in runs:
            value = value_of(row, whole)
            expected = sign == "!=" if value is None else eval(code, {"value": value, "wanted": wanted})
            assert (row in kept) == bool(expected), (row, key, sign, wanted)


def test_text_tags_states_names_and_dates_are_conditions_too(runs):
    assert {r["name"] for r in select(runs, where="model=gru")} == {"ptb_gru"}
    assert len(select(runs, where=["model = GRU", "hidden_size >= 64"])) == 6
    assert all("odd" in row["tags"] for row in select(runs, tags="odd"))
    assert select(runs, where="tags=odd") == select(runs, tags=["odd"])
    assert [row["state"] for row in select(runs, state="unreadable")] == ["unreadable"]
    assert len(select(runs, name="ptb_*")) == len(runs)
    assert {row["name"] for row in select(runs, name="ptb_r")} == {"ptb_rnn"}
    assert len(select(runs, where="started>=2026-01-10")) == 8
    assert len(select(runs, where="note='run 3'")) == 1
    for wrong, said in (
        ("hiden_size>3", "Did you mean 'hidden_size'"),
        ("x y", "write KEY=VALUE"),
        (">3", "write KEY"),
    ):
        with pytest.raises(RequestError, match=said):
            select(runs, where=wrong)
    with pytest.raises(RequestError, match="There are: done, unfinished, unreadable"):
        select(runs, state="finished")


def test_the_order_is_by_any_key_and_what_lacks_it_comes_last(runs):
    for key in ("value", "-value", "started", "lr", "-hidden_size", "name", "test.ppl", "note"):
        rows = order(runs, key)
        values = [value_of(row, resolved_key(key.removeprefix("-"), runs)) for row in rows]
        present = [value for value in values if value is not None and value == value]
        assert present == sorted(present, reverse=key.startswith("-"))
        assert values[: len(present)] == present
        assert len(rows) == len(runs)
    assert [row["note"] for row in order(runs, last=2)] == ["run 15", "run 16"]


def test_what_differs_is_named_once_without_seeds_and_what_cannot_matter(runs):
    assert differences(runs) == ["model", "model.hidden_size", "optim.lr"]
    assert differences(runs[:1]) == []


def test_the_json_is_strict_and_the_table_says_how_many(runs, capsys):
    def strict(text):
        return json.loads(text, parse_constant=lambda name: pytest.fail(name))

    assert main(["runs", "--json"]) == 0
    assert len(strict(capsys.readouterr().out)) == len(runs)
    assert main(["runs", "--where", "model=rnn", "--sort", "value", "--reverse", "--last", "5"]) == 0
    out = capsys.readouterr().out
    assert "5 of 18 runs" in out
    assert "lr" in out
    assert main(["runs", "ptb_gru", "--columns", "hidden_size,seed"]) == 0
    assert "9 of 9 runs" in capsys.readouterr().out
    assert main(["runs", "--where", "hidden_size>1000"]) == 0
    assert "none of 18 runs" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["runs/ptb_rnn", "runs/ptb_rnn/", "runs", "."])
def test_a_folder_with_one_run_is_that_run_and_what_was_set_aside_counts_for_none(given, runs, tmp_path):
    first, *others = [Path(row["run_dir"]) for row in runs]
    for number, other in enumerate(others):
        other.rename(first.with_name(f"{first.name}.old-{number + 1}"))
    first.rename(kept := Path("runs/ptb_rnn") / first.name)
    assert find_run(given).absolute() == kept.absolute()
    assert [row["hash"] for row in list_runs(given)] == [kept.name.partition("-")[0]]


@pytest.mark.parametrize(
    "text",
    [
        *(f"hidden_size>8{sign}seed=0" for sign in (" and ", " AND ", " or ", " & ", " && ", "|", ", ")),
        *(
            f"{key}{sign}big"
            for key in ("hidden_size", "seed", "valid.loss")
            for sign in ("<", "<=", ">", ">=")
        ),
        *("name<3", "started>=5", "tags>3", "tags>odd"),
    ],
)
def test_a_condition_that_no_run_can_meet_is_refused_and_not_an_empty_list(text, runs):
    with pytest.raises(RequestError, match=r"one condition each|can be compared"):
        select(runs, where=text)
