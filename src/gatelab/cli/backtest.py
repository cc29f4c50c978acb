"""Rolling origin: forecast the last windows of a run's data, one origin after the other, and score them.

Without --refit only the test split is forecast. With it a run is trained for each window on all rows before it.

examples:
  gatelab backtest runs/etth1_gru/1a2b3c4d-s0 --windows 20 --step 96 --plot backtest.png
  gatelab backtest runs/etth1_gru/1a2b3c4d-s0 --windows 3 --refit --conformal --json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.cli.common import (
    add_run_dir,
    figures_table,
    loading,
    print_json,
    print_table,
    scores_table,
    split_names,
)
from gatelab.run.record.outputs import check_picture
from gatelab.tasks.signals import finish

if TYPE_CHECKING:
    from rich.table import Table

STEPS = 8
"""Horizon steps of the table; --json has them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument(
        "--windows",
        type=int,
        default=None,
        metavar="N",
        help="how many (default: as many as the test split has)",
    )
    parser.add_argument(
        "--step",
        type=int,
        default=None,
        metavar="S",
        help="rows between their origins (default: the horizon)",
    )
    parser.add_argument(
        "--refit", action="store_true", help="train anew before each window, kept below the run"
    )
    parser.add_argument(
        "--conformal", action="store_true", help="intervals calibrated on the validation split"
    )
    parser.add_argument(
        "--baselines",
        default="",
        metavar="NAME[,NAME]",
        help="beside the trivial models: auto_ets, auto_arima (need gatelab[forecast], and minutes)",
    )
    parser.add_argument(
        "--format", choices=("fev", "gift"), help="print a row of that leaderboard as CSV instead"
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw the forecasts of the first target")


def run(options: argparse.Namespace) -> int:
    """Backtest and print."""
    plot = None if options.plot is None else Path(options.plot)
    if plot is not None:
        check_picture(plot, options.run_dir)
    with loading():
        from gatelab.run.scoring.backtest import backtest

    report = backtest(
        options.run_dir,
        options.windows,
        options.step,
        refit=options.refit,
        conformal=options.conformal,
        baselines=split_names(options.baselines),
        trust=options.trust,
    )
    sample = report.pop("sample")
    if plot is not None:
        from gatelab.report.forecast_picture import write_forecasts

        write_forecasts([sample], plot)
        report["plot"] = str(plot)
    finish()
    if options.format:
        from gatelab.data.files import csv_text
        from gatelab.run.scoring.leaderboard import backtest_rows

        rows = backtest_rows(options.format, report, trust=options.trust)
        print(csv_text(rows[0], rows), end="")
    elif options.json:
        print_json(report)
    else:
        _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
    windows = report["windows"]
    how = "each trained anew" if report["refit"] else "trained once"
    by_window = [(window["time"] or f"row {window['row']:,}", window["metrics"]) for window in windows]
    print_table(figures_table("By window", "origin", report["shown"], by_window))
    print_table(_by_step(report))
    title = f"{len(windows)} windows, {report['step']} rows apart, {how}, {report['seconds']:.1f} s"
    print_table(scores_table(title, {"this run": report["metrics"], **report["baselines"]}))
    if "plot" in report:
        print(f"drawn to {report['plot']}")


def _by_step(report: dict[str, Any]) -> Table:
    """The first step, the last, and some between them."""
    steps = report["per_step"]
    names = [name for name in ("mae", *report["shown"]) if name in steps]
    count = len(steps["mae"])
    places = sorted({round(i * (count - 1) / (STEPS - 1)) for i in range(STEPS)})
    rows = [(str(place + 1), {name: steps[name][place] for name in names}) for place in places]
    return figures_table("By horizon step", "step ahead", names, rows)
