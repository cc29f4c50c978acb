"""Predict on new input: for a forecaster, what comes after the last row of a table, in original units.

A language model continues every line of a text file. The output ends in .csv, .parquet or .jsonl.

example:
  gatelab predict runs/etth1_gru/1a2b3c4d-s0 --input recent.csv --output forecast.csv
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.cli.common import add_run_dir, loading, print_json
from gatelab.data.files import atomic_write_bytes
from gatelab.run import RequestError

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".parquet", ".jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="new input; a forecaster's: CSV or Parquet with the run's channels",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="CSV, Parquet or JSON lines to write")
    parser.add_argument("--force", action="store_true", help="replace an output that is there")


def run(options: argparse.Namespace) -> int:
    """Predict and write."""
    output, given = Path(options.output), Path(options.input)
    check_output(output, given, Path(options.run_dir), force=options.force)
    with loading():
        from gatelab.run.evaluate import predict

    frame = predict(options.run_dir, given, trust=options.trust)
    try:
        _write(frame, output.resolve())  # the file behind a link
    except OSError as error:
        raise RequestError(f"{output}: cannot be written: {error}") from None
    if options.json:
        print_json({"output": options.output, "rows": len(frame), "columns": list(frame.columns)})
    else:
        print(f"{len(frame)} rows of {', '.join(map(str, frame.columns))} written to {options.output}")
    return 0


def check_output(output: Path, given: Path, run_dir: Path, *, force: bool) -> None:
    """Refuse a name that cannot be written, and one whose file would be lost, before anything is computed.

    An input, the run's own files and the table that it was trained on are never replaced, whatever link or spelling
    leads to them; another file only if `force`.
    """
    if output.suffix.lower() not in ENDINGS:
        raise RequestError(f"{output}: give a name that ends in {', '.join(ENDINGS)}.")
    if not output.exists():
        return
    if given.exists() and output.samefile(given):
        raise RequestError(f"--output {output}: is the input; give another name.")
    if not output.is_file():
        raise RequestError(f"--output {output}: is not a file; give another name.")
    from gatelab.run.record.directory import RunDirectory

    run = RunDirectory.open(run_dir)
    record = run.read()
    kept = [file for file in run.path.rglob("*") if file.is_file()]
    if data := record["config"].get("data", {}).get("path"):
        kept += [Path(attempt["cwd"]) / data for attempt in record.get("attempts", ())]
    if any(file.exists() and output.samefile(file) for file in kept):
        raise RequestError(f"--output {output}: belongs to the run; give another name.")
    if not force:
        raise RequestError(f"--output {output}: exists already; --force replaces it.")


def _write(frame: pd.DataFrame, output: Path) -> None:
    if output.suffix.lower() == ".parquet":
        content = frame.to_parquet(None, index=False)
    elif output.suffix.lower() == ".csv":
        content = frame.to_csv(index=False).encode()
    else:
        rows = frame.to_dict("records")
        content = "".join(f"{json.dumps(row, default=str)}\n" for row in rows).encode()
    atomic_write_bytes(output, content)
