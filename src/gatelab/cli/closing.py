"""What `gatelab train` says at the end: scores beside the baselines, what the run took, and what to type next.

A view over `result.json`; it computes nothing.
"""

from __future__ import annotations

import shlex
from typing import Any

from gatelab.cli.common import number, print_table, scores_table
from gatelab.run.messages import counted


def print_summary(result: dict[str, Any]) -> None:
    """Print the closing summary of a run that is done, of this version or an earlier one."""
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
    for name, text in facts(result):
        print(f"{name:10} {text}")
    print("next")
    for command in next_commands(result):
        print(f"  {command}")


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each line of the summary; what an earlier version did not record has none."""
    lines = [("best", best(result))] if result.get("best") is not None else []
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


def best(result: dict[str, Any]) -> str:
    """The best value of the monitored metric, its epoch, and the trivial baseline that is hardest to beat."""
    name = result["monitor"].removeprefix("val/")
    text = f"{result['monitor']} {number(result['best'])} in epoch {result['best_epoch'] + 1}"
    rows = result["splits"].get("valid", {}).get("baselines", {})
    values = {key.replace("_", " "): row[name] for key, row in rows.items() if name in row}
    if not values:
        return text
    hardest = min(values, key=lambda key: values[key])
    return f"{text} (best baseline: {hardest} {number(values[hardest])})"


def next_commands(result: dict[str, Any]) -> list[str]:
    """Commands that make sense after this run, the most likely first."""
    from gatelab.run.record.directory import RunDirectory

    run = RunDirectory(result["run_dir"])
    where = shlex.quote(result["run_dir"])
    commands = []
    if run.tokenizer_file.is_file():
        commands.append(f'gatelab generate {where} --prompt "..."')
    elif run.read()["config"]["data"].get("series") is not None:
        commands.append(f"gatelab predict {where} --input FILE --output out.csv")
    scored = "test" if "test" in result["splits"] else "valid"
    return [*commands, f"gatelab eval {where} --split {scored} --json"]
