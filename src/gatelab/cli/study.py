"""Show a study: its leaderboard with intervals, what matters, what went wrong; without a name, list the studies.

It only reads, from any process and while the study runs. `--write` puts leaderboard.csv, the best configuration
(experiment/best.yaml), study.png and summary.json into the study's folder, as a sweep does at its end.

examples:
  gatelab study                                        every study below ./studies, with its state
  gatelab study hidden --watch                         follow it until it ends
  gatelab study hidden --json                          each trial: number, state, params, value, run directory
  gatelab study hidden --write --x lr --by model       the picture over another parameter
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gatelab.cli.common import add_json, number, print_json, print_parts, print_table, split_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="NAME",
        help="the study (or its folder); paths.root=DIR says where the studies are (default: .)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="follow the study until it ends; Ctrl-C ends the view only"
    )
    parser.add_argument("--all", action="store_true", help="every row of the leaderboard, not the first 20")
    parser.add_argument("--write", action="store_true", help="write the report into the study's folder")
    parser.add_argument("--x", metavar="KEY", help="with --write: what runs along the picture's x axis")
    parser.add_argument("--by", metavar="KEY", help="with --write: what tells the picture's lines apart")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open a storage outside of the study's folder, and with --write import classes that it names",
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Show one study, or list them all."""
    from gatelab.run import RequestError
    from gatelab.study.analysis.read import find_study

    names, root = split_root(options.arguments)
    other = [name for name in names if "=" in name]
    if len(names) > 1 or other:
        raise RequestError(
            f"{(other or names[1:])[0]}: give one study's name and, if need be, paths.root=DIR."
        )
    if (options.x or options.by) and not options.write:
        raise RequestError("--x and --by are for the picture that --write draws.")
    studies = root / "studies"
    if not names:
        if options.watch or options.write:
            raise RequestError("--watch and --write need the study's name.")
        return _list(studies, options.json, trust=options.trust)
    directory = find_study(studies, names[0])
    if options.watch:
        from gatelab.report.text import watch

        watch(directory, trust=options.trust)
    return _show(directory, options)


def _show(directory: Path, options: argparse.Namespace) -> int:
    from gatelab.report.text import render, summary
    from gatelab.study.analysis.read import read_study

    lines: list[str] = []
    if options.write:
        from gatelab.report.files import write_report

        lines = write_report(directory, x=options.x, by=options.by, trust=options.trust)
    state = read_study(directory, trust=options.trust)
    if options.json:
        print_json(summary(state))
        return 0
    print_parts(render(state, limit=None if options.all else 20))
    if lines:
        print("\n".join(["", *lines]))
    return 0


def _list(studies: Path, as_json: bool, *, trust: bool) -> int:
    from gatelab.study.analysis.read import list_studies

    found = list_studies(studies, trust=trust)
    if as_json:
        print_json(found)
    elif not found:
        print(f"no studies below {studies}")
    else:
        _print_list(found)
    return 0


def _print_list(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    columns = ("done", "running", "pruned", "failed", "waiting")
    table = Table()
    for column in ("study", "state", *columns, "metric", "best", "begun"):
        right = column in (*columns, "best")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "state")
    for row in found:
        if row["state"] == "unreadable":
            table.add_row(row["name"], f"unreadable: {row['error']}")
            continue
        counts = (str(row["counts"][column] or "") for column in columns)
        best = "" if row["best"] is None else number(row["best"])
        table.add_row(row["name"], row["state"], *counts, row["metric"], best, row["created"][:16])
    print_table(table)
