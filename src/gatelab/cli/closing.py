"""What `gatelab train` says at the end: scores beside the baselines, what the run took, and what to type next.

A view over `result.json`; it computes nothing.
"""

from __future__ import annotations

import shlex
from typing import Any

from gatelab.cli.common import number, print_table, scores_table
from gatelab.run.messages import counted
from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.contract import best_of, metric_of


def print_summary(result: dict[str, Any]) -> None:
    """Print the closing summary of a run that is done, of this version or an earlier one."""
    record = RunDirectory(result["run_dir"]).read()
    if result["already"]:
        print(f"This run is already finished ({result['finished']}); --force trains it again.")
    which = (
        f"best checkpoint by {result['monitor']}"
        if result["validated"]
        else "last checkpoint (no validation ran)"
    )
    for split, report in result["splits"].items():
        rows = {"this run": report["metrics"], **report["baselines"]}
        print_table(scores_table(f"{split} split, {which}", rows))
    for name, text in facts(result, record):
        print(f"{name:10} {text}")
    print("next")
    for command in next_commands(result, record):
        print(f"  {command}")


def facts(result: dict[str, Any], record: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each line of the summary; what an earlier version did not record has none."""
    lines = [("best", best(result, record))] if result.get("best") is not None else []
    lines.append(("model", f"{number(result['parameters'])} parameters"))
    work = f"{counted(result['steps'], 'step')} in {counted(result['epochs'], 'epoch')}"
    text = f"{result['seconds']['fit']:.1f} s for {work}"
    if throughput := result.get("throughput"):
        text += f", {throughput['per_second']:,.0f} {throughput['unit']}/s"
    lines.append(("training", text))
    memory = result.get("memory", {})
    peaks = [
        f"{memory[key] / 2**20:,.0f} MiB ({device.upper()})"
        for device in ("cpu", "gpu")
        if memory.get(key := f"{device}_peak_bytes")
    ]
    if peaks:
        lines.append(("memory", f"at most {', '.join(peaks)}"))
    return [*lines, ("run", result["run_dir"])]


def best(result: dict[str, Any], record: dict[str, Any]) -> str:
    """The best value of the monitored metric, its epoch, and the trivial baseline that is hardest to beat."""
    metric = metric_of(record, result["monitor"])
    text = f"{result['monitor']} {number(result['best'])} in epoch {result['best_epoch'] + 1}"
    rows = result["splits"].get("valid", {}).get("baselines", {})
    values = [(key.replace("_", " "), row[metric.name]) for key, row in rows.items() if metric.name in row]
    if not values:
        return text
    name, value = best_of(metric, values)
    return f"{text} (best baseline: {name} {number(value)})"


def next_commands(result: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Commands that make sense after this run, the most likely first: those that its task names, and `eval`."""
    where = shlex.quote(result["run_dir"])
    scored = "test" if "test" in result["splits"] else "valid"
    named = [command.replace("RUN", where) for command in record.get("task", {}).get("commands", ())]
    return [f"gatelab {command}" for command in (*named, f"eval {where} --split {scored} --json")]
