"""Apply a run to new input and write what it predicts.

A forecaster continues a table after its last row, in original units. A classifier gives each text, sequence or sound a
class and its probability, a recogniser a transcript. A translator translates every line of a text file, a language
model continues it. The output is .csv, .parquet or .jsonl; of texts also .txt, with the last column only.

examples:
  gatelab predict runs/etth1_gru/1a2b3c4d-s0 --input recent.csv --output forecast.csv
  gatelab predict runs/retail_panel/1a2b3c4d-s0 --input sales.csv --future plans.csv --output forecast.csv
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.cli.common import add_run_dir, loading, print_json
from gatelab.data.files import atomic_write_bytes
from gatelab.data.messages import counted
from gatelab.run import RequestError
from gatelab.run.record.outputs import check_output, check_picture
from gatelab.tasks.signals import finish

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".parquet", ".jsonl", ".txt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="new input, as the run's data are read: a table with its channels, sentences, a .wav or a folder of them",
    )
    parser.add_argument(
        "--future",
        metavar="FILE",
        help="of a panel: what is known of the steps to forecast (default: rows of --input without a target)",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="CSV, Parquet, JSON lines or plain lines to write"
    )
    parser.add_argument(
        "--conformal",
        action="store_true",
        help="quantiles that are calibrated on the run's validation split, also of a model that gives points",
    )
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw what came before, the forecast and its intervals"
    )
    parser.add_argument("--force", action="store_true", help="replace an output that is there")


def run(options: argparse.Namespace) -> int:
    """Predict and write."""
    output, given = Path(options.output), Path(options.input)
    if output.suffix.lower() not in ENDINGS:
        raise RequestError(f"{output}: give a name that ends in {', '.join(ENDINGS)}.")
    known = [given] if options.future is None else [given, Path(options.future)]
    for file in known:
        check_output(output, options.run_dir, given=file)
    if output.exists() and not options.force:
        raise RequestError(f"--output {output}: exists already; --force replaces it.")
    plot = None if options.plot is None else Path(options.plot)
    if plot is not None:
        for file in known:
            check_picture(plot, options.run_dir, given=file)
    with loading():
        from gatelab.run.scoring.evaluate import predict_and_show

    frame, samples = predict_and_show(
        options.run_dir,
        given,
        future=options.future,
        conformal=options.conformal,
        trust=options.trust,
        show=plot is not None,
    )
    if plot is not None and not samples:
        raise RequestError("--plot: this task has nothing to draw; leave it out.")
    try:
        _write(frame, output.resolve())  # the file behind a link
    except OSError as error:
        raise RequestError(f"{output}: cannot be written: {error}") from None
    if plot is not None:
        from gatelab.report.forecast_picture import write_forecasts

        write_forecasts(samples, plot)
    finish()
    if options.json:
        plotted = {} if plot is None else {"plot": options.plot}
        facts = {"output": options.output, "rows": len(frame), "columns": list(frame.columns)}
        print_json(facts | plotted)
    else:
        print(
            f"{counted(len(frame), 'row')} of {', '.join(map(str, frame.columns))} written to {options.output}"
        )
    return 0


def _write(frame: pd.DataFrame, output: Path) -> None:
    if output.suffix.lower() == ".parquet":
        content = frame.to_parquet(None, index=False)
    elif output.suffix.lower() == ".csv":
        content = frame.to_csv(index=False).encode()
    elif output.suffix.lower() == ".txt":
        content = "".join(f"{value}\n" for value in _lines(frame, output)).encode()
    else:
        rows = frame.to_dict("records")
        content = "".join(f"{json.dumps(row, default=str)}\n" for row in rows).encode()
    atomic_write_bytes(output, content)


def _lines(frame: pd.DataFrame, output: Path) -> list[str]:
    """The last column of a frame as lines of text.

    Raises:
        RequestError: the column is no text, or a value has several lines.
    """
    if frame.dtypes.iloc[-1].kind == "f":
        raise RequestError(
            f"{output}: .txt takes the last column alone, here the numbers of {frame.columns[-1]!r}; write .csv, "
            ".parquet or .jsonl, which take all columns."
        )
    values = [str(value) for value in frame.iloc[:, -1]]
    if broken := [number for number, value in enumerate(values, 1) if len(value.splitlines()) > 1]:
        raise RequestError(
            f"{output}: row {broken[0]} has several lines; write .csv, .parquet or .jsonl, which keep rows apart."
        )
    return values
