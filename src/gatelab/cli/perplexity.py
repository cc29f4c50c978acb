"""Score any text with a trained language model: loss, perplexity, bits per character.

The text is read as one stream, from the state at the beginning of a split, and every token is scored once. A large file
is read in parts. With --per-token a CSV of all tokens is printed while the text is read, and the scores go to stderr;
--per-token --json holds all of it in one document.

examples:
  gatelab perplexity runs/quickstart/1a2b3c4d-s0 my.txt
  head -n 20 my.txt | gatelab perplexity RUN_DIR - --per-token > tokens.csv
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from typing import TYPE_CHECKING, Any

from gatelab.cli.common import add_run_dir, loading, number, print_json, print_table, scores_table
from gatelab.data.messages import say
from gatelab.tasks.signals import finish

if TYPE_CHECKING:
    from gatelab.tasks.contract import TokenScores

COLUMNS = ("position", "id", "token", "nll", "bits")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument("file", metavar="FILE", help="a text in UTF-8, or - for the standard input")
    parser.add_argument(
        "--per-token",
        action="store_true",
        help=f"print a CSV, a row a token: {', '.join(COLUMNS)} (nats, bits)",
    )
    parser.add_argument(
        "--window",
        type=int,
        default=256,
        metavar="STEPS",
        help="steps that are read at once; it does not change the scores (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Score and print."""
    with loading():
        from gatelab.run.scoring.evaluate import perplexity

    rows = Rows(keep=options.json) if options.per_token else None
    scores = perplexity(
        options.run_dir,
        options.file,
        window=options.window,
        each=rows.add if rows else None,
        trust=options.trust,
    )
    finish()
    if options.json:
        report = {"run": options.run_dir, "file": options.file, **scores}
        print_json(report if rows is None else {**report, "per_token": rows.kept})
    elif rows is not None:
        say(", ".join(f"{name} {number(value)}" for name, value in scores.items()))
    else:
        print_table(scores_table(options.file, {"this run": scores}))
    return 0


class Rows:
    """The rows of the tokens: printed as CSV when they come, or kept."""

    def __init__(self, *, keep: bool) -> None:
        self.count = 0
        self.kept: list[dict[str, Any]] | None = [] if keep else None
        self._csv = csv.writer(sys.stdout, lineterminator="\n")

    def add(self, scores: TokenScores) -> None:
        """Take some tokens."""
        if self.kept is None and not self.count:
            self._csv.writerow(COLUMNS)
        for token, text, nll in zip(*scores, strict=True):
            row = (self.count, token, text, nll, nll / math.log(2))
            self.count += 1
            if self.kept is None:
                self._csv.writerow(row)
            else:
                self.kept.append(dict(zip(COLUMNS, row, strict=True)))
