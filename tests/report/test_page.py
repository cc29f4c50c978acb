"""The page needs no network and is readable in both schemes; page, Markdown and CSV say what the leaderboard says."""

import csv
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import plotly.graph_objects as go
import pytest
from markupsafe import escape

from gatelab.report import page as module
from gatelab.report.figures import COLOURS, RANKS
from gatelab.report.gather import gather
from gatelab.report.page import place, to_markdown, to_table, write_page
from gatelab.study.analysis.leaderboard import columns, leaderboard, to_csv

STYLE = (module.TEMPLATES / "page.css").read_text()


class Reader(HTMLParser):
    """Attributes by tag, and the cells of each table."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("th", "td")

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data


def written(paths, target, **more):
    subjects, notes = gather(paths)
    return write_page(subjects, target / "report.html", notes=notes, **more).read_text()


def figures_of(page):
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)
    return [json.loads(text) for text in found]


@pytest.fixture
def page(grid, tmp_path):
    return written([grid], tmp_path)


def test_the_page_loads_nothing(page):
    tags = Reader(page).tags
    assert not [attrs for _, attrs in tags if {"src", "srcset", "data", "action", "poster"} & set(attrs)]
    assert {attrs["href"][:5] for tag, attrs in tags if tag == "link"} == {"data:"}
    assert not [attrs for tag, attrs in tags if tag == "a" and ":" in attrs["href"]]
    assert "@import" not in STYLE
    assert "url(" not in STYLE
    assert "showSendToCloud: false" in page  # the library's own button sends the figures away


def test_the_tables_say_what_the_leaderboard_says(page, grid):
    state = gather([grid])[0][0].state
    wanted = columns(state, leaderboard(state))
    head, *rows = Reader(page).tables[0]
    shown = dict(zip(head, zip(*rows, strict=True), strict=True))
    assert {title or "rank": tuple(cells) for title, cells in wanted.items()}.items() <= shown.items()


def test_the_first_columns_say_what_a_row_is(page):
    assert Reader(page).tables[0][0][:4] == ["rank", "loss ↓", "model", "hidden_size"]


def test_a_line_that_lies_under_another_one_is_wider(make_study, entries, tmp_path):
    choice, _ = entries
    space = [choice("model", "gru", "nn_gru", "rnn", group=True), choice("model.hidden_size", 8, 16)]
    means = {"gru": 2.0, "nn_gru": 2.0, "rnn": 3.0}
    trials = [
        {"params": {"model": model, "model.hidden_size": size}, "values": [mean + size / 100]}
        for model, mean in means.items()
        for size in (8, 16)
    ]
    traces = figures_of(written([make_study("s", space, trials)], tmp_path))[0]["data"]
    widths = {trace["name"]: trace["line"]["width"] for trace in traces if "line" in trace}
    assert widths["gru"] > widths["nn_gru"] == widths["rnn"]


def test_the_picture_shows_means_and_intervals_of_the_leaderboard(page, grid):
    rows = leaderboard(gather([grid])[0][0].state)
    known = {row.trial.number: row.summary for row in rows}
    lines = [trace for trace in figures_of(page)[0]["data"] if "error_y" in trace]
    drawn = {
        point[1]: (mean, half)
        for line in lines
        for point, mean, half in zip(line["customdata"], line["y"], line["error_y"]["array"], strict=True)
    }
    assert drawn == {number: (summary.mean, summary.half) for number, summary in known.items()}
    assert [line["name"] for line in lines] == ["gru", "rnn"]


def test_trivial_models_are_lines_with_their_values_and_near_ones_are_in_the_frame(page):
    layout = figures_of(page)[0]["layout"]
    assert [shape["name"] for shape in layout["shapes"]] == ["unigram 3", "bigram 1.9"]
    assert [shape["y0"] for shape in layout["shapes"]] == pytest.approx([3.0, 1.9])
    low, high = layout["yaxis"]["range"]
    assert low < 1.4
    assert 1.9 < high < 3.0


def test_links_lead_to_the_run_directories_from_where_the_page_is(make_run, tmp_path):
    folders = [make_run("a", "aaaaaaaa", seed) for seed in (0, 1)]
    target = tmp_path / "deep" / "down"
    links = [a["href"] for tag, a in Reader(written([tmp_path], target)).tags if tag == "a"]
    assert [(target / link).resolve() for link in links] == folders


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a#b", "50%", "why?", "two words", "<b>"])
def test_a_link_stays_a_link_whatever_the_run_is_called(make_run, tmp_path, name):
    folder = make_run(name, "aaaaaaaa", 0)
    (link,) = [a["href"] for tag, a in Reader(written([tmp_path], tmp_path)).tags if tag == "a"]
    assert link.startswith("./")
    assert not set(link) & set(":#? <>")
    assert tmp_path / unquote(link.removeprefix("./")) == folder


def test_learning_curves_are_those_of_metrics_csv_and_seeds_share_a_name(make_run, tmp_path):
    for seed in (0, 1):
        make_run("a", "aaaaaaaa", seed)
    text = written([tmp_path], tmp_path)
    figure = next(f for f in figures_of(text) if any(t.get("yaxis") == "y2" for t in f["data"]))
    valid = [t for t in figure["data"] if t["yaxis"] == "y"]
    assert [(t["x"], t["y"]) for t in valid] == 2 * [([2, 4, 6], [1.0, 0.5, 2.0 / 6])]
    assert [t["x"] for t in figure["data"] if t["yaxis"] == "y2"] == 2 * [[1, 2, 3, 4, 5, 6]]
    assert [t["showlegend"] for t in figure["data"]] == [True, False, False, False]


def test_a_steep_beginning_does_not_squeeze_what_comes_after(make_run, tmp_path):
    run = make_run("a", "aaaaaaaa", 0)
    rows = [f"{step},0,,{100.0 if step == 1 else 2.0 - step / 50}" for step in range(1, 51)]
    (run / "metrics.csv").write_text("\n".join(["step,epoch,train/loss,val/mse", *rows, ""]))
    text = written([tmp_path], tmp_path)
    (figure,) = [f for f in figures_of(text) if "optimiser step" in json.dumps(f["layout"])]
    bottom, top = figure["layout"]["yaxis"]["range"]
    assert 0.9 < bottom < 1.0
    assert 1.9 < top < 2.2
    assert max(figure["data"][0]["y"]) == 100.0
    assert "the beginning, or a run that diverged, lies above the frame" in text


def test_a_run_that_diverged_does_not_squeeze_the_other_curves(make_run, tmp_path):
    for number in range(8):
        run = make_run("a", f"aaaaaaa{number}", 0, hidden=number, value=float(number))
        rows = [f"{step},0,,{(500.0 if number == 5 else 1.0) + step / 9}" for step in range(1, 10)]
        (run / "metrics.csv").write_text("\n".join(["step,epoch,train/loss,val/mse", *rows, ""]))
    (figure,) = [
        f for f in figures_of(written([tmp_path], tmp_path)) if "optimiser step" in json.dumps(f["layout"])
    ]
    assert figure["layout"]["yaxis"]["range"][1] < 3.0


def test_steps_and_the_most_memory_of_a_points_runs_are_columns(make_run, tmp_path):
    make_run("a", "aaaaaaaa", 0)
    head, row = Reader(written([tmp_path], tmp_path)).tables[0]
    told = dict(zip(head, row, strict=True))
    assert (told["steps"], told["cpu peak MiB"], told["parameters"], told["seconds"]) == (
        "40",
        "6",
        "100",
        "2.0",
    )


def test_only_keys_that_differ_are_told(make_run, tmp_path):
    make_run("a", "aaaaaaaa", 0)
    make_run("a", "bbbbbbbb", 1, hidden=16)
    table = Reader(written([tmp_path], tmp_path)).tables[-1]
    assert table == [["trial", "model.hidden_size"], ["0", "8"], ["1", "16"]]


def test_failures_are_listed_and_hostile_texts_are_texts(make_run, tmp_path):
    make_run("a", "aaaaaaaa", 0)
    hostile = "</script><script>alert(1)</script>"
    make_run("a", "bbbbbbbb", 0, model=hostile)
    make_run("a", "cccccccc", 0, hidden=16, state="failed", error=hostile)
    text = written([tmp_path], tmp_path)
    assert "alert(1)</script>" not in text
    assert str(escape(f"cccccccc-s0: {hostile}")) in text
    assert figures_of(text)


@pytest.mark.parametrize(
    "name",
    ["<b>x</b>", '<a href="https://x">x</a>', "<s>", "a&lt;b", "<br/>", "R&D", "<!--<script>", "%{x}<i>"],
)
def test_a_name_in_a_figure_is_a_text(name):
    figure = go.Figure()
    figure.add_scatter(
        x=[name, "x"], y=[1, 2], name=name, text=[f"a<br>{name}", ""], hovertemplate="%{y}<br>%{text}"
    )
    figure.update_layout(xaxis={"title": {"text": name}, "ticktext": [name], "tickvals": [0]})
    data = str(place(figure, "label")["data"])
    assert "<" not in data.replace("<br>", "")
    told = json.loads(data)
    trace, axis = told["data"][0], told["layout"]["xaxis"]
    shown = [
        trace["x"][0],
        trace["name"],
        trace["text"][0].removeprefix("a<br>"),
        axis["title"]["text"],
        axis["ticktext"][0],
    ]
    assert [unescape(text) for text in shown] == [name] * 5
    assert trace["y"] == [1, 2]


def test_an_error_names_no_folder_of_the_machine(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    error = f"{tmp_path}/runs/a/last.ckpt is damaged; /home/somebody/my.txt is gone"
    make_run("a", "cccccccc", 0, hidden=16, state="failed", error=error)
    text = written([tmp_path], tmp_path)
    assert "cccccccc-s0: runs/a/last.ckpt is damaged; ~/my.txt is gone" in text


def test_what_cannot_be_shown_is_said(make_run, grid, tmp_path):
    assert "no learning curves" in written([grid], tmp_path)  # its runs have no run.json
    make_run("a", "aaaaaaaa", 0)
    make_run("a", "bbbbbbbb", 0, hidden=16, state="unfinished")
    text = written([tmp_path / "runs" / "a"], tmp_path)
    assert "No sample: the best trial&#39;s runs have no checkpoint here." in text
    assert "No sample" not in written([tmp_path / "runs" / "a"], tmp_path, samples=False)
    only = written([tmp_path / "runs" / "a" / "bbbbbbbb-s0"], tmp_path)
    assert "unfinished" in only


def test_several_objectives_show_their_front(make_study, tmp_path):
    trials = [{"params": {"lr": lr}, "values": [lr], "objectives": [lr, 1 / lr]} for lr in (0.1, 0.2, 0.4)]
    entry = {
        "key": "lr",
        "kind": "choice",
        "choices": [0.1, 0.2, 0.4],
        "low": None,
        "high": None,
        "log": False,
    }
    folder = make_study(
        "two",
        [{**entry, "step": None, "group": False}],
        trials,
        objectives=("val/loss:minimize", "seconds:minimize"),
    )
    assert "3 of 3 trials are on the Pareto front" in written([folder], tmp_path)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_can_be_told_from_the_background(scheme):
    values = {name: colours for name in ("paper", "panel", "ink", "faint", "link", "warn")
              if (colours := re.findall(rf"--{name}: (#\w{{6}})", STYLE))}  # fmt: skip
    paper, panel = values["paper"][scheme], values["panel"][scheme]
    lines = [*COLOURS, *(colour for _, colour in RANKS)]
    assert min(contrast(colour, paper) for colour in lines) >= 3.0
    for name in ("ink", "faint", "link", "warn"):
        assert min(contrast(values[name][scheme], paper), contrast(values[name][scheme], panel)) >= 4.5


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_is_that_of_each_study_below_the_other(grid, make_run):
    make_run("a", "aaaaaaaa", 0, 1.25)
    subjects, _ = gather([grid, make_run.root / "runs" / "a"])
    table = rows(to_table(subjects))
    assert [row["study"] for row in table] == 6 * ["grid"] + ["a"]
    for subject in subjects:
        own = rows(to_csv(subject.state, leaderboard(subject.state)))
        found = [row for row in table if row["study"] == subject.state.name]
        assert [{key: row[key] for key in own[0]} for row in found] == own


def test_the_markdown_has_every_row_of_the_leaderboard(grid):
    subjects, _ = gather([grid])
    text = to_markdown(subjects, "Title")
    assert text.startswith("# Title\n")
    cells = columns(subjects[0].state, leaderboard(subjects[0].state)).values()
    assert [
        line
        for line in text.splitlines()
        if line in {f"| {' | '.join(row)} |" for row in zip(*cells, strict=True)}
    ]
    assert text.count("\n| ") >= 6


def test_what_could_not_be_read_and_what_has_no_value_is_said(make_run):
    make_run("a", "aaaaaaaa", 0, state="failed", error="no")
    subjects, _ = gather([make_run.root])
    text = to_markdown(subjects, "Title", ["x: broken"])
    assert "1 failed" in text
    assert "Not read: x: broken" in text
