"""Time left and utilisation."""

import datetime
from dataclasses import replace

import pytest

from gatelab.study.analysis.read import read_study
from gatelab.study.analysis.state import duration

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


@pytest.mark.parametrize(("slots", "expected"), [(1, 50.0), (2, 25.0), (5, 10.0), (9, 10.0)])
def test_the_trials_left_are_shared_among_the_slots(make_study, entries, slots, expected):
    trials = [done(8, 10.0), done(8, 10.0), *[waiting(8)] * 5]
    assert study(make_study, entries, trials, slots=slots).seconds_left == pytest.approx(expected)


def test_what_a_running_trial_has_done_counts(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "w/0", "start": 3600.0 - 4.0}
    assert study(make_study, entries, [done(8, 10.0), running]).seconds_left == pytest.approx(6.0)


def test_what_a_dead_worker_had_done_does_not_count(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "dead/0", "start": 3600.0 - 4.0}
    assert study(make_study, entries, [done(8, 10.0), running]).seconds_left == pytest.approx(10.0)


def test_a_trial_that_runs_over_its_time_does_not_run_backwards(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "w/0", "start": 0.0}
    assert study(make_study, entries, [done(8, 10.0), running]).seconds_left == 0.0


def test_nothing_is_said_before_the_first_and_nothing_is_left_at_the_end(make_study, entries):
    assert study(make_study, entries, [waiting(8)], "first").seconds_left is None
    assert study(make_study, entries, [done(8, 1.0)], "last").seconds_left == 0.0


def test_utilisation_is_busy_slot_time_over_all_slot_time(make_study, entries):
    trials = [done(8, 10.0, 0.0), done(8, 5.0, 0.0), done(8, 5.0, 10.0)]
    assert study(make_study, entries, trials, slots=2).utilisation == pytest.approx(20 / 30)


def test_the_runs_of_one_trial_use_all_slots_unless_a_pruner_decides_between_them(make_study, entries):
    running = {"params": {"h": 8}, "state": "running", "owner": "w/0", "start": 3600.0 - 4.0}
    trials = [done(8, 30.0, 3500.0), running]
    together = study(make_study, entries, trials, "together", slots=3, seeds=[0, 1, 2])
    assert together.slots_of_a_trial == 3
    assert together.seconds_left == pytest.approx((30 - 3 * 4) / 3)
    pruned = study(make_study, entries, trials, "pruned", slots=3, seeds=[0, 1, 2], pruner="wilcoxon")
    assert pruned.slots_of_a_trial == 1
    assert pruned.seconds_left == pytest.approx(26)


def test_slots_whose_seeds_train_beside_each_other_are_busy(make_study, entries):
    beside = {"params": {"h": 8}, "values": [1.0], "seconds": 27.0, "start": 0.0, "length": 10.0}
    assert study(make_study, entries, [beside], slots=3, seeds=[0, 1, 2]).utilisation == pytest.approx(0.9)
    # what had been trained before this attempt is no time of a slot
    assert study(make_study, entries, [beside], "one", slots=3).utilisation == pytest.approx(1 / 3)


def test_a_pause_of_the_whole_study_is_not_idleness(make_study, entries):
    trials = [done(8, 10.0, 0.0), done(8, 10.0, 1000.0)]
    assert study(make_study, entries, trials).utilisation == pytest.approx(1.0)


def test_nothing_ran_nothing_is_said(make_study, entries):
    assert study(make_study, entries, [waiting(8)]).utilisation is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (274000, "3 d 04 h")],
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text
