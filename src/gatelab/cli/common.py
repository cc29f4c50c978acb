"""Shared by several commands: arguments for overrides, the list of choices, JSON and table output."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.tasks.signals import finish

if TYPE_CHECKING:
    from rich.table import Table

RUN = "a run directory, or a unique beginning of its name or hash (`gatelab runs` lists them)"
_LARGE = 1e12
"""From here on a figure is written with an exponent."""
GROUPS = (
    "experiment",
    "data",
    "task",
    "model",
    "optim",
    "schedule",
    "trainer",
    "callbacks",
    "averaging",
    "logger",
    "debug",
)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`[overrides ...] [--config-dir DIR] [--json]`, and the choices of every group at the end of the help."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="e.g. model=gru model.hidden_size=256 optim.lr=1e-3"
    )
    parser.add_argument(
        "--config-dir",
        action=_ConfigDir,
        default=[],
        type=Path,
        metavar="DIR",
        help="a further folder with configurations, laid out like conf/ (e.g. DIR/experiment/mine.yaml)",
    )
    add_json(parser)
    parser.epilog = choices_epilog()


def split_root(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """The arguments that are not `paths.KEY=VALUE`, and the `paths.root` that those say (default: .)."""
    from gatelab.run.config import compose

    overrides = [given for given in arguments if given.startswith("paths.")]
    rest = [given for given in arguments if not given.startswith("paths.")]
    return rest, Path(compose(overrides).resolved()["paths"]["root"])


def add_run_dir(parser: argparse.ArgumentParser, what: str = RUN) -> None:
    """`RUN_DIR [--trust] [--json]`."""
    parser.add_argument("run_dir", metavar="RUN_DIR", help=what)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run code outside Gatelab that the run names, e.g. your own network",
    )
    add_json(parser)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import large libraries inside: no garbage collection, which takes a fifth of the time, and no signal handling.

    A stop signal is acted on afterwards: raised inside an import it leaves half a module, or is lost in C code.
    """
    from gatelab.tasks.signals import noted

    gc.disable()
    try:
        with noted() as signals:
            yield
    finally:
        gc.freeze()
        gc.enable()
    signals.act()


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def split_names(text: str) -> list[str]:
    """The names in `NAME,NAME`; none in an empty text."""
    return [name.strip() for name in text.split(",") if name.strip()]


def choices_epilog(more: Sequence[str] = ()) -> str:
    """The choices of every configuration group, and of `more` of them, read from the file names."""
    from gatelab.run import CONF_DIR

    lines = ["choices (group=choice; any key inside can be given too, e.g. data.batch_size=64):"]
    lines += [f"  {group + '=':12}{', '.join(choices(group))}" for group in (*more, *GROUPS)]
    lines.append(
        "\n`gatelab check KEY=VALUE ...` prints every key with its value. What a key means stands in"
    )
    lines.append(f"{CONF_DIR}/train.yaml and GROUP/CHOICE.yaml beside it.")
    lines.append("\npaths.root=DIR moves everything that a command writes.")
    return "\n".join(lines)


def choices(group: str, folder: Path | None = None) -> list[str]:
    """The choices of a configuration group in a folder (None: Gatelab's own)."""
    from gatelab.run import CONF_DIR

    files = ((folder or CONF_DIR) / group).glob("*.yaml")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


class _ConfigDir(argparse.Action):
    """Collect the folders, and list their choices in the help that is asked for after them."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *_: Any) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])
        found = {group: choices(group, values) for group in (*GROUPS, "search")}
        lines = [f"  {group + '=':12}{', '.join(names)}" for group, names in found.items() if names]
        parser.epilog = "\n".join([parser.epilog or "", f"\nchoices in {values}:", *(lines or ["  none"])])


def print_json(value: Any) -> None:
    """One strict JSON document on stdout, the last that a command does: a number that is not finite is null."""
    finish()
    print(json.dumps(_finite(value), indent=1, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def print_table(table: Table) -> None:
    """A table on stdout: in boxes at a terminal, elsewhere as Markdown, as wide as it needs to be."""
    from rich import box
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(table)
    else:
        table.box = box.MARKDOWN
        for row in table.rows:
            row.end_section = False  # Markdown has one line, below the titles
        Console(width=500).print(table)


def print_parts(parts: Iterable[str | Table]) -> None:
    """Texts and tables on stdout, as `gatelab.report.text.render` yields them."""
    for part in parts:
        print(part) if isinstance(part, str) else print_table(part)


def scores_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """A table of models and baselines: one column each, one row a metric, so that it fits a narrow terminal."""
    models = {name.replace("_", " "): row for name, row in rows.items()}
    metrics = dict.fromkeys(key for row in rows.values() for key in row)
    of_each = [
        (metric, {name: row[metric] for name, row in models.items() if metric in row}) for metric in metrics
    ]
    return figures_table(title, "metric", list(models), of_each)


def figures_table(
    title: str, what: str, names: Sequence[str], rows: Iterable[tuple[str, Mapping[str, float]]]
) -> Table:
    """A table of figures: a row of each `what`, a column of each name; an empty cell where a row has no such figure."""
    from rich.table import Column, Table

    table = Table(what, *(Column(name, justify="right") for name in names), title=title, title_justify="left")
    for label, figures in rows:
        table.add_row(label, *(number(figures[name]) if name in figures else "" for name in names))
    return table


def number(value: float) -> str:
    """A figure with four to five significant digits; whole numbers with thousands separators."""
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < _LARGE):
        return f"{int(value):,}"
    if not 0.1 <= abs(value) < _LARGE:
        return f"{value:.4g}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
