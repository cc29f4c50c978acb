"""Score a run, or every run of a study, on a split, beside the trivial baselines. Needs the run directories only.

The best checkpoint is scored. If a finished run has no scores of a split yet (trained with test=false), they are added
to its result.json, so that `gatelab study` and `report` show them. Of a study, the same command scores what is missing.

examples:
  gatelab eval runs/ptb_gru/1a2b3c4d-s0 --split valid
  gatelab eval runs/etth1_gru/1a2b3c4d-s0 --rows conformal --format gift
  gatelab eval studies/hidden                          every run of a study on its test split
  gatelab eval runs/ptb_gru/1a2b3c4d-s0 --rows cache,dynamic cache.theta=0.3 dynamic.rate=1e-4,3e-4
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.cli.common import (
    RUN,
    add_run_dir,
    loading,
    number,
    print_json,
    print_parts,
    print_table,
    scores_table,
    split_names,
)
from gatelab.data.messages import counted, printable, say
from gatelab.run import RequestError
from gatelab.tasks.signals import finish

if TYPE_CHECKING:
    from rich.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser, f"{RUN}, or a study: its name or folder")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="where the data are now, e.g. data.path=FILE, or how they are read, e.g. data.eval_window=7 (with the "
        "latter no score is added to result.json). "
        "Parameters of --rows, e.g. cache.theta=0.3; of several (0.1,0.3) the best on valid is taken",
    )
    parser.add_argument(
        "--rows",
        default="",
        metavar="NAME[,NAME]",
        help="score in other ways too, marked as such and kept with the run: of a language model cache, dynamic, "
        "temperature, mc-dropout; of a forecaster conformal; or all. Parameters that are not given are tuned on valid",
    )
    parser.add_argument(
        "--format",
        choices=("fev", "gift"),
        default=None,
        help="of a forecaster: print the columns of that public leaderboard as CSV instead, a line for the run and "
        "each of its --rows",
    )
    parser.add_argument(
        "--split", choices=("valid", "test"), default=None, help="default: test, where there is one"
    )
    parser.add_argument(
        "--accelerator", choices=("cpu", "gpu"), default=None, help="default: what the run was trained on"
    )


def run(options: argparse.Namespace) -> int:
    """Score and print."""
    from gatelab.study.members import study_of_place

    rows = split_names(options.rows)
    if (study := study_of_place(options.run_dir)) is not None:
        return _score_study(study, rows, options)
    with loading():
        from gatelab.run.scoring.evaluate import evaluate

    report = evaluate(
        options.run_dir,
        options.split,
        overrides=options.overrides,
        rows=rows,
        accelerator=options.accelerator,
        trust=options.trust,
    )
    finish()
    if report["kept"]:
        say(f"the scores on {report['split']} are {report['kept']}")
    if report["checkpoint"] != "best.ckpt":
        say(f"warning: {report['run']} has no best.ckpt; this is the score of {report['checkpoint']}")
    if options.format:
        from gatelab.data.files import csv_text
        from gatelab.run.scoring.leaderboard import evaluation_rows

        lines = evaluation_rows(options.format, report, trust=options.trust)
        print(csv_text(lines[0], lines), end="")
        return 0
    if options.json:
        print_json(report)
        return 0
    title = f"{report['split']} split, {report['checkpoint']}, {report['seconds']:.1f} s"
    print_table(scores_table(title, {"this run": report["metrics"], **report["baselines"]}))
    if report["rows"]:
        print_table(_rows_table(report["rows"]))
        for row in report["rows"]:
            print(printable(f"{row['title']}: {row['what']}"))
    return 0


def _score_study(directory: Path, rows: list[str], options: argparse.Namespace) -> int:
    """Score every finished run of a study, telling each, and print what the test split says of its trials."""
    with loading():
        from gatelab.report.text import render
        from gatelab.study.analysis.read import read_study
        from gatelab.study.score import finished_runs, score_study

    if options.format:
        raise RequestError(f"--format {options.format} is of one run, and {directory} is a study.")
    state = read_study(directory, trust=options.trust)
    if not (total := len(finished_runs(state))):
        raise RequestError(f"{directory}: no trial has finished yet.")
    asked = {"overrides": options.overrides, "rows": rows, "accelerator": options.accelerator}
    metric, found = state.objectives[0].name, []
    for done, one in enumerate(score_study(state, options.split, **asked, trust=options.trust), 1):
        found.append(one)
        figure = f", {metric} {number(one.metrics[metric])}" if metric in one.metrics else ""
        say(
            f"{done} of {total}, trial {one.trial}, {os.path.relpath(one.run)}, {one.split}{figure}: {one.how}"
        )
    finish()
    failed = [one for one in found if not one.metrics]
    if options.json:
        print_json({"study": str(directory), "runs": [vars(one) for one in found]})
    elif len(failed) < total:
        print_parts(render(read_study(directory, trust=options.trust)))
    if failed:
        say(f"{len(failed)} of {counted(total, 'run')} could not be scored, as said above")
    return 1 if failed else 0


def _rows_table(rows: list[dict[str, Any]]) -> Table:
    """The split scored otherwise: a line a method."""
    from rich.markup import escape
    from rich.table import Table

    from gatelab.run.record.rows import shown_parameters

    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    table = Table("method", title="Scored otherwise (* tuned on valid)", title_justify="left")
    for name in (*metrics, "seconds"):
        table.add_column(name, justify="right")
    table.add_column("with")
    for row in rows:
        figures = [number(row["metrics"][name]) if name in row["metrics"] else "" for name in metrics]
        texts = [escape(printable(text)) for text in (row["title"], shown_parameters(row))]
        table.add_row(texts[0], *figures, f"{row['seconds']:.1f}", texts[1])
    return table
