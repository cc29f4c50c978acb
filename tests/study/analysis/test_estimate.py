"""Time left and utilisation."""

import datetime
from dataclasses import replace

import pytest

from gatelab.study.analysis.estimate import duration, time_left, utilisation
from gatelab.study.analysis.read import read_study

HOUR = datetime.datetime(2026, 1, 1, 13, 0, tzinfo=datetime.datetime.now().astimezone().tzinfo)


def study(make_study, entries, trials, name="s", **settings):
    choice, _ = entries
    sizes = sorted({trial["params"]["h"] for trial in trials})
    state = read_study(make_study(name, [choice("h", *sizes)], trials, **settings))
    return replace(state, now=HOUR, workers=frozenset({"w"}))


def done(size, seconds, start=0.0):
    return {"params": {"h": size}, "values": [1.0], "seconds": seconds, "start": start, "length": seconds}


def waiting(size):
    return {"params": {"h": size}, "state": "waiting"}


@pytest.mark.parametrize(("slots", "expected"), [(1, 50.0), (2, 30.0), (5, 10.0), (9, 10.0)])
def test_equal_trials_take_whole_rounds(make_study, entries, slots, expected):
    trials = [done(8, 10.0), done(8, 10.0), *[waiting(8)] * 5]
    assert time_left(study(make_study, entries, trials, slots=slots)) == pytest.approx(expected)


def test_what_a_running_trial_has_done_counts(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "w/0", "start": 3600.0 - 4.0}
    assert time_left(study(make_study, entries, [done(8, 10.0), running])) == pytest.approx(6.0)


def test_what_a_dead_worker_had_done_does_not_count(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "dead/0", "start": 3600.0 - 4.0}
    assert time_left(study(make_study, entries, [done(8, 10.0), running])) == pytest.approx(10.0)


def test_a_trial_that_runs_over_its_time_does_not_run_backwards(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "w/0", "start": 0.0}
    assert time_left(study(make_study, entries, [done(8, 10.0), running])) == 0.0


def test_larger_networks_are_expected_to_take_longer(make_study, entries):
    trials = [done(h, h / 8) for h in (32, 64, 128, 256)]
    small = time_left(study(make_study, entries, [*trials, waiting(32)], "small"))
    large = time_left(study(make_study, entries, [*trials, waiting(256)], "large"))
    assert large > 3 * small
    assert large == pytest.approx(32.0, rel=0.5)


def test_nothing_is_said_before_the_first_and_nothing_is_left_at_the_end(make_study, entries):
    assert time_left(study(make_study, entries, [waiting(8)], "first")) is None
    assert time_left(study(make_study, entries, [done(8, 1.0)], "last")) == 0.0


def test_utilisation_is_busy_slot_time_over_all_slot_time(make_study, entries):
    trials = [done(8, 10.0, 0.0), done(8, 5.0, 0.0), done(8, 5.0, 10.0)]
    assert utilisation(study(make_study, entries, trials, slots=2)) == pytest.approx(20 / 30)


def test_a_pause_of_the_whole_study_is_not_idleness(make_study, entries):
    trials = [done(8, 10.0, 0.0), done(8, 10.0, 1000.0)]
    assert utilisation(study(make_study, entries, trials)) == pytest.approx(1.0)


def test_utilisation_since_a_moment_counts_what_came_after(make_study, entries):
    trials = [done(8, 10.0, 0.0), done(8, 10.0, 20.0)]
    state = study(make_study, entries, trials)
    begin = state.trials[0].started.timestamp()
    assert utilisation(state, since=begin + 5) == pytest.approx(15 / 25)


def test_nothing_ran_nothing_is_said(make_study, entries):
    assert utilisation(study(make_study, entries, [waiting(8)])) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (274000, "3 d 04 h")],
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text
