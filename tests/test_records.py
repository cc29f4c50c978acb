"""Every record in experiments/ is whole, says what its results.csv says, and its claims still hold."""

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
RECORDS = sorted(EXPERIMENTS.glob("[0-9]*"))
SECTIONS = ["Question", "Command", "Result", "Conclusion", "Versions"]
PARITY = EXPERIMENTS / "001-from-scratch-equals-nn-gru"
BAR = 1e-12


def rows_of(record):
    with (record / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tables_of(page):
    """The Markdown tables of a page, each a list of {column: cell}."""
    tables = []
    for block in re.findall(r"(?:^\|.*\|\n)+", page, re.M):
        head, _, *body = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        tables.append([dict(zip(head, cells, strict=True)) for cells in body])
    return tables


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_record_has_its_sections_results_and_pictures(record):
    assert re.fullmatch(r"\d{3}-[a-z0-9]+(-[a-z0-9]+)*", record.name)
    page = (record / "README.md").read_text()
    found = re.findall(rf"^(?:#+ |\*\*)({'|'.join(SECTIONS)})\b", page, re.M)
    assert found == SECTIONS
    assert "{{" not in page
    assert rows_of(record)
    for target in re.findall(r"\]\(([^)#]+)\)", page):
        assert target.startswith("http") or (record / target).is_file(), target


def test_the_table_of_records_is_the_one_of_its_rows():
    from scripts import records

    rows = records.harness.read_json(records.ROWS)
    assert records.page(rows) == records.PAGE.read_text()
    assert all((EXPERIMENTS / row["log"]).is_file() for row in rows)


def test_records_are_numbered_without_a_gap():
    assert [int(record.name[:3]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_the_worst_errors_on_the_page_are_those_of_the_results():
    rows = rows_of(PARITY)
    tables = [t for t in tables_of((PARITY / "README.md").read_text()) if "dh0" in t[0]]
    for dtype, table in zip(("float64", "float32"), tables, strict=True):
        largest = {}
        for row in rows:
            if row["dtype"] == dtype:
                errors = largest.setdefault(row["layer"], {})
                errors[row["quantity"]] = max(errors.get(row["quantity"], 0.0), float(row["error"]))
        shown = {line["layer"]: {k: float(v) for k, v in line.items() if k != "layer"} for line in table}
        assert shown == largest
    assert max(float(row["error"]) for row in rows if row["dtype"] == "float64") <= BAR


def test_the_results_have_every_case_and_quantity_once():
    rows = [row for row in rows_of(PARITY) if row["dtype"] == "float64"]
    cases = {tuple(value for key, value in row.items() if key != "error") for row in rows}
    assert (
        len(cases) == len(rows) == 3 * 2 * 2 * 2 * 2 * 8
    )  # depths, directions, layouts, lengths, backends, quantities


def test_the_five_mistakes_name_tests_that_exist():
    page = (PARITY / "five-mistakes.md").read_text()
    tests = (ROOT / "tests" / "core" / "test_tutorial_mistakes.py").read_text()
    named = re.findall(r"`(test_\w+)`", page)
    assert len(set(named)) == 5
    assert [name for name in named if f"def {name}(" not in tests] == []
    assert page.count("```python") == 5


def test_the_claims_of_the_parity_record_hold(monkeypatch, capsys):
    from scripts.checks import parity

    monkeypatch.setattr("sys.argv", ["parity", "--check"])
    code, said = parity.main(), capsys.readouterr().out
    assert code == 0, said
    assert "FAILED" not in said
    assert said.count("ok    ") == 2
