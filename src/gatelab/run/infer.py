"""Ask a trained run about new input: predictions as a table, or a text continued. Needs the run directory only.

The task says how (`Task.predict`, `Task.generate`); nothing is scored here.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.data.messages import say
from gatelab.run.build import request_errors
from gatelab.run.errors import RequestError
from gatelab.run.load import load_task
from gatelab.tasks.contract import Remark

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".csv", ".parquet", ".jsonl")


def predict(path: str | Path, file: str | Path, *, trust: bool = False) -> pd.DataFrame:
    """What the run in `path` says to the new input in `file`, a row each; `trust` as `load_task`.

    Raises:
        RequestError: no such run, a task that does not predict, or input that does not fit.
    """
    loaded = load_task(path, trust=trust)
    with request_errors(f"--input {file}"), _remarks():
        frame: pd.DataFrame = loaded.task.predict(loaded, Path(file))
    return frame


def generate(path: str | Path, prompt: str, *, trust: bool = False, **options: Any) -> str:
    """The prompt and its continuation by the run in `path`; `options` as `Task.generate`, `trust` as `load_task`.

    Raises:
        RequestError: no such run, a task that generates no text, or an option out of range.
    """
    loaded = load_task(path, trust=trust)
    with request_errors(str(path)), _remarks():
        text: str = loaded.task.generate(loaded, prompt, **options)
    return text


@contextlib.contextmanager
def _remarks() -> Iterator[None]:
    """Tell on stderr what a task warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Remark)
        yield
    for warning in caught:
        if warning.category is Remark:
            say(str(warning.message))


def check_output(output: str | Path, file: str | Path) -> None:
    """Refuse a name that cannot be written, or that is the input's, before anything is computed."""
    if Path(output).suffix.lower() not in ENDINGS:
        raise RequestError(f"{output}: give a name that ends in {', '.join(ENDINGS)}.")
    if Path(output).exists() and Path(file).exists() and Path(output).samefile(file):
        raise RequestError(f"--output {output}: is the input; give another name.")


def write_table(frame: pd.DataFrame, output: str | Path) -> None:
    """Write CSV, Parquet or JSON lines, by the name's ending."""
    file = Path(output)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() == ".parquet":
            frame.to_parquet(file, index=False)
        elif file.suffix.lower() == ".csv":
            frame.to_csv(file, index=False)
        else:
            rows = frame.to_dict("records")
            file.write_text("".join(f"{json.dumps(row, default=str)}\n" for row in rows), "utf-8")
    except OSError as error:
        raise RequestError(f"{output}: cannot be written: {error}") from None
