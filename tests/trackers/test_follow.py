"""Following a metrics file: every row once, whatever the writer does meanwhile."""

import math

from gatelab.run.loggers import MetricsCSV
from gatelab.trackers.follow import STEP, Follow, identity, key


def test_each_row_is_given_once_also_when_columns_are_added(tmp_path):
    follow = Follow(tmp_path / "metrics.csv")
    assert follow.rows() == []
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 0.1 + 0.2, "epoch": 0}, 0)
    logger.save()
    assert follow.rows() == [{STEP: 1, "epoch": 0, "train/loss": 0.1 + 0.2}]
    logger.log_metrics({"train/loss": 0.5}, 1)
    logger.save()
    logger.log_metrics({"val/loss": 0.25, "epoch": 1}, 1)
    logger.save()
    assert follow.rows() == [{STEP: 2, "train/loss": 0.5}, {STEP: 2, "val/loss": 0.25, "epoch": 1}]
    assert follow.rows() == []


def test_each_row_is_given_once_when_the_header_changes_several_times_between_two_looks(tmp_path):
    logger, follow, given = MetricsCSV(tmp_path / "metrics.csv"), Follow(tmp_path / "metrics.csv"), []
    for step in range(60):
        logger.log_metrics({"train/loss": step / 7, f"metric/{step // 3}": 1.0}, step)
        logger.save()
        if step % 7 == 6:  # the file was replaced two or three times; file systems use an inode again
            given += follow.rows()
    given += follow.rows()
    assert [(row[STEP], row["train/loss"], row[f"metric/{step // 3}"]) for step, row in enumerate(given)] == [
        (step + 1, step / 7, 1.0) for step in range(60)
    ]


def test_a_line_that_is_not_finished_waits(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,epoch,train/loss\n1,0,0.5\n2,0,0.")
    follow = Follow(file)
    assert follow.rows() == [{STEP: 1, "epoch": 0, "train/loss": 0.5}]
    with file.open("a") as end:
        end.write("25\n")
    assert follow.rows() == [{STEP: 2, "epoch": 0, "train/loss": 0.25}]


def test_the_key_tells_bits_apart_and_knows_what_is_not_a_number():
    assert key({STEP: 1, "a": math.nan}) == key({"a": math.nan, STEP: 1})
    assert key({STEP: 1, "a": 0.1}) != key({STEP: 1, "a": math.nextafter(0.1, 1)})


def test_a_row_computed_again_is_the_same_row_whatever_the_clock_says():
    first = {STEP: 1, "train/loss": 0.5, "time/windows_per_second": 10.0}
    assert identity(first) == identity({**first, "time/windows_per_second": 11.0})
    assert identity(first) != identity({**first, "train/loss": 0.25})
