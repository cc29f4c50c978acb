"""Evaluation rows of a finished run: asked for, checked before anything is scored, scored, and kept beside the result.

A row is a split scored in another way than the static one (`Task.methods`: a neural cache, dynamic evaluation, ...).
Its parameters are given like those of a sweep, `cache.theta=0.3` or `cache.theta=0.1,0.3`; of several values the one
that is best on the validation split is taken.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import yaml

from gatelab.data.messages import bars, did_you_mean, say
from gatelab.run import RequestError
from gatelab.run.build import request_errors
from gatelab.run.load import LoadedRun
from gatelab.run.record.directory import now
from gatelab.run.record.rows import add_rows
from gatelab.tasks.contract import Method

Asked = dict[str, dict[str, tuple[Any, ...]]]
"""Method -> option -> its values."""


def requested(
    methods: Mapping[str, Method], names: Sequence[str], overrides: Sequence[str]
) -> tuple[Asked, list[str]]:
    """What is asked of each method, and the overrides that are about something else.

    Args:
        methods: those of the task.
        names: of the wanted rows; `all` for every one.
        overrides: `METHOD.OPTION=VALUE`, or several values with commas between them.

    Raises:
        RequestError: no such method, option or value.
    """
    known = ", ".join(methods) or "none: its task has no other way to score"
    wanted = list(dict.fromkeys(methods if "all" in names else names))
    for name in wanted:
        if name not in methods:
            raise RequestError(f"--rows {name}: this run has {known}.{did_you_mean(name, methods)}")
    asked = {
        name: {key: option.values for key, option in methods[name].options.items()}
        for name in methods
        if name in wanted
    }
    rest = []
    for override in overrides:
        key, _, text = override.partition("=")
        name, _, option = key.partition(".")
        if name not in methods:
            rest.append(override)
            continue
        if name not in asked:
            raise RequestError(
                f"{override}: no row of it is asked for; give --rows {','.join([*asked, name])}."
            )
        if option not in methods[name].options:
            hint = did_you_mean(option, methods[name].options)
            raise RequestError(f"{override}: {name} has {', '.join(methods[name].options)}.{hint}")
        asked[name][option] = _values(methods[name], option, override, text)
    return asked, rest


def _values(method: Method, option: str, override: str, text: str) -> tuple[Any, ...]:
    try:
        parts = [_number(part) for part in text.removeprefix("[").removesuffix("]").split(",")]
        return tuple(dict.fromkeys(method.options[option].check(part) for part in parts))
    except (ValueError, yaml.YAMLError) as error:
        raise RequestError(f"{override}: {error}.") from None


def _number(text: str) -> Any:
    """A number, also one like 1e-3, which YAML takes for text."""
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text.strip()


def score_rows(
    loaded: LoadedRun, data: Any, split: str, asked: Asked, static: Mapping[str, float], device: torch.device
) -> list[dict[str, Any]]:
    """Score the rows and keep them in the run's directory, each as soon as it is there; returns them.

    Raises:
        RequestError: the network or the data cannot be scored so.
    """
    task, rows = loaded.task, []
    with _on(task, device), bars() as progress:
        for name, options in asked.items():
            method, started = task.methods[name], time.perf_counter()
            with request_errors(f"--rows {name}"):
                scored = task.score_row(name, options, data, split, progress)
            row = {
                "method": name,
                "title": method.title,
                "what": method.what,
                "split": split,
                "metrics": scored.metrics,
                "static": {key: value for key, value in static.items() if key in scored.metrics},
                "figures": [
                    figure.name for figure in task.figures if figure.better and figure.name in scored.metrics
                ],
                "parameters": scored.parameters,
                "tuned": scored.tuned,
                "seconds": round(time.perf_counter() - started, 2),
                "checkpoint": loaded.checkpoint.name,
                "scored": now(),
            }
            if scored.tuned:
                say(tuning(row, options))
            _keep(loaded, row)
            rows.append(row)
    return rows


def tuning(row: Mapping[str, Any], options: Mapping[str, Sequence[Any]]) -> str:
    """How the parameters of a row were found: the grid, the best point, and where it lies at an edge."""
    tuned, best = row["tuned"], row["parameters"]
    varied = {name: values for name, values in options.items() if len(values) > 1}
    grid = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in varied.items())
    losses = [point["loss"] for point in tuned["grid"]]
    found = " ".join(f"{name}={best[name]}" for name in varied)
    own = " (the very split that is scored)" if tuned["split"] == row["split"] else ""
    text = (
        f"{row['method']}: tuned on {tuned['tokens']:,} tokens of {tuned['split']}{own}, {len(losses)} points: {grid}\n"
        f"{row['method']}: best {found}, {min(losses):.4f} nats per token there"
    )
    edges = [
        name
        for name, values in varied.items()
        if len(values) > 2 and not isinstance(best[name], str) and best[name] in (min(values), max(values))
    ]
    if edges:
        text += (
            f"; at the edge of the grid: {', '.join(edges)} (the best may lie beyond: give your own values)"
        )
    return text


def _keep(loaded: LoadedRun, row: Mapping[str, Any]) -> None:
    """Keep a row of a finished run; say why where it cannot be kept."""
    why = ""
    if loaded.run.result() is None:
        why = "the run is not finished, so its best checkpoint may still change"
    else:
        try:
            add_rows(loaded.run, [row])
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC):
                raise
            why = str(error.strerror)
    if why:
        say(f"{row['method']}: not kept in {loaded.run.path}: {why}")


@contextlib.contextmanager
def _on(task: Any, device: torch.device) -> Iterator[None]:
    """Have the network on a device, in evaluation mode, and bring it back."""
    before = next(task.parameters()).device
    task.to(device).eval()
    try:
        yield
    finally:
        task.to(before)
