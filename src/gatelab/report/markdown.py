"""A report without a browser: Markdown to paste, CSV to compute with. The same figures as the page's."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from gatelab.report.experiment_record import sections, shown_command
from gatelab.report.gather import Subject
from gatelab.report.text import headline
from gatelab.study.analysis.leaderboard import leaderboard, to_csv


def to_markdown(subjects: Sequence[Subject], title: str, notes: Sequence[str] = ()) -> str:
    """Headline, leaderboard, verdict, importance and cost of each subject."""
    states = [subject.state for subject in subjects]
    blocks = [f"# {title}"]
    for state in states:
        blocks += [f"## {state.name}", f"{headline(state)}."]
        if state.command:
            blocks.append(f"```bash\n{shown_command(state.command)}\n```")
        if state.done:
            blocks += sections(state)
    return "\n\n".join([*blocks, *(f"Not read: {note}" for note in notes)]) + "\n"


def to_table(subjects: Sequence[Subject]) -> str:
    """`leaderboard.csv` of every subject, one below the other, with a column `study` in front."""
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        text = to_csv(subject.state, leaderboard(subject.state))
        rows += [{"study": subject.state.name, **row} for row in csv.DictReader(io.StringIO(text))]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    last = [key for key in ("solved_size", "parameters", "seconds", "runs", "error") if key in columns]
    columns = [*(key for key in columns if key not in last), *last]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
