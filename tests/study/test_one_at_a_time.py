"""One change at a time: which points there are, what each change does beside the base, and where it is shown."""

import csv
import json
import math
import warnings
from dataclasses import replace

import pytest
import scipy.stats
from matplotlib.figure import Figure

from gatelab.cli.main import main
from gatelab.report.curves import choose_x
from gatelab.report.experiment_record import check_record, unpack, write_record
from gatelab.report.figures import parallel_coordinates
from gatelab.report.gather import gather
from gatelab.report.page import to_markdown, write_page
from gatelab.report.picture import draw, write_picture
from gatelab.report.text import one_line, summary
from gatelab.run import RequestError
from gatelab.study.analysis.leaderboard import answer, leaderboard, verdict
from gatelab.study.analysis.leaderboard import columns as table_columns
from gatelab.study.analysis.one_at_a_time import (
    LONGEST,
    base_in_words,
    by_change,
    columns,
    effects,
    sentence,
)
from gatelab.study.analysis.read import read_study
from gatelab.study.sweep import plan, submit

from ..studies_by_hand import choice

SPACE = [choice("model", "gru", "rnn", group=True), choice("task.net.dropout", 0.1, 0.0, 0.5)]
BASE, NO_GRU, NO_DROPOUT, MORE = [2.0, 2.1, 2.2], [2.5, 2.7, 2.6], [2.05, 2.0, 2.3], [1.9, 1.95, 2.1]
CHANGES = {"model gru → rnn": NO_GRU, "dropout 0.1 → 0": NO_DROPOUT, "dropout 0.1 → 0.5": MORE}
TINY = ["data=adding", "data.steps=4", "trainer.max_steps=1", "callbacks=none"]


def trial(model, dropout, values, **others):
    return {"params": {"model": model, "task.net.dropout": dropout}, "values": values, **others}


@pytest.fixture
def make_ablation(make_study):
    def made(base=BASE, seeds=3, **settings):
        rows = [("gru", 0.1, base), ("rnn", 0.1, NO_GRU), ("gru", 0.0, NO_DROPOUT), ("gru", 0.5, MORE)]
        trials = [trial(model, dropout, values[:seeds]) for model, dropout, values in rows]
        settings = {"strategy": "one_at_a_time", "seeds": list(range(seeds)), **settings}
        return make_study("ablation", SPACE, trials, **settings)

    return made


@pytest.fixture
def folder(make_ablation):
    return make_ablation()


@pytest.fixture
def planned(tmp_path, monkeypatch):
    monkeypatch.setenv("GATELAB_ROOT", str(tmp_path))
    return lambda *lines: plan(["study=mine", "study.strategy=one_at_a_time", *TINY, *lines])


def test_the_points_are_the_base_and_each_other_value_alone(planned):
    made = planned("model=gru,rnn", "model.hidden_size=8,4,16", "optim.lr=1e-2,1e-3")
    rows = [(p["model"], p["model.hidden_size"], p["optim.lr"]) for p in made.points]
    assert rows == [
        ("gru", 8, 1e-2),
        ("rnn", 8, 1e-2),
        ("gru", 4, 1e-2),
        ("gru", 16, 1e-2),
        ("gru", 8, 1e-3),
    ]


def test_a_further_value_is_a_further_trial_and_the_base_stays(planned):
    first = planned("model.hidden_size=8,4")
    submit(first)
    more = planned("model.hidden_size=8,4,16")
    assert [p["model.hidden_size"] for p in more.points] == [8, 4, 16]
    assert more.new == 1
    with pytest.raises(RequestError, match=r"was grid|study.strategy"):
        plan(["study=mine", *TINY, "study.strategy=grid", "model.hidden_size=8,4"])


def test_where_no_change_can_be_told_the_answer_says_so(make_ablation):
    state = read_study(make_ablation(base=[2.0, 2.7, 2.2]))
    assert (
        answer(state, leaderboard(state)) == "Of 3 changes of the base none can be told from it (p > 0.05)."
    )


def test_a_mistake_is_told_with_its_change(planned):
    with pytest.raises(RequestError, match=r"  job 2 \(model.hidden_size=x\): "):
        planned("model=gru,rnn", "model.hidden_size=8,x", "optim.lr=1e-2,1e-3")
    with pytest.raises(RequestError, match=r"  job 0 \(the base\): "):
        planned("model=gru,rnn", "model.hidden_size=x,8")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["optim.lr=interval(0.1,0.2)"], "study.strategy=one_at_a_time: optim.lr cannot be listed"),
        (["model.hidden_size=8,16,32", "study.n_trials=2"], "one_at_a_time has 3 points"),
        (["model.hidden_size=8"], "study.strategy=one_at_a_time: no key is given values to change"),
        (["seed=1,2"], "no key is given values to change"),
        (
            ["model.hidden_size=8,16", "threads=1,2"],
            r"threads: job 0 \(the base\) and job 2 \(threads=2\) are the same",
        ),
    ],
)
def test_what_cannot_be_listed_is_refused(planned, lines, expected):
    with pytest.raises(RequestError, match=expected):
        planned(*lines)


def test_a_dry_run_lists_the_base_and_its_changes(planned, capsys):
    lines = ["model=gru,rnn", "model.hidden_size=8,16", "threads=1"]
    assert main(["sweep", "study=mine", "study.strategy=one_at_a_time", *TINY, *lines, "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines()[:-1:2]
    assert [line.strip() for line in shown] == [
        "0  the base: model=gru model.hidden_size=8",
        "1  model=rnn",
        "2  model.hidden_size=16",
    ]


def test_the_base_cannot_become_another(planned):
    submit(planned("model.hidden_size=8,4", "optim.lr=1e-2,1e-3"))
    assert planned("model.hidden_size=8,16,4", "optim.lr=1e-2,1e-3").new == 1
    with pytest.raises(RequestError, match=r"model.hidden_size: the base has 8, now 16 comes first"):
        planned("model.hidden_size=16,8,4", "optim.lr=1e-2,1e-3")


def test_each_change_is_compared_with_the_base_run_by_run(folder):
    found = {effect.change: effect for effect in effects(read_study(folder))}
    assert list(found) == list(CHANGES)  # the worst first
    for change, values in CHANGES.items():
        test = scipy.stats.ttest_rel(values, BASE)
        low, high = test.confidence_interval(0.95)
        assert found[change].p == pytest.approx(test.pvalue)
        assert (found[change].difference.low, found[change].difference.high) == pytest.approx((low, high))
        assert found[change].better == (sum(values) < sum(BASE))
        assert found[change].told == (test.pvalue <= 0.05)


def test_of_a_score_that_is_better_high_the_lowest_is_the_worst(make_ablation):
    found = effects(read_study(make_ablation(objectives=("val/accuracy:maximize",))))
    assert [effect.change for effect in found] == list(CHANGES)[::-1]
    assert [effect.better for effect in found] == [False, True, True]


def test_only_runs_that_both_have_are_compared(make_study):
    trials = [trial("gru", 0.1, BASE), trial("rnn", 0.1, NO_GRU[:2])]
    (effect,) = effects(read_study(make_study("a", SPACE, trials, strategy="one_at_a_time", seeds=[0, 1, 2])))
    assert effect.difference.n == 2
    assert effect.difference.mean == pytest.approx(0.55)


@pytest.mark.parametrize("state", ["failed", "pruned", "running", "waiting"])
def test_without_a_finished_base_nothing_is_compared(make_study, state, capsys):
    base = {"params": {"model": "gru", "task.net.dropout": 0.1}, "state": state}
    folder = make_study(
        "a", SPACE, [base, trial("rnn", 0.1, NO_GRU)], strategy="one_at_a_time", seeds=[0, 1, 2]
    )
    assert effects(read_study(folder)) == []
    assert main(["study", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "model gru → rnn" in shown
    assert "Beside the base" not in shown
    why = {"failed": "has failed", "pruned": "was pruned"}.get(state, "has not finished yet")
    assert f"The base (trial 0) {why}, so no change can be compared with it." in " ".join(shown.split())


@pytest.mark.parametrize("way", [math.inf, -math.inf])
def test_beside_a_base_that_diverged_nothing_is_compared(make_ablation, way):
    state = read_study(make_ablation(base=[2.0, way, 2.2]))
    assert effects(state) == []
    assert base_in_words(state) == ""
    assert answer(state, leaderboard(state)).startswith("The base (trial 0) has diverged")


@pytest.mark.parametrize(
    ("direction", "scores"),
    [("minimize", math.inf), ("minimize", math.nan), ("maximize", -math.inf), ("maximize", math.nan)],
)
def test_a_change_that_diverged_is_the_worst_and_is_not_called_the_same(make_study, direction, scores):
    rows = [("gru", 0.1, BASE), ("rnn", 0.1, [1.0, scores, 1.1]), ("gru", 0.0, NO_DROPOUT)]
    trials = [trial(*row, objectives=[2.0]) for row in rows]
    folder = make_study(
        *("a", SPACE, trials),
        objectives=(f"val/loss:{direction}",),
        strategy="one_at_a_time",
        seeds=[0, 1, 2],
    )
    state = read_study(folder)
    found = effects(state)
    assert [(effect.change, effect.diverged, effect.better) for effect in found[:1]] == [
        ("model gru → rnn", True, False)
    ]
    assert sentence(state, found) == (
        "Of 2 changes of the base 1 diverges (model gru → rnn), 1 cannot be told from it (p > 0.05)."
    )
    assert columns(state, found)["loss against the base"][0] == "diverged"
    axes = Figure().subplots()
    draw(axes, by_change(state))
    assert axes.get_yticklabels()[1].get_text() == "model gru → rnn (diverged)"
    assert all(math.isfinite(end) for end in axes.get_xlim())


def test_a_change_with_one_run_beside_the_base_is_not_called_the_same(make_study):
    trials = [trial("gru", 0.1, BASE), trial("rnn", 0.1, NO_GRU[:1]), trial("gru", 0.0, NO_DROPOUT)]
    state = read_study(make_study("a", SPACE, trials, strategy="one_at_a_time", seeds=[0, 1, 2]))
    assert sentence(state, effects(state)) == (
        "Of 2 changes of the base 1 has one run to compare (model gru → rnn), "
        "1 cannot be told from it (p > 0.05)."
    )


@pytest.mark.parametrize("state", ["failed", "pruned"])
def test_a_change_that_ended_without_a_score_is_named(make_study, state, capsys):
    lost = {"params": {"model": "gru", "task.net.dropout": 0.0}, "state": state, "error": "out of memory"}
    trials = [trial("gru", 0.1, BASE), trial("rnn", 0.1, NO_GRU), lost]
    folder = make_study("a", SPACE, trials, strategy="one_at_a_time", seeds=[0, 1, 2])
    found = read_study(folder)
    assert answer(found, leaderboard(found)).endswith(f" Without a score: dropout 0.1 → 0 ({state}).")
    assert main(["study", str(folder)]) == 0
    named = "trial 2, dropout 0.1 → 0: out of memory" in capsys.readouterr().out
    assert named == (state == "failed")


@pytest.mark.parametrize(
    "values",
    [
        [1e-5, 1e-3, 1.00001e-3],  # one text of four digits
        [1e-5, 1.000001e-5, 1.0],  # that of the base
        ["1", 1.0, 2],
        ["null", None, "true", True],
        ["x" * 60 + "1" + "x" * 60, "x" * 60 + "2" + "x" * 60, "x" * 60],
    ],
)
def test_values_that_look_alike_are_changes_of_their_own(make_study, tmp_path, values):
    scores = [[score + number for score in BASE] for number in range(len(values))]
    trials = [{"params": {"a.key": v}, "values": s} for v, s in zip(values, scores, strict=True)]
    folder = make_study("a", [choice("a.key", *values)], trials, strategy="one_at_a_time", seeds=[0, 1, 2])
    found = effects(read_study(folder))
    assert sorted(effect.trial for effect in found) == [*range(1, len(values))]
    assert len({effect.change for effect in found}) == len(found)
    for effect in found:
        before, after = effect.change.removeprefix("key ").split(" → ")
        assert before != after
    write_record([folder], tmp_path / "experiments" / "001-a")
    assert check_record(tmp_path / "experiments" / "001-a") == []
    grid = read_study(make_study("b", [choice("a.key", *values)], trials, strategy="grid", seeds=[0, 1, 2]))
    assert len(set(table_columns(grid, leaderboard(grid))["key"])) == len(values)


def test_a_long_value_leaves_room_for_the_table_and_the_picture(make_study, tmp_path, capsys):
    values = ["/".join(["folder"] * 30) + f"/{name}" for name in "ab"]
    trials = [{"params": {"data.path": v}, "values": s} for v, s in zip(values, (BASE, NO_GRU), strict=True)]
    folder = make_study(
        "a", [choice("data.path", *values)], trials, strategy="one_at_a_time", seeds=[0, 1, 2]
    )
    (effect,) = effects(read_study(folder))
    assert len(effect.change) <= len("path  → ") + 2 * LONGEST
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a picture whose names leave no room
        assert write_picture([read_study(folder)], tmp_path / "picture.png")


def test_brackets_and_bars_of_a_value_stay_in_their_cell(make_study, capsys):
    values = ["[red]", "[/bold]", "a|b"]
    rows = zip(values, (BASE, NO_GRU, MORE), strict=True)
    trials = [{"params": {"a.key": value}, "values": scores} for value, scores in rows]
    folder = make_study("a", [choice("a.key", *values)], trials, strategy="one_at_a_time", seeds=[0, 1, 2])
    assert main(["study", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert all(f"key [red] → {value}" in shown for value in values[1:])
    subjects, _ = gather([str(folder)])
    lines = [line for line in to_markdown(subjects, "title").splitlines() if "key [red] → a" in line]
    tables = [line for line in lines if line.startswith("|")]
    assert tables
    assert all("[red] → a\\|b |" in line for line in tables)


def test_figures_that_cannot_be_compared_are_told_though_the_key_is_within_a_change(folder):
    state = read_study(folder)
    objective = replace(state.objectives[0], same=("task.net.dropout", "data.level"))
    state = by_change(replace(state, objectives=(objective,)))
    told = verdict(state, leaderboard(state))
    assert told.startswith("loss does not compare runs of another task.net.dropout.")


def test_no_importance_is_given_of_one_change_at_a_time(folder):
    assert summary(read_study(folder))["importance"]["shares"] == []


def test_a_study_of_another_strategy_or_of_two_objectives_has_no_effects(make_study, tmp_path):
    both = ("val/loss:minimize", "seconds:minimize")
    one = trial("gru", 0.1, [2.0], objectives=[2.0, 5.0])
    other = trial("rnn", 0.1, [2.5], objectives=[2.5, 4.0])
    several = read_study(make_study("a", SPACE, [one, other], strategy="one_at_a_time", objectives=both))
    assert by_change(several).keys == ["change"]
    assert effects(several) == []
    grid = read_study(make_study("b", SPACE, [trial("gru", 0.1, BASE)], strategy="grid", seeds=[0, 1, 2]))
    assert by_change(grid) is grid
    assert effects(grid) == []


def test_one_run_a_point_has_differences_and_no_p(make_ablation):
    state = read_study(make_ablation(seeds=1))
    assert [effect.p for effect in effects(state)] == [None] * 3
    shown = columns(state, effects(state))
    assert [float(text) for text in shown["loss against the base"]] == pytest.approx([0.5, 0.05, -0.1])
    assert "p" not in shown
    assert answer(state, leaderboard(state)).endswith("model gru → rnn; dropout 0.1 → 0.5.")


def test_the_answer_names_the_changes_that_matter(folder):
    state = read_study(folder)
    assert answer(state, leaderboard(state)) == (
        "Of 3 changes of the base 1 makes loss worse (model gru → rnn), 1 makes loss better (dropout 0.1 → 0.5), "
        "1 cannot be told from it (p > 0.05)."
    )


def test_it_is_told_by_its_changes_everywhere_and_kept_by_its_keys(folder, tmp_path, capsys):
    assert main(["study", str(folder), "--write"]) == 0
    terminal = capsys.readouterr().out
    assert parallel_coordinates(by_change(read_study(folder))) is None
    subjects, _ = gather([str(folder)])
    page = write_page(subjects, tmp_path / "page.html").read_text()
    markdown = to_markdown(subjects, "title")
    record = tmp_path / "experiments" / "001-ablation"
    write_record([folder], record)
    for text in (terminal, page, markdown, (record / "README.md").read_text()):
        assert all(change in text for change in CHANGES)
        assert "What each change does" in text
        assert "1 cannot be told from it" in text
    told = json.loads((folder / "summary.json").read_text())
    assert told == summary(read_study(folder))
    assert [effect["change"] for effect in told["effects"]] == list(CHANGES)
    assert told["trials"][0]["params"] == {"model": "gru", "task.net.dropout": 0.1}
    header, *rows = csv.reader((folder / "leaderboard.csv").read_text().splitlines())
    assert "task.net.dropout" in header
    assert len(rows) == 4
    assert one_line(by_change(read_study(folder))).count("(trial 3: dropout 0.1 → 0.5)") == 1


def test_a_record_has_the_same_effects_as_its_study(folder, tmp_path):
    record = tmp_path / "experiments" / "001-ablation"
    write_record([folder], record)
    assert check_record(record) == []
    (state,) = unpack(record)
    assert effects(state) == effects(read_study(folder))
    page = (record / "README.md").read_text()
    assert "**Question.** ablation: what does each change of the base do to val/loss?" in page
    assert f"ablation: {sentence(state, effects(state))}\n\n<!-- end of the conclusion -->" in page
    assert choose_x(by_change(state)) == "change"


def test_the_picture_has_a_line_a_change_with_its_interval(folder):
    axes, state = Figure().subplots(), read_study(folder)
    draw(axes, by_change(state))
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == list(CHANGES)[::-1]
    drawn = [bars.lines[0].get_xdata()[0] for bars in axes.containers]
    assert drawn == pytest.approx([effect.difference.mean for effect in reversed(effects(state))])
    assert axes.get_xscale() == "linear"
    over = Figure().subplots()
    draw(over, state, x="task.net.dropout")  # an axis that was asked for
    assert over.get_xlabel() == "dropout"


def test_a_change_that_is_far_off_does_not_squeeze_the_others(make_study, tmp_path):
    rows = [
        ("gru", 0.1, BASE),
        ("rnn", 0.1, [900.0, 950.0, 940.0]),
        ("gru", 0.0, NO_DROPOUT),
        ("gru", 0.5, MORE),
    ]
    trials = [trial(model, dropout, values) for model, dropout, values in rows]
    folder = make_study("far", SPACE, trials, strategy="one_at_a_time", seeds=[0, 1, 2])
    axes = Figure().subplots()
    draw(axes, by_change(read_study(folder)))
    left, right = axes.get_xlim()
    at = axes.transAxes.inverted().transform(axes.transData.transform([(0.0, 0), (-0.12, 0), (926.0, 0)]))[
        :, 0
    ]
    assert left < -0.3 < 926 < right
    assert at[0] - at[1] > 0.03
