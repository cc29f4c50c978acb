"""`gatelab check` and a sweep's first look tell of data at hand what a run tells of them."""

import pytest

from gatelab.cli.main import main
from gatelab.run.build import build_data
from gatelab.run.config import check, compose
from gatelab.study.sweep import plan

DAYS = [f"{1900 + n}-01-01" for n in range(168)]
TABLE = ["n;date;load", *(f"{n};{day};{n * n % 11},5" for n, day in enumerate(DAYS))]
PANEL = [
    "shop,date,open",
    *(f"{shop},{day},{n % 3 > 0}" for shop in "BA" for n, day in enumerate(DAYS)),
]
TEXTS = ["text;label", *(f"grüße {n};{'ab'[n % 2]}" for n in range(60)), "Total;a"]
PAIRS = ["# a comment", "de\ten", *(f"Satz {n}\tsentence {n}" for n in range(60)), "\t"]
LOOK = ["data.lookback=6", "data.horizon=2"]
GIVEN = {
    "table": (TABLE, "data=table", "data.time=date", "data.target=[load]", *LOOK),
    "panel": (PANEL, "data=panel", "data.id=shop", "data.time=date", "data.target=[open]", *LOOK),
    "labelled": (TEXTS, "data=labelled", "data.text=text", "data.label=label", "data.encoding=cp1252"),
    "pairs": (PAIRS, "data=pairs", "data.source=de", "data.target=en"),
    "text": (PAIRS * 20, "data=text", "data.level=char", "data.window=8", "data.batch_size=2"),
}
NOTES = {
    "table": "decimal commas",
    "panel": "true or false",
    "labelled": "CP1252",
    "pairs": "left out",
    "text": "cut",
}


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("command", ["check", "check --json", "sweep"])
def test_the_same_is_told_before_a_run_as_by_it(tmp_path, capsys, kind, command):
    lines, *given = GIVEN[kind]
    path = tmp_path / ("t.tsv" if kind == "pairs" else "t.csv")
    path.write_text("\n".join(lines) + "\n", encoding="cp1252" if kind == "labelled" else "utf-8")
    given += [f"data.path={path}", f"paths.root={tmp_path}", "trainer.max_epochs=1"]
    notes = build_data(check(compose(given))).notes
    assert any(NOTES[kind] in note for note in notes)
    if command == "sweep":
        told = plan([*given, "study=mine", "model.hidden_size=4,8", "study.slots=1"]).notes
        assert [note for note in told if note in notes] == notes
        return
    assert main([*command.split(), *given]) == 0
    assert capsys.readouterr().err.splitlines() == notes
