"""A message is short and printable, whatever it quotes."""

import pytest

from gatelab.data.messages import few, printable, say


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
