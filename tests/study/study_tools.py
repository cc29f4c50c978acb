"""What the tests of workers ask of a study: its rows, its runs, and what becomes true in a while."""

import time

from gatelab.run.record.directory import RunDirectory
from gatelab.study.engine.queue import Queue


def rows_of(directory):
    queue = Queue(directory)
    rows = queue.trials()
    queue.close()
    return rows


def run_of(directory, row, index=0):
    return RunDirectory(directory.path.parents[1] / row.user_attrs["runs"][index])


def eventually(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value
