"""A message is short and printable, whatever it quotes."""

import io

import numpy as np
import pytest

from gatelab.data.messages import (
    bars,
    did_you_mean,
    few,
    no_column,
    printable,
    say,
    shown,
    tell_twins,
    told_dropped,
)


@pytest.mark.parametrize(
    "code", [*range(9), *range(11, 32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
def test_no_control_character_reaches_the_terminal(code, capsys):
    say(f"folder {chr(code)}[31m name")
    told = capsys.readouterr().err
    assert chr(code) not in told
    assert repr(chr(code))[1:-1] in told


def test_line_breaks_tabs_and_letters_stay():
    assert printable("a\n\tb é 漢 😀") == "a\n\tb é 漢 😀"


def test_a_long_text_is_cut_in_its_middle():
    told = printable("begin" + "x" * 3_000_000 + "end")
    assert len(told) < 4100
    assert told.startswith("begin")
    assert told.endswith("end")
    assert "2,996,008 characters" in told


def test_few_names():
    assert few(["a"]) == "a"
    assert few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize("hidden", ["date\u200b", "\ufeffdate", "da\u00adte", "date\u00a0"])
def test_a_name_that_only_looks_the_same_is_shown_by_its_codes(hidden):
    assert did_you_mean("date", ["load", hidden]) == f" Did you mean {hidden!a}, which looks the same?"
    assert did_you_mean("date", ["load", "dates"]) == " Did you mean 'dates'?"


def test_a_column_that_is_not_there_is_told_with_those_that_are():
    assert " There are a, b; if that is a row, write" in no_column("data.time", "when", ["a", "b"], "")
    assert no_column("data.time", "dat", ["date", "b"], "").endswith(" Did you mean 'date'?")
    told = no_column("data.time", "date", ["date^load"], "; give data.separator")
    assert told.endswith(" The only column is 'date^load'; give data.separator.")
    assert len(no_column("data.time", "when", ["x" * 9999] * 99, "")) < 1000


@pytest.mark.parametrize("value", [1.5, np.float64(1.5), np.float32(1.5)])
def test_a_value_is_shown_as_people_write_it(value):
    assert shown(value) == "1.5"
    assert (shown(np.int8(2)), shown(np.bool_(True)), shown("a")) == ("2", "True", "'a'")


def test_rows_that_were_dropped_are_told_in_grammar():
    assert told_dropped(1, "row 4") == "1 row that repeats another one exactly was dropped (row 4)"
    assert told_dropped(2000, "row 4") == "2,000 rows that repeat another one exactly were dropped (row 4)"


def test_twins_are_told_once_and_others_not():
    notes = []
    tell_twins("ids", ["a", "b", "1", "1.5", "x1.0", "x1"], notes)
    assert notes == []
    tell_twins("ids", ["a", "A", "1", "1.0", "1.00"], notes)
    assert notes == [
        "ids were taken for different ones: 'a' and 'A', '1' and '1.0' and '1.00'; write them alike if they are one"
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_alone(terminal, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    with bars() as progress:
        tick = progress("sentences", 8)
        tick(3)
        tick(5)
    assert ("sentences" in stream.getvalue()) == terminal
    assert ("100%" in stream.getvalue()) == terminal
