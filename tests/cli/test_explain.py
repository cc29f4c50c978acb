"""`gatelab explain`: one page that loads nothing, the same figures as JSON, and refusals before anything is written."""

import json
import re

import pytest

import gatelab
from gatelab.cli.main import main

TEXT = 'A line of some words.\nAnother (longer) one, "said" here, to be read.\n\n' * 60
REQUEST = [
    "data=text",
    "model.hidden_size=8",
    "trainer.max_steps=30",
    "callbacks=none",
    "threads=1",
    "name=mine",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("explain")
    (root / "my.txt").write_text(TEXT)
    assert main(["train", *REQUEST, "data.level=char", f"data.path={root}/my.txt", f"paths.root={root}"]) == 0
    (directory,) = (file.parent for file in root.rglob("result.json"))
    return directory


@pytest.fixture(scope="module")
def page(run):
    """The page, and the figures that it was made of."""
    output = run.parents[2] / "page.html"
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    found = gatelab.explain(run, units=["layer0:3"], ablations=4, output=output)
    assert before == {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    return output.read_text(), found


@pytest.mark.ci
def test_the_page_loads_nothing_and_shows_every_unit(page):
    text, found = page
    body = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"(?!data:)", body)
    for unit in found["units"]:
        assert f">{unit['unit']}<" in body
    for title in ("Units and what they follow", "How much context it uses", "The cell as a dynamical system"):
        assert title in body
    assert f"{found['attribution']['completeness_error']:.2g}" in body
    figures = re.findall(r'<script type="application/json">(.*?)</script>', body, re.S)
    assert all(json.loads(figure)["data"] for figure in figures)


def test_text_of_the_data_is_text_on_the_page(run, tmp_path):
    (tmp_path / "other.txt").write_text("<b>bold</b> & so on\n" * 4)
    output = tmp_path / "page.html"
    assert main(["explain", str(run), "--input", f"{tmp_path}/other.txt", "--output", str(output)]) == 0
    assert "<b>" not in output.read_text().split("<main>")[1].split("</main>")[0]


def test_json_holds_what_the_page_shows(run, page, capsys):
    assert main(["explain", str(run), "--json", "--unit", "layer0:3", "--ablations", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [unit["unit"] for unit in found["units"]] == [unit["unit"] for unit in page[1]["units"]]
    assert found["units"][0]["why"] == "asked for"
    assert found["loss"] == pytest.approx(page[1]["loss"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--unit", "layer3:1"], "unit layer3:1: give a layer and a number, e.g. layer0:0"),
        (["--unit", "layer0:8"], "layer0 has the units 0 ... 7, not 8"),
        (
            ["--probe", "indentation"],
            "'indentation': what was read has no such structure; it has position in line",
        ),
        (["--probe", "hour"], "there is none of that name here"),
        (["--input", "no.txt"], "--input no.txt: no such file"),
        (["--ablations", "0"], "give at least 1"),
        (["--output", "page.pdf"], "a page's name ends in .html"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(run, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", str(run), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_no_page_is_not_replaced(run, tmp_path, capsys):
    (tmp_path / "mine.html").write_text("my own")
    assert main(["explain", str(run), "--output", f"{tmp_path}/mine.html"]) == 2
    assert (tmp_path / "mine.html").read_text() == "my own"
