"""List the runs below a folder: state, monitored metric, parameters, seconds, directory."""

from __future__ import annotations

import argparse
from typing import Any

from gatelab.cli.common import add_json, number, print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "overrides", nargs="*", metavar="paths.root=DIR", help="where the runs are (default: .)"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """List the runs."""
    from gatelab.run.config import compose
    from gatelab.run.record.directory import list_runs

    runs = compose(options.overrides).resolved()["paths"]["runs"]
    found = list_runs(runs)
    if options.json:
        print_json(found)
    elif not found:
        print(f"no runs below {runs}")
    else:
        _print(found)
    return 0


def _print(found: list[dict[str, Any]]) -> None:
    from rich.table import Column, Table

    texts = [Column(name, no_wrap=True) for name in ("run", "state", "metric")]
    numbers = [Column(n, justify="right", no_wrap=True) for n in ("value", "parameters", "seconds")]
    table = Table(*texts, *numbers)
    for row in found:
        figures = [number(row[key]) if row[key] is not None else "" for key in ("value", "parameters")]
        figures.append(f"{row['seconds']:.1f}" if row["seconds"] is not None else "")
        table.add_row(row["run_dir"], row["state"], row["metric"] or "", *figures)
    print_table(table)
