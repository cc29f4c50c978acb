"""The runs below a folder, as a list of plain facts. A view over the files; nothing is kept beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatelab.run.errors import RequestError
from gatelab.run.record.directory import RunDirectory


def list_runs(runs: str | Path) -> list[dict[str, Any]]:
    """Every run directory below `runs`, by name; one that cannot be read is listed as `unreadable`.

    Returns:
        for each: `run_dir`, `state`, `metric` and `value` (the monitored one on the validation split; of a
        pruned run the best so far),
        `parameters`, `seconds` and `started`.
    """
    return [_facts(RunDirectory(file.parent)) for file in sorted(Path(runs).glob("*/*/run.json"))]


def _facts(run: RunDirectory) -> dict[str, Any]:
    empty = dict.fromkeys(("metric", "value", "parameters", "seconds", "started"))
    facts: dict[str, Any] = {"run_dir": str(run.path), "state": "unreadable", **empty}
    try:
        record, result = run.read(), run.result()
        facts["started"] = str(record["attempts"][0]["started"])
        if result is not None and result["outcome"] in ("done", "pruned"):
            metric = str(result["monitor"])
            valid = result["splits"].get("valid", {}).get("metrics", {})
            value = valid.get(metric.removeprefix("val/"), result.get("best"))
            facts |= {"metric": metric, "value": None if value is None else float(value)}
            facts |= {"parameters": int(result["parameters"]), "seconds": float(result["seconds"]["fit"])}
        facts["state"] = run.state()
    except (RequestError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return {"run_dir": str(run.path), "state": "unreadable", **empty}
    return facts
