"""Write a report about studies, run directories or records: one HTML page that needs no network, or Markdown, or CSV.

A PATH is a study (its name or folder), a folder of studies or of runs, a run (its directory or a unique beginning), or
a record below experiments/.
The page has leaderboards with intervals, learning curves, pictures over hidden size and all parameters, importance, a
sample of the best run, what failed and where configurations differ; it is readable on a phone and in the dark.

examples:
  gatelab report size                                  the study below ./studies, as report.html
  gatelab report runs/etth1_gru --output etth1.html    every run of a folder
  gatelab report experiments/002-hidden-size           a record, without the runs it was made from
  gatelab report size --format md --output -           to paste into a message
  gatelab report size --record hidden-size             the record experiments/NNN-hidden-size, to be committed
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.cli.common import split_root
from gatelab.data.files import atomic_write_text
from gatelab.data.messages import say
from gatelab.run import RequestError

if TYPE_CHECKING:
    from gatelab.report.gather import Subject

FORMATS = ("html", "md", "csv")
MARKS = {"html": b'name="generator" content="gatelab', "md": b"# Report: ", "csv": b"study,rank,trial,state,"}
"""What a report of each format begins with."""
FEW = 20
"""Runs that are read before one could look at a progress bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "arguments",
        nargs="+",
        metavar="PATH",
        help="what the report is about; paths.root=DIR says where studies given by name are (default: .)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file to write; - is stdout (default: report.html, report.md, report.csv)",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the file's ending, else html")
    parser.add_argument(
        "--record",
        metavar="NNN-SLUG",
        help="write a record of finished studies below experiments/ (a slug gets the next number) instead of a page; "
        "with --output or --format both",
    )
    parser.add_argument(
        "--question", metavar="TEXT", help="of a record; without it the old one, or a plain one"
    )
    parser.add_argument("--conclusion", metavar="TEXT", help="of a record; it can be edited in README.md")
    parser.add_argument("--no-samples", action="store_true", help="do not let the best runs show a sample")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run code outside Gatelab that the best runs name, for their samples, and open storages that studies name",
    )


def run(options: argparse.Namespace) -> int:
    """Write the report."""
    from rich.console import Console
    from rich.progress import Progress

    from gatelab.report.gather import gather
    from gatelab.report.page import title_of, to_markdown, to_table, write_page

    paths, root = split_root(options.arguments)
    if not paths:
        raise RequestError("give at least one study, run directory or record.")
    form = _format(options.format, options.output)
    output = Path(options.output or f"report.{form}")
    if options.output or options.format or not options.record:
        check_output(output, form)
    if (options.question or options.conclusion) and not options.record:
        raise RequestError("--question and --conclusion are for --record.")
    subjects, notes = gather(paths, root / "studies", trust=options.trust)
    if options.record:
        for file in _record(subjects, options):
            print(f"record  {file}")
        if not (options.output or options.format):
            return 0
    if form == "html":
        runs = sum(len(trial.runs) for subject in subjects for trial in subject.state.trials)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal or runs < FEW) as bar:
            task = bar.add_task("runs", total=runs)
            write_page(
                subjects,
                output,
                notes=notes,
                samples=not options.no_samples,
                trust=options.trust,
                tick=lambda: bar.advance(task),
            )
        print(f"report  {output}  ({output.stat().st_size / 1e6:.1f} MB, needs no network)")
        return 0
    for note in notes:
        say(f"not read: {note}")
    content = to_table(subjects) if form == "csv" else to_markdown(subjects, title_of(subjects), notes)
    if options.output == "-":
        print(content, end="")
        return 0
    atomic_write_text(output, content)
    print(f"report  {output}")
    return 0


def _record(subjects: Sequence[Subject], options: argparse.Namespace) -> list[Path]:
    from gatelab.report.experiment_record import record_target, write_record

    other = [subject.state.name for subject in subjects if subject.kind != "study"]
    if other:
        raise RequestError(f"--record {options.record}: a record is of studies; {other[0]} is not a study.")
    folders = [subject.state.directory for subject in subjects]
    target = record_target(options.record)
    return write_record(folders, target, options.question, options.conclusion, trust=options.trust)


def check_output(output: Path, form: str) -> None:
    """Refuse to replace anything but an earlier report."""
    if not output.exists() or str(output) == "-":
        return
    if not output.is_file():
        raise RequestError(f"--output {output}: is not a file; give another name.")
    with output.open("rb") as file:
        if MARKS[form] not in file.read(1000):
            raise RequestError(f"--output {output}: is not a report; remove it first, or give another name.")


def _format(asked: str | None, output: str | None) -> str:
    ending = Path(output or "").suffix.lower().lstrip(".")
    ending = {"htm": "html", "markdown": "md"}.get(ending, ending)
    form = asked or (ending if ending in FORMATS else "html")
    if output == "-" and form == "html":
        raise RequestError("--output -: a page is a file; give its name, or --format md or csv.")
    if output not in (None, "-") and ending != form:
        raise RequestError(f"--output {output}: the format is {form}, so let the name end in .{form}.")
    return form
