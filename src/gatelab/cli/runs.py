"""List runs with what differs between them: state, start, study, those keys, the score; filtered and sorted.

A PATH is a folder of runs, a run, a study, or a folder that holds runs/ (default: paths.root, which is . by default);
an earlier run that --force set aside is listed by its own path only. A KEY is one of name, hash, seed, state, started,
study, tags, note, metric, value, parameters, seconds; a configuration key (model.hidden_size; its last parts suffice
where they are unique); or a score (valid.bpc, test.ppl).

examples:
  gatelab runs --last 10                               the ten that were started last
  gatelab runs --where 'model.hidden_size>=64' --where model=gru --sort value
  gatelab runs --name 'ptb_*' --state done --sort test.ppl --reverse --columns hidden_size,optim.lr
  gatelab runs --tag paper --json                      everything, for a program
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatelab.cli.common import add_json, number, print_json, print_table, split_root

MOST_COLUMNS = 6
"""Differing keys that a table shows; --columns names others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="where the runs are; also paths.root=DIR")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COND", help="KEY=VALUE, !=, <, >=..."
    )
    parser.add_argument("--tag", action="append", default=[], help="runs with this tag; again: with both")
    parser.add_argument("--state", help="done, pruned, failed, refused, interrupted, crashed or unfinished")
    parser.add_argument("--name", metavar="NAME", help="of the run, with * and ?, or its beginning")
    parser.add_argument(
        "--sort", default="started", metavar="KEY", help="default: started; the smallest first"
    )
    parser.add_argument("--reverse", action="store_true", help="the largest first")
    parser.add_argument("--last", type=int, metavar="N", help="only the N that were started last")
    parser.add_argument("--columns", metavar="KEY,...", help="keys to show instead of those that differ")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """List the runs."""
    from gatelab.run import RequestError
    from gatelab.run.record.listing import differences, list_runs, order, resolved_key, select
    from gatelab.study.members import runs_of_place, studies_of_runs

    if options.last is not None and options.last < 1:
        raise RequestError(f"--last {options.last}: give 1 or more.")
    paths, root = split_root(options.paths)
    places: list[str | Path] = list(paths) or [root / "runs"] * (root / "runs").is_dir()
    every = list_runs(*(run for place in places for run in runs_of_place(place)))
    members = studies_of_runs(root / "studies")
    for row in every:
        row["study"] = members.get(Path(row["run_dir"]).resolve(), [])
    rows = select(every, where=options.where, tags=options.tag, state=options.state, name=options.name)
    rows = order(rows, "-" * options.reverse + options.sort, last=options.last)
    keys = differences(rows)
    if options.columns:
        keys = [resolved_key(key.strip(), every) for key in options.columns.split(",")]
    if options.json:
        print_json([{**row, "differs": {key: row["config"].get(key) for key in keys}} for row in rows])
    elif not every:
        print(f"no runs below {', '.join(map(str, paths)) or root / 'runs'}")
    elif not rows:
        print(f"none of {len(every):,} runs matches")
    else:
        _print(rows, keys, limit=None if options.columns else MOST_COLUMNS)
        print(f"{len(rows):,} of {len(every):,} runs")
    return 0


def _print(rows: Sequence[dict[str, Any]], keys: Sequence[str], limit: int | None) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from gatelab.run.record.listing import value_of
    from gatelab.study.analysis.state import short_names, show

    shown = short_names(keys[:limit])
    facts = [name for name in ("study", "tags", "note") if any(row[name] for row in rows)]
    numbers = ("value", "parameters", "seconds")
    right = {
        key for key in shown if all(isinstance(value_of(row, key), int | float | None) for row in rows)
    } | set(numbers)
    titles = {**{key: key for key in ("run", "state", "started", *facts)}, **shown}
    titles |= {"metric": "metric", **{key: key for key in numbers}}
    table = Table(
        *(Column(text, no_wrap=True, justify="right" if k in right else "left") for k, text in titles.items())
    )
    for row in rows:
        cells = [row["run_dir"], row["state"], (row["started"] or "")[:16].replace("T", " ")]
        cells += [", ".join(row[key]) if isinstance(row[key], list) else row[key] or "" for key in facts]
        cells += ["" if (value := value_of(row, key)) is None else show(value) for key in shown]
        cells += [row["metric"] or "", *(_figure(key, row[key]) for key in numbers)]
        table.add_row(*map(escape, cells))
    print_table(table)
    if len(keys) > len(shown):
        print(f"{len(keys) - len(shown)} more keys differ; --columns KEY,... shows them, --json all of them")


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if key == "seconds" else number(value)
