"""Curves are thinned without losing a spike; memory and steps come from where they were logged."""

from gatelab.report.facts import read_facts, thin
from gatelab.report.gather import gather


def test_a_thinned_curve_keeps_its_ends_and_its_extremes():
    values = [float(i % 7) for i in range(10_000)]
    values[1234], values[4321] = 99.0, -99.0
    curve = thin(range(10_000), values, 100)
    assert len(curve.steps) <= 100
    assert curve.steps == sorted(set(curve.steps))
    assert {curve.steps[0], curve.steps[-1]} == {0, 9_999}
    assert [values[step] for step in curve.steps] == curve.values
    assert {99.0, -99.0} <= set(curve.values)


def test_a_short_curve_is_left_as_it_is():
    assert thin([1, 2], [3.0, 4.0], 2).values == [3.0, 4.0]


def test_the_most_memory_and_the_steps_are_found(make_run):
    run = make_run("a", "aaaaaaaa", 0)
    rows = ["step,epoch,val/mse,memory/cpu_peak_mib", "1,0,1.0,10", "2,0,nan,30", "3,0,,20", ""]
    (run / "metrics.csv").write_text("\n".join(rows))
    (facts,) = read_facts(gather([run])[0][0].state).values()
    assert facts.memory == {"cpu peak": 30.0}
    assert facts.steps == 40
    assert facts.valid.values == [1.0]  # what is not finite cannot be drawn
