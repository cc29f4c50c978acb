"""Score a run's best checkpoint on a split, beside the trivial baselines. Needs nothing but the run directory."""

from __future__ import annotations

import argparse

from gatelab.cli.common import add_run_dir, loading, print_json, print_table, scores_table
from gatelab.data.messages import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="how the data is read, e.g. data.eval_window=7 or data.mirror=DIR; it does not change the score",
    )
    parser.add_argument(
        "--split", choices=("valid", "test"), default=None, help="default: test, where there is one"
    )
    parser.add_argument(
        "--accelerator", choices=("cpu", "gpu"), default=None, help="default: what the run was trained on"
    )


def run(options: argparse.Namespace) -> int:
    """Score and print."""
    with loading():
        from gatelab.run.evaluate import evaluate

    report = evaluate(
        options.run_dir,
        options.split,
        overrides=options.overrides,
        accelerator=options.accelerator,
        trust=options.trust,
    )
    if report["checkpoint"] != "best.ckpt":
        say(f"warning: {report['run']} has no best.ckpt; this is the score of {report['checkpoint']}")
    if options.json:
        print_json(report)
        return 0
    title = f"{report['split']} split, {report['checkpoint']}, {report['seconds']:.1f} s"
    print_table(scores_table(title, {"this run": report["metrics"], **report["baselines"]}))
    return 0
