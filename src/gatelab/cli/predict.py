"""Predict on new input: for a forecaster, what comes after the last row of a table, in original units.

A language model continues every line of a text file. The output ends in .csv, .parquet or .jsonl.

example:
  gatelab predict runs/etth1_gru/1a2b3c4d-s0 --input recent.csv --output forecast.csv
"""

from __future__ import annotations

import argparse

from gatelab.cli.common import add_json, add_run_dir, loading, print_json


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
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Predict and write."""
    with loading():
        from gatelab.run.infer import check_output, predict, write_table

    check_output(options.output, options.input)
    frame = predict(options.run_dir, options.input, trust=options.trust)
    write_table(frame, options.output)
    if options.json:
        print_json({"output": options.output, "rows": len(frame), "columns": list(frame.columns)})
    else:
        print(f"{len(frame)} rows of {', '.join(map(str, frame.columns))} written to {options.output}")
    return 0
