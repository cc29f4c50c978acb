"""Show what differs between two runs: configuration, code, versions, hardware, data, scores, and the first step in
which they diverge.

example:
  gatelab diff runs/etth1_gru/1a2b3c4d-s0 runs/etth1_gru/1a2b3c4d-s1
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gatelab.cli.common import RUN, add_json, number, print_json, print_table

if TYPE_CHECKING:
    from gatelab.run.diff import Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("first", metavar="RUN_A", help=RUN)
    parser.add_argument("second", metavar="RUN_B", help="another one")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Compare and print."""
    from gatelab.run.diff import compare

    found = compare(options.first, options.second)
    print_json(asdict(found)) if options.json else _print(found)
    return 0


def _print(found: Comparison) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from gatelab.run.diff import shown

    def cell(value: Any) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return number(value)
        return "" if value is None else escape(shown(value))

    table = Table(*(Column(name, overflow="fold") for name in ("", "A", "B")))
    for name in ("config", "environment", "data", "figures"):
        rows = getattr(found, name)
        table.add_row(f"[bold]{name}[/]", "" if rows else "the same", "" if rows else "the same")
        for item in rows:
            table.add_row(f"  {item.key}", cell(item.first), cell(item.second))
        table.add_section()
    print(f"A: {found.runs[0]}\nB: {found.runs[1]}")
    print_table(table)
    if found.compared is None:
        print("no trace.csv in one of them, so their steps cannot be compared")
    elif found.divergence is None:
        print("every step's loss and every epoch's weights are the same, bit for bit")
    else:
        print(f"they diverge at {found.divergence.describe('A', 'B')}")
