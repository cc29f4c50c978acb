"""What a run took, read back from its metrics file."""

from pathlib import Path

from gatelab.run.loggers import MetricsCSV
from gatelab.run.record.directory import resources


def test_resources_are_the_peak_and_the_median_over_all_attempts(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    first = MetricsCSV(file)
    for step, (speed, peak) in enumerate([(100.0, 50.0), (300.0, 80.0)]):
        first.log_metrics({"time/tokens_per_second": speed, "memory/cpu_peak_mib": peak}, step)
    first.save()
    second = MetricsCSV(file, 2)
    second.log_metrics(
        {"time/tokens_per_second": 200.0, "memory/cpu_peak_mib": 60.0, "memory/gpu_peak_mib": 9.0}, 2
    )
    second.save()
    assert resources(file) == {
        "memory": {"cpu_peak_bytes": 80 << 20, "gpu_peak_bytes": 9 << 20},
        "throughput": {"per_second": 200.0, "unit": "tokens"},
    }


def test_what_no_callback_measured_is_none(tmp_path: Path) -> None:
    nothing = {"memory": {"cpu_peak_bytes": None, "gpu_peak_bytes": None}, "throughput": None}
    assert resources(tmp_path / "metrics.csv") == nothing
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 1.0}, 0)
    logger.save()
    assert resources(tmp_path / "metrics.csv") == nothing
