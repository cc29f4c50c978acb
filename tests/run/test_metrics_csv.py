"""metrics.csv: a row a step, columns as they come, nothing lost by a kill or a resume."""

import pytest

from gatelab.run.loggers import MetricsCSV
from gatelab.run.record.directory import read_metrics


@pytest.fixture
def file(tmp_path):
    logger = MetricsCSV(tmp_path / "metrics.csv")
    for step in (10, 20, 30):  # as Lightning counts: the first step is 0
        logger.log_metrics({"train/loss": step / 10, "epoch": 0}, step - 1)
    logger.log_metrics({"val/loss": 0.5}, 29)
    logger.finalize("success")
    return tmp_path / "metrics.csv"


def test_metrics_of_one_step_share_a_row(file):
    rows = read_metrics(file)
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    assert rows[2]["train/loss"] == "3.0"
    assert rows[2]["val/loss"] == "0.5"
    assert rows[0]["val/loss"] == ""


def test_a_resumed_run_continues_and_keeps_what_it_replaces(file):
    logger = MetricsCSV(file, resume_step=20)
    logger.log_metrics({"train/loss": 2.9}, 29)
    logger.save()
    assert [row["train/loss"] for row in read_metrics(file)] == ["1.0", "2.0", "2.9"]
    superseded = read_metrics(file.with_name("metrics.superseded.csv"))
    assert [row["train/loss"] for row in superseded] == ["3.0"]


def test_two_resumes_keep_both_replaced_parts(file):
    for value in (2.9, 2.8):
        logger = MetricsCSV(file, resume_step=20)
        logger.log_metrics({"train/loss": value}, 29)
        logger.save()
    superseded = read_metrics(file.with_name("metrics.superseded.csv"))
    assert [row["train/loss"] for row in superseded] == ["3.0", "2.9"]


def test_a_line_cut_off_by_a_kill_is_left_out(file):
    with file.open("a") as f:
        f.write("40,0,")
    MetricsCSV(file, resume_step=30)
    assert [row["step"] for row in read_metrics(file)] == ["10", "20", "30"]


def test_values_survive_to_the_last_bit(tmp_path):
    value = 0.1 + 0.2
    logger = MetricsCSV(tmp_path / "m.csv")
    logger.log_metrics({"x": value}, 1)
    logger.save()
    assert float(read_metrics(tmp_path / "m.csv")[0]["x"]).hex() == value.hex()


def test_a_damaged_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,a\n1,0,2.0\none,0,2.0\n")
    with pytest.raises(ValueError, match=r"metrics\.csv: damaged, line 3 is not a row"):
        MetricsCSV(path, resume_step=1)
