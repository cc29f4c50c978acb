"""The picture of a study: what is on its axes, what it shows, and that it can be told apart in grey."""

import itertools
from dataclasses import replace

import matplotlib.colors
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gatelab.report.curves import baselines, curves, slices
from gatelab.report.picture import DPI, HEIGHT, STYLES, WIDTH, draw, write_picture
from gatelab.run import RequestError
from gatelab.study.analysis.read import read_study


def drawn(state, **options):
    axes = Figure().subplots()
    draw(axes, state, **options)
    return axes


def texts(axes):
    return " | ".join([text.get_text() for text in axes.texts] + [axes.get_title(loc="left")])


def test_the_metric_stands_over_hidden_size_with_one_line_a_model(grid):
    found = curves(read_study(grid))
    assert (found.x, found.by) == ("model.hidden_size", "model")
    assert {name: [p.x for p in line] for name, line in found.lines.items()} == {
        "gru": [32, 64, 128],
        "rnn": [32, 64, 128],
    }
    assert all(p.summary.half > 0 and len(p.values) == 3 for line in found.lines.values() for p in line)


def test_the_axis_has_the_sizes_on_a_scale_of_powers_of_two(grid):
    axes = drawn(read_study(grid))
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["32", "64", "128"]
    assert axes.get_xlabel() == "hidden size"
    assert "lower is better" in axes.get_ylabel()


def test_a_line_passes_through_the_best_of_several_trials(make_study, entries):
    choice, _ = entries
    trials = [
        {"params": {"model.hidden_size": h, "optim.lr": lr}, "values": [100 / h + lr]}
        for h in (32, 64)
        for lr in (0.1, 0.2, 0.3)
    ]
    space = [choice("model.hidden_size", 32, 64), choice("optim.lr", 0.1, 0.2, 0.3)]
    state = read_study(make_study("s", space, trials))
    found = curves(state, by="")
    assert [p.trial.params["optim.lr"] for p in found.lines[""]] == [0.1, 0.1]
    assert len(found.others) == 4
    assert "the best over lr" in texts(drawn(state, by=""))


@pytest.mark.parametrize(
    ("x", "expected"), [("parameters", "parameters"), ("hidden_size", "model.hidden_size")]
)
def test_any_parameter_can_be_the_axis(grid, x, expected):
    assert curves(read_study(grid), x=x).x == expected


def test_a_null_that_was_swept_is_a_place_on_the_axis(make_study, entries):
    choice, _ = entries
    trials = [
        {"params": {"task.teacher": value}, "values": [loss]}
        for value, loss in ((None, 2.0), ("runs/a", 1.9))
    ]
    found = curves(read_study(make_study("taught", [choice("task.teacher", None, "runs/a")], trials)))
    assert found.ticks == {0.0: "null", 1.0: "runs/a"}
    assert [[point.summary.mean for point in line] for line in found.lines.values()] == [[2.0, 1.9]]


def test_words_can_be_the_axis(grid):
    axes = drawn(read_study(grid), x="model", by="model.hidden_size")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["gru", "rnn"]


def test_solved_sizes_stand_below_the_choices(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"model": m}, "values": [1.0], "hidden": [h]} for m, h in (("gru", 35), ("rnn", 51))]
    state = read_study(make_study("s", [choice("model", "gru", "rnn")], trials, budget="parameters:8000"))
    ticks = [tick.get_text() for tick in drawn(state).get_xticklabels()]
    assert ticks == ["gru\nhidden size 35", "rnn\nhidden size 51"]


def test_sizes_of_equal_parameters_say_whose_they_are(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"model.hidden_size": h}, "values": [1.0 / h], "hidden": [2 * h]} for h in (8, 16)]
    space = [choice("model.hidden_size", 8, 16)]
    state = read_study(make_study("s", space, trials, budget="parameters:match(gru)"))
    assert drawn(state).get_xlabel() == "hidden size of gru (the others: equal parameters)"


def test_an_unknown_axis_is_named_with_the_nearest(grid):
    with pytest.raises(RequestError, match="Did you mean 'hidden_size'"):
        curves(read_study(grid), x="hiden_size")


def test_points_from_a_range_are_not_joined_and_get_a_panel_each(make_study, entries):
    _, interval = entries
    trials = [{"params": {"lr": 10**-n, "h": 8 * n}, "values": [float(n)]} for n in range(1, 11)]
    state = read_study(make_study("s", [interval("lr", 1e-10, 1.0, True), interval("h", 1, 100)], trials))
    assert set(slices(state)) == {"lr", "h"}
    axes = drawn(state, x="lr")
    assert axes.get_xscale() == "log"
    assert all(line.get_linestyle() == "None" for line in axes.lines)


def test_near_baselines_are_in_the_frame_and_the_legend_names_all(grid):
    state = read_study(grid)
    assert baselines(state) == pytest.approx({"unigram": 3.0, "bigram": 1.9})
    axes = drawn(state)
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {
        "gru",
        "rnn",
        "unigram 3",
        "bigram 1.9",
    }
    low, high = axes.get_ylim()
    assert low < 1.4
    assert 1.9 < high < 3.0


def test_baselines_are_averaged_over_folds(make_study, entries):
    choice, _ = entries
    trial = {"params": {"a": 1}, "values": [1.0, 2.0], "baselines": {"naive": 4.0}}
    folder = make_study("s", [choice("a", 1)], [trial], folds=2)
    run = read_study(folder).trials[0].runs[0].directory / "result.json"
    run.write_text(run.read_text().replace("4.0", "6.0"))
    assert baselines(read_study(folder)) == {"naive": 5.0}


def test_runs_that_are_gone_leave_a_picture_without_baselines(grid, tmp_path):
    for file in (tmp_path / "runs").rglob("result.json"):
        file.write_text("{")
    assert baselines(read_study(grid)) == {}


def test_the_interval_of_two_seeds_does_not_dwarf_the_values(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"h": h}, "values": [1.0 + e, 1.1 + e]} for h, e in ((1, 0.0), (2, 0.2))]
    axes = drawn(read_study(make_study("s", [choice("h", 1, 2)], trials, seeds=[0, 1])))
    low, high = axes.get_ylim()
    assert low > 0.8
    assert high < 1.5


def test_diverged_trials_do_not_flatten_the_rest(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"h": h}, "values": [v]} for h, v in ((1, 1.0), (2, 1.2), (3, 5e4))]
    assert drawn(read_study(make_study("s", [choice("h", 1, 2, 3)], trials))).get_yscale() == "log"


def test_every_finite_point_is_in_the_frame_and_the_others_are_counted(make_study, entries):
    choice, _ = entries
    values = [9.0 if h == 7 else float("inf") if h == 8 else 3.0 - h / 10 for h in range(12)]
    trials = [{"params": {"h": h}, "values": [value]} for h, value in enumerate(values)]
    axes = drawn(read_study(make_study("s", [choice("h", *range(12))], trials)))
    low, high = axes.get_ylim()
    assert low < 1.9
    assert 9.0 < high < 10.0
    assert "diverged, not shown: 1" in texts(axes)


def test_near_values_are_written_whole(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"h": h}, "values": [2.0796 + h / 1e5]} for h in (1, 2, 3)]
    axes = drawn(read_study(make_study("s", [choice("h", 1, 2, 3)], trials)))
    FigureCanvasAgg(axes.figure).draw()
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_the_best_is_named(grid):
    assert "the best: 1.400 ± 0.025 with model gru, hidden_size 128" in texts(drawn(read_study(grid)))


def test_a_point_without_parameters_is_named_by_its_value(make_study):
    trial = {"params": {}, "values": [1.0, 2.0], "parameters": 9}
    shown = texts(drawn(read_study(make_study("s", [], [trial], seeds=[0, 1]))))
    assert "the best: 1.5 ± 6.4" in shown
    assert "with" not in shown


def test_others_that_are_as_good_are_counted_beside_the_best(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"h": h}, "values": [v]} for h, v in ((1, 2.0), (2, 1.0), (3, 1.0), (4, 1.0))]
    assert "with h 2; 2 others equal" in texts(
        drawn(read_study(make_study("s", [choice("h", 1, 2, 3, 4)], trials)))
    )


@pytest.mark.parametrize("values", [(1.0, 1.1, 1.2), (0.5, 20.0, 0.6), (-1.0, 2.0, -3.0), (1e-3, 1.0, 500.0)])
def test_every_interval_is_in_the_frame(make_study, entries, values):
    choice, _ = entries
    noise = [[1.0, 1.01, 0.99], [1.0, 1.4, 0.6], [1.0, 1.05, 1.0]]
    trials = [{"params": {"h": h}, "values": [value * n for n in noise[h]]} for h, value in enumerate(values)]
    state = read_study(make_study("s", [choice("h", 0, 1, 2)], trials, seeds=[0, 1, 2]))
    axes, found = drawn(state), curves(state)
    low, high = axes.get_ylim()
    for point in found.points:
        assert point.summary.high <= high
        assert low <= point.summary.low or (axes.get_yscale() == "log" and point.summary.low <= 0)


def test_lines_can_be_told_apart_in_grey():
    markers = [marker for _, marker in STYLES]
    assert len(set(markers)) == len(STYLES)
    colours = [matplotlib.colors.to_rgb(colour) for colour, _ in STYLES]
    greys = [0.3 * red + 0.59 * green + 0.11 * blue for red, green, blue in colours]
    assert all(abs(one - other) > 0.2 for one, other in itertools.pairwise(greys))


def test_a_png_is_written_without_a_display(grid, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    path = write_picture([read_study(grid)], tmp_path / "p.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
    assert sorted(p.name for p in tmp_path.glob("*p.png*")) == ["p.png"]


def test_the_same_study_is_the_same_picture(grid, tmp_path):
    one, two = (write_picture([read_study(grid)], tmp_path / name) for name in ("1.png", "2.png"))
    assert one.read_bytes() == two.read_bytes()


def test_each_of_two_studies_has_its_titles_and_its_unit(grid, make_study, entries, tmp_path, monkeypatch):
    choice, _ = entries
    other = make_study("other", [choice("h", 1, 2)], [{"params": {"h": h}, "values": [1.0]} for h in (1, 2)])
    seen = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: seen.append(figure))
    monkeypatch.setattr("os.replace", lambda *_: None)
    write_picture([read_study(grid), read_study(other)], tmp_path / "p.png")
    assert all(axes.get_ylabel() and axes.get_title("left") for axes in seen[0].axes)


def test_an_empty_study_has_no_picture(make_study, tmp_path):
    assert write_picture([read_study(make_study("s", [], []))], tmp_path / "p.png") is None
    assert not (tmp_path / "p.png").exists()


def test_several_objectives_show_the_front(make_study, entries, tmp_path):
    choice, _ = entries
    points = [(3.0, 100.0), (2.0, 200.0), (1.0, 900.0), (2.5, 950.0)]
    trials = [{"params": {"h": n}, "values": [a], "objectives": [a, b]} for n, (a, b) in enumerate(points)]
    asked = ["val/loss:minimize", "parameters:minimize"]
    state = read_study(make_study("s", [choice("h", 0, 1, 2, 3)], trials, objectives=asked))
    axes = drawn(state)
    assert "the Pareto front, 3 of 4 trials" in texts(axes)
    assert axes.get_xlabel().startswith("parameters")


@pytest.mark.parametrize(("studies", "across", "down"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (6, 2, 3)])
def test_several_studies_stand_two_in_a_row(studies, across, down, grid, tmp_path):
    states = [replace(read_study(grid), name=f"s{n}") for n in range(studies)]
    file = write_picture(states, tmp_path / "p.png")
    with Image.open(file) as image:
        assert image.size == (round(WIDTH * DPI * across), round(HEIGHT * DPI * down))
