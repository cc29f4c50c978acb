"""The table of records in experiments/RECORDS.md: the least seconds of training to a mark, one row for each record set.

A run that is given is judged by its own record: it must be finished, of the mark's data, run from a clean checkout, and
its static score must be at the mark or below. If its seconds of training (validations between epochs included) are
fewer than those of the mark's last row, it becomes a row. The rows lie in experiments/records/rows.json, the logs
beside them; the page is made from these. `--check` makes the page again and compares.

examples:
  python -m scripts.records runs/ptb_awd_gru_small/0a1b2c3d-s0
  python -m scripts.records --check
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelab.data.messages import counted
from gatelab.report.experiment_record import shown_command
from gatelab.run.record.directory import RunDirectory, read_metrics
from scripts import harness

FOLDER = harness.ROOT / "experiments"
ROWS, PAGE = FOLDER / "records" / "rows.json", FOLDER / "RECORDS.md"
LOG = ("epoch", "val/loss", "time/epoch_seconds")


@dataclass(frozen=True)
class Mark:
    """What has to be reached: `metric` of `split` of `corpus` at most `bound`, on a machine of one kind."""

    name: str
    title: str
    corpus: str
    split: str
    metric: str
    bound: float
    accelerator: str = "cpu"
    threads: int = 2

    def refusal(self, record: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
        """Why a run sets no record here; None if it may."""
        config, environment = record["config"], record["attempts"][-1]["environment"]
        if config["data"].get("corpus") != self.corpus:
            return f"its data are {config['data'].get('corpus')}, not {self.corpus}"
        if config["data"].get("vocabulary_size") or config["data"].get("folds") or config["data"].get("path"):
            return "its vocabulary or its split is not the corpus's own"
        on_gpu = bool(environment["gpus"]) and config["trainer"]["accelerator"] != "cpu"
        if on_gpu != (self.accelerator == "gpu"):
            return f"it ran on {'a GPU' if on_gpu else 'a CPU'}"
        if not on_gpu and environment["threads"] > self.threads:
            return f"it had {environment['threads']} threads, not {self.threads}"
        if self.split not in result["splits"]:
            return f"it has no score on {self.split}"
        score = result["splits"][self.split]["metrics"][self.metric]
        return (
            None
            if score <= self.bound
            else f"{self.split} {self.metric} is {score:.4g}, above {self.bound:g}"
        )


MARKS = (
    Mark("ptb-100", "PTB words, test perplexity at most 100, two cores", "ptb_word", "test", "ppl", 100.0),
    Mark(
        "shakespeare-1.50",
        "tiny Shakespeare, carried validation loss at most 1.50 nats a character, two cores",
        "tinyshakespeare",
        "valid",
        "loss",
        1.50,
    ),
    Mark("ptb-65", "PTB words, test perplexity at most 65, one GPU", "ptb_word", "test", "ppl", 65.0, "gpu"),
)


HEAD = """# Records: the least time to a mark

The least seconds of training, validations between epochs included, that reached a mark; a row for each record set, the
last one stands. Scores are static and of the best checkpoint. Whoever beats a row adds one: commit, train from a clean
checkout, then `python -m scripts.records RUN_DIR`, which writes this page."""
COLUMNS = (
    "| seconds | score | parameters | date | commit | command | processor | log |",
    "| ---: | ---: | ---: | --- | --- | --- | --- | --- |",
)


def row_of(
    mark: Mark, run: RunDirectory, record: Mapping[str, Any], result: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of a run that may set a record."""
    attempt = record["attempts"][-1]
    git = attempt["environment"]["git"]
    if git is None or git["diff"]:
        raise SystemExit(f"{run.path}: its code is not that of a commit, so that nobody could run it again")
    return {
        "mark": mark.name,
        "seconds": result["seconds"]["fit"],
        "score": result["splits"][mark.split]["metrics"][mark.metric],
        "date": result["finished"][:10],
        "commit": git["revision"][:9],
        "command": shown_command(attempt["command"]),
        "parameters": result["parameters"],
        "processor": ", ".join(attempt["environment"]["gpus"]) or attempt["environment"]["cpu"],
        "run": f"{record['identity']['hash8']}-s{record['identity']['seed']}",
    }


def add(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add the rows that a run earns to `rows`, with its log; say why where it earns none."""
    run = RunDirectory(path)
    record, result = run.read(), run.result()
    if result is None or result["outcome"] != "done":
        raise SystemExit(f"{path}: the run is not finished")
    for mark in MARKS:
        if config_corpus(record) != mark.corpus:
            continue
        if (why := mark.refusal(record, result)) is not None:
            print(f"{path}: not for {mark.name}: {why}")
            continue
        row, last = row_of(mark, run, record, result), best(mark, rows)
        if last is not None and row["seconds"] >= last["seconds"]:
            print(
                f"{path}: not for {mark.name}: {row['seconds']:g} s, and the record is {last['seconds']:g} s"
            )
            continue
        row["log"] = f"records/{mark.name}-{row['run']}.csv"
        ROWS.parent.mkdir(exist_ok=True)
        (FOLDER / row["log"]).write_text(log_of(run))
        rows.append(row)
        print(f"{path}: the record of {mark.name}: {row['seconds']:g} s")


def config_corpus(record: Mapping[str, Any]) -> Any:
    """The corpus of a run, None if its data have none."""
    return record["config"]["data"].get("corpus")


def best(mark: Mark, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The record that stands: the last row of a mark."""
    return next((row for row in reversed(rows) if row["mark"] == mark.name), None)


def log_of(run: RunDirectory) -> str:
    """A line for each epoch, from 1, as CSV: the validation loss and the seconds of the training steps."""
    epochs: dict[int, dict[str, str]] = {}
    for row in read_metrics(run.metrics_file):
        found = {key: row[key] for key in LOG[1:] if row.get(key)}
        if found:
            number = int(row["epoch"]) + 1
            epochs.setdefault(number, {"epoch": str(number)}).update(found)
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG, lineterminator="\n")
    writer.writeheader()
    writer.writerows(epochs.values())
    return text.getvalue()


def page(rows: list[dict[str, Any]]) -> str:
    """The page: a table for each mark, its records in the order in which they were set."""
    parts = [HEAD]
    for mark in MARKS:
        lines = [line(row) for row in rows if row["mark"] == mark.name]
        parts.append(
            "\n".join([f"## {mark.title}\n", *([*COLUMNS, *lines] if lines else ["No record yet."])])
        )
    return "\n\n".join(parts) + "\n"


def line(row: Mapping[str, Any]) -> str:
    """A row of a table in Markdown."""
    cells = [
        f"{row['seconds']:.0f}",
        f"{row['score']:.4g}",
        f"{row['parameters']:,}",
        row["date"],
        f"`{row['commit']}`",
        f"`{row['command']}`",
        row["processor"],
        f"[log]({row['log']})",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    p = harness.parser(__doc__)
    p.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIR")
    p.add_argument("--check", action="store_true", help="exit with 1 if the page is not the one of the rows")
    options = p.parse_args()
    rows: list[dict[str, Any]] = harness.read_json(ROWS) or []
    if options.check:
        same = PAGE.is_file() and PAGE.read_text() == page(rows)
        print(
            f"{PAGE.name}: {counted(len(rows), 'row')}, {'as they are' if same else 'NOT what the page says'}"
        )
        return 0 if same else 1
    for run in options.runs:
        add(run, rows)
    harness.write_json(ROWS, rows)
    PAGE.write_text(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
