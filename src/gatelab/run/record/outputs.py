"""Where a command may write: a file that would be lost there is found before anything is computed."""

from __future__ import annotations

from pathlib import Path

from gatelab.run import RequestError
from gatelab.run.record.directory import RunDirectory


def check_picture(plot: Path, run_dir: str | Path, *, given: Path | None = None) -> None:
    """Refuse `--plot` with another ending than .png, or in the place of a file that `check_output` keeps.

    Raises:
        RequestError: naming the fix.
    """
    if plot.suffix.lower() != ".png":
        raise RequestError(f"--plot {plot}: give a name that ends in .png.")
    check_output(plot, run_dir, given=given, option="--plot")


def check_output(
    output: Path, run_dir: str | Path, *, given: Path | None = None, option: str = "--output"
) -> None:
    """Refuse an output that is an input, a folder, or belongs to the run, whatever link or spelling leads to it.

    given: the input. The run's own are the files of its record and the table or texts that it was trained on; what was
    exported from it is not.

    Raises:
        RequestError: the file would be lost.
    """
    if not output.exists():
        return
    if given is not None and given.exists() and output.samefile(given):
        raise RequestError(f"{option} {output}: is the input; give another name.")
    if not output.is_file():
        raise RequestError(f"{option} {output}: is not a file; give another name.")
    run = RunDirectory.open(run_dir)
    record = run.read()
    exported = run.path / "export"
    kept = [file for file in run.path.rglob("*") if file.is_file() and exported not in file.parents]
    data = record["config"].get("data", {}).items()
    paths = [value for key, value in data if key.endswith("path") and isinstance(value, str)]
    kept += [Path(attempt["cwd"]) / path for attempt in record.get("attempts", ()) for path in paths]
    if any(file.exists() and output.samefile(file) for file in kept):
        raise RequestError(f"{option} {output}: belongs to the run; give another name.")
