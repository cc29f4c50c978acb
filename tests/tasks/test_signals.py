"""A stop signal outside of training ends the command as a run that can be continued, or is noted for the run."""

import os
import signal
import subprocess
import sys

import pytest

from gatelab.tasks.signals import RANK_OF, STOP, RunInterrupted, StopSignals, blocked, noted, stoppable


def stop_and_mend(number):
    """What a run might be doing when the signal comes."""
    with stoppable():
        try:
            os.kill(os.getpid(), number)
        except Exception:  # what mends a damaged file must not mend a signal
            return "taken for an error"
        return "went on"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_leaves_at_once_and_no_handler_of_errors_holds_it_up(name):
    before = [signal.getsignal(number) for number in STOP]
    with pytest.raises(RunInterrupted, match=f"stopped by {name}; the same command continues it"):
        stop_and_mend(getattr(signal, name))
    assert [signal.getsignal(number) for number in STOP] == before


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
