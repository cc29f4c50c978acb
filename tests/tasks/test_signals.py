"""A stop signal outside of training ends the command as a run that can be continued, or is noted for the run."""

import ctypes
import importlib
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest

from gatelab.data.stop_signals import STOP, blocked
from gatelab.tasks.signals import (
    KEYBOARD,
    RANK_OF,
    RunInterrupted,
    StopRequested,
    StopSignals,
    finish,
    noted,
    raising,
    stoppable,
)

pytestmark = pytest.mark.usefixtures("no_alarm")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGALRM])
def test_a_hangup_or_an_alarm_that_somebody_else_sees_to_stays_theirs(number):
    theirs = []
    before = signal.signal(number, lambda *_: theirs.append(1))
    try:
        with stoppable():
            os.kill(os.getpid(), number)
        assert theirs == [1]
    finally:
        signal.signal(number, before)


def stop_and_mend(number):
    """What a run might be doing when the signal comes."""
    with stoppable():
        try:
            os.kill(os.getpid(), number)
        except Exception:  # what mends a damaged file must not mend a signal
            return "taken for an error"
        return "went on"


@pytest.mark.parametrize("number", STOP)
def test_a_signal_after_the_work_is_done_changes_nothing_and_a_second_one_ends_it(number):
    before = [signal.getsignal(one) for one in STOP]

    def print_after(*numbers):
        with raising():
            finish()
            for one in numbers:
                os.kill(os.getpid(), one)

    print_after(number)
    assert [signal.getsignal(one) for one in STOP] == before
    with pytest.raises(StopRequested):
        print_after(number, signal.SIGINT)
    assert [signal.getsignal(one) for one in STOP] == before


def test_the_end_of_the_work_is_no_one_elses_business_outside_a_command():
    before = [signal.getsignal(one) for one in STOP]
    finish()
    assert [signal.getsignal(one) for one in STOP] == before


@pytest.mark.parametrize("name", [number.name for number in STOP])
def test_a_signal_leaves_at_once_and_no_handler_of_errors_holds_it_up(name):
    before = [signal.getsignal(number) for number in STOP]
    with pytest.raises(RunInterrupted, match=f"stopped by {name}; the same command continues it"):
        stop_and_mend(getattr(signal, name))
    assert [signal.getsignal(number) for number in STOP] == before


def test_an_error_of_what_is_cleaned_up_after_it_does_not_hide_it():
    def stopped_half_way():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            {}["what was never begun"]

    with pytest.raises(RunInterrupted, match="stopped by SIGTERM"), stoppable():
        stopped_half_way()
    with pytest.raises(KeyError), stoppable():
        {}["an error without a stop"]


LATE = "import os, signal, sys; from gatelab.tasks.signals import StopSignals; os.kill(os.getpid(), signal.SIGTERM); "
LATE += "signals = StopSignals(); signals.listen(); sys.exit(signals.received != 'SIGTERM')"


def test_a_process_that_is_told_to_stop_before_it_listens_is_told_then():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with blocked():
        done = subprocess.run([sys.executable, "-c", LATE], check=False)
    assert done.returncode == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_a_process_beside_the_first_notes_the_signal_for_the_run(monkeypatch):
    monkeypatch.setenv(RANK_OF, "somewhere")
    monkeypatch.setenv("LOCAL_RANK", "1")
    inside = StopSignals()
    with stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        with noted() as signals:
            assert signals.received == "SIGTERM"
            inside.listen()
            inside.release()
    assert inside.received == "SIGTERM"


KILL = "os.kill(os.getpid(), {number})"


def stopped_by(action):
    """Do something that brings a signal, and then what goes on for long."""
    with stoppable():
        action()
        time.sleep(5)


@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_signal_in_an_import_is_acted_on_when_the_import_is_whole(number, depth, tmp_path, monkeypatch):
    """The innermost module gets the signal; an `except ImportError` or C code on the way would lose an exception."""
    monkeypatch.syspath_prepend(tmp_path)
    names = [f"module_{number}_{depth}_{level}" for level in range(depth)]
    for name, inner in zip(names, [*names[1:], None], strict=True):
        body = f"import {inner}" if inner else f"import os\n{KILL.format(number=number)}"
        (tmp_path / f"{name}.py").write_text(f"{body}\nwhole = True\n")
    with pytest.raises(RunInterrupted):
        stopped_by(lambda: importlib.import_module(names[0]))
    assert all(sys.modules[name].whole for name in names)


class Deleted:
    """Gets a signal where Python cannot raise what the handler raises."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize("place", ["__del__", "a weak reference", "a callback from C"])
def test_a_signal_is_not_lost_where_python_cannot_raise(number, place):
    def callback(*_):
        os.kill(os.getpid(), number)

    before = sys.unraisablehook, [signal.getsignal(other) for other in STOP]
    actions = {
        "__del__": lambda: Deleted(number),
        "a weak reference": lambda: weakref.ref(set(), callback)(),
        "a callback from C": ctypes.CFUNCTYPE(None)(callback),
    }
    with pytest.raises(RunInterrupted):
        stopped_by(actions[place])
    assert (sys.unraisablehook, [signal.getsignal(other) for other in STOP]) == before


@pytest.mark.parametrize("number", KEYBOARD)
def test_a_second_one_from_the_keyboard_does_not_wait(number):
    """And is no KeyboardInterrupt, on which Lightning leaves with 1."""

    def twice():
        with noted() as signals:
            os.kill(os.getpid(), number)
            assert signals.received == signal.Signals(number).name
            os.kill(os.getpid(), number)

    with pytest.raises(RunInterrupted):
        stopped_by(twice)
