"""Show what a run's network learned, as one HTML page that needs no network.

Which units follow what is known of the text, series or sound, and the loss without them; how much context the network
uses; how saturated its gates are and how long they remember; what one prediction rests on; fixed points and Lyapunov
exponents of its cells. The validation split is read, or a file of yours.

examples:
  gatelab explain runs/quickstart/1a2b3c4d-s0
  gatelab explain RUN_DIR --input my.txt --unit layer1:35 --output mine.html
  gatelab explain RUN_DIR --probe "position in line" --json > explanation.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gatelab.cli.common import add_run_dir, loading, print_json
from gatelab.cli.report import check_output
from gatelab.run import RequestError
from gatelab.tasks.signals import finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument(
        "--input", metavar="FILE", help="what to read in place of the validation split, as `predict` reads it"
    )
    parser.add_argument(
        "--unit", action="append", default=[], metavar="LAYER:N", help="a unit to look at, e.g. layer0:17"
    )
    parser.add_argument(
        "--probe",
        action="append",
        default=[],
        metavar="NAME",
        help="look for this probe only (default: for all)",
    )
    parser.add_argument(
        "--ablations",
        type=int,
        default=12,
        metavar="N",
        help="units that are looked at and taken out, each one more pass over the sample (default: %(default)s)",
    )
    parser.add_argument(
        "--output", metavar="FILE.html", help="the page (default: explanation.html; with --json none)"
    )


def run(options: argparse.Namespace) -> int:
    """Measure and write."""
    output = None if options.json and options.output is None else Path(options.output or "explanation.html")
    if output is not None:
        if output.suffix.lower() not in (".html", ".htm"):
            raise RequestError(f"--output {output}: a page's name ends in .html.")
        check_output(output, "html")
    with loading():
        from rich.console import Console

        from gatelab.report.explanation import in_words, write_explanation
        from gatelab.run.scoring.explain import explain
    console = Console(stderr=True)
    with console.status("run") as status:
        found = explain(
            options.run_dir,
            file=options.input,
            units=options.unit,
            probes=options.probe,
            ablations=options.ablations,
            tick=status.update,
            trust=options.trust,
        )
    if output is not None:
        write_explanation(found, output)
    finish()
    if options.json:
        print_json(found)
    else:
        for unit in found["units"]:
            if unit["why"] == "asked for" or unit["why"].startswith("follows"):
                print(in_words(unit))
        print(f"explanation  {output}  ({found['seconds']:.0f} s, needs no network)")
    return 0
