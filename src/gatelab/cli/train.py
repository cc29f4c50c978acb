"""Train the model that the overrides describe.

The same request is the same run: a finished one is reported, a half-finished one continues from its last
checkpoint. The run directory is <paths.root>/runs/<experiment>/<hash>-s<seed>/.

examples:
  gatelab train                                        a character model of Python's standard library
  gatelab train experiment=ptb_gru model.hidden_size=300
  gatelab train data=text data.path=my.txt data.level=char
  gatelab train data=table data.path=my.csv data.time=date data.target=[load] data.horizon=24
"""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from gatelab.cli.common import (
    add_overrides,
    loading,
    number,
    print_json,
    print_table,
    scores_table,
)
from gatelab.data.messages import counted, say
from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.contract import best_of, metric_of
from gatelab.tasks.signals import finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_overrides(parser)
    parser.add_argument(
        "--force", action="store_true", help="train a finished run again; the earlier one is renamed and kept"
    )
    parser.add_argument(
        "--keep-code-change",
        action="store_true",
        help="report or continue a run although its code was edited since",
    )


def run(options: argparse.Namespace) -> int:
    """Train and print the closing summary."""
    from gatelab.run import Interrupted
    from gatelab.run.process_group import die_with_parent
    from gatelab.tasks.signals import launched, rank, stoppable
    from gatelab.trackers import started_by_agent

    agent = started_by_agent()
    if rank() > 0 and not launched():
        die_with_parent()  # else it waits for a first process that was killed
    try:
        with stoppable(Interrupted):
            with loading():
                from gatelab.run.train import train

            # two agents may be given the same configuration; the second shows what the first has found
            result = train(
                options.overrides,
                force=options.force,
                keep_code_change=options.keep_code_change,
                config_dirs=options.config_dir,
                wait=agent,
                show_to=("wandb",) if agent else (),
            )
    except Interrupted as stopped:
        if not agent:
            raise
        say(str(stopped))
        return 0  # an agent counts every other code as a failure, and gives up after a few
    if result["outcome"] == "rank":
        return 0
    finish()
    print_json(result) if options.json else print_summary(result)
    return 0


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
    """The best value of the monitored metric, its epoch, and the trivial baseline that is hardest to beat.

    A run that is worse than all of them says so: it has learnt nothing, or has diverged.
    """
    metric = metric_of(record, result["monitor"])
    text = f"{result['monitor']} {number(result['best'])} in epoch {result['best_epoch'] + 1}"
    rows = result["splits"].get("valid", {}).get("baselines", {})
    values = [(key.replace("_", " "), row[metric.name]) for key, row in rows.items() if metric.name in row]
    if values:
        name, value = best_of(metric, values)
        behind = all(best_of(metric, [("the run", result["best"]), one]) is one for one in values)
        text += f" (best baseline: {name} {number(value)}{'; worse than every baseline' * behind})"
    return text


def next_commands(result: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Commands that make sense after this run, the most likely first: those that its task names, and `eval`."""
    where = shlex.quote(result["run_dir"])
    scored = "test" if "test" in result["splits"] else "valid"
    named = [command.replace("RUN", where) for command in record.get("task", {}).get("commands", ())]
    return [f"gatelab {command}" for command in (*named, f"eval {where} --split {scored} --json")]
