"""What a trained run learned, measured: its task says what its network reads, and everything is asked of that sample.

Only the validation split, or a file of the user's, is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gatelab.run import RequestError
from gatelab.run.build import request_errors
from gatelab.run.load import load_task
from gatelab.tasks.explanation.measure import explain as measure


def explain(
    path: str | Path,
    *,
    file: str | Path | None = None,
    units: Sequence[str] = (),
    probes: Sequence[str] = (),
    ablations: int = 12,
    tick: Callable[[str], None] = lambda label: None,
    trust: bool = False,
) -> dict[str, Any]:
    """What `gatelab.tasks.explanation.measure.explain` measures of the run in `path`, and `run`, `task`, `seconds`.

    Args:
        file: what is read instead of the validation split, as `gatelab predict` would read it.
        units, probes, ablations: see there.
        tick: told what is measured next.
        trust: as `load_task`.

    Raises:
        RequestError: no such run, unit, probe or file, or a task that does not say what it reads.
    """
    if ablations < 1:
        raise RequestError(f"ablations={ablations}: give at least 1.")
    if file is not None and not Path(file).exists():
        raise RequestError(f"--input {file}: no such file.")
    start = time.perf_counter()
    tick("run")
    loaded = load_task(path, trust=trust)
    with request_errors(str(path) if file is None else f"--input {file}"):
        reading = loaded.task.reading(loaded, None if file is None else Path(file))
    with request_errors(str(path)):
        found = measure(reading, units=units, probes=probes, ablations=ablations, tick=tick)
    name = "/".join(loaded.run.path.parts[-2:])
    about = {"run": name, "task": type(loaded.task).__name__, "seconds": time.perf_counter() - start}
    return {**about, **found}
