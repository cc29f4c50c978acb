"""Result files in a study's folder: leaderboard.csv, summary.json, study.png and experiment/.

Each file is replaced in one step, so that the report can be written again at any time, also while the study runs.
"""

from __future__ import annotations

from pathlib import Path

from gatelab.data.files import atomic_write_text, write_json
from gatelab.report.export_experiment import command, write_best
from gatelab.report.picture import write_picture
from gatelab.report.text import summary
from gatelab.study.analysis.leaderboard import leaderboard, to_csv
from gatelab.study.analysis.read import read_study


def write_report(directory: str | Path, *, x: str | None = None, by: str | None = None) -> list[str]:
    """Write the views of the study in `directory` into it.

    Args:
        x, by: of the picture, as `picture.curves` takes them.

    Returns:
        a line for each file, and how the best configuration is trained.

    Raises:
        RequestError: no study, or a file of it that cannot be read.
    """
    state = read_study(directory)
    folder = state.directory
    atomic_write_text(folder / "leaderboard.csv", to_csv(state, leaderboard(state)))
    write_json(folder / "summary.json", summary(state))
    lines = [f"leaderboard  {folder / 'leaderboard.csv'}", f"summary      {folder / 'summary.json'}"]
    picture = write_picture([state], folder / "study.png", x=x, by=by)
    if picture:
        lines.append(f"picture      {picture}")
    for name, file in write_best(state).items():
        lines += [f"experiment   {file}", f"             {command(state, name)}"]
    return lines
