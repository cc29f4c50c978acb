"""Try many configurations: one study, one folder, every job checked before the first one starts.

The values come from Hydra's own grammar: choices (64,128), range(1,5), interval(a,b), tag(log, interval(a,b)),
glob(*gru), and from the search spaces of conf/search (search=NAME). If all values can be listed, they are a grid;
otherwise TPE proposes them.
The same command again runs exactly what is missing. The study's folder is <paths.root>/studies/<study>/.

examples:
  gatelab sweep experiment=quickstart study=size model.hidden_size=64,128,256 study.seeds=3
  gatelab sweep experiment=ptb_gru study=lr 'optim.lr=tag(log, interval(1e-4, 1e-2))' study.n_trials=20
  gatelab sweep data=etth1 study=cells search=cells_equal_size study.slots=2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gatelab.cli.common import add_overrides, choices_epilog, print_json, print_parts
from gatelab.data.messages import counted
from gatelab.tasks.signals import noted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_overrides(parser)
    parser.add_argument(
        "--force", action="store_true", help="begin the study anew; the earlier folder is renamed and kept"
    )
    parser.add_argument(
        "--keep-code-change", action="store_true", help="continue a study although its code was edited since"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="go on with an existing study although it runs code that neither Gatelab nor this command names",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check every job and print them; start nothing"
    )
    parser.epilog = _epilog()


def _epilog() -> str:
    """The settings of a study, the launchers and spaces, and the groups with their choices."""
    from gatelab.study.settings import StudySettings

    lines = ["settings (study=NAME, study.KEY=VALUE; the defaults are shown):"]
    for name, item in StudySettings.model_fields.items():
        if name != "name":
            default = f"={item.default}" if isinstance(item.default, str | int | float) else ""
            lines.append(f"  {name + default:18} {item.description}")
    return "\n".join([*lines, "", choices_epilog(("launcher", "search"))])


def run(options: argparse.Namespace) -> int:
    """Sweep, and print the leaderboard."""
    with noted():  # a signal that comes while libraries are imported is acted on afterwards
        from gatelab.report.text import following
        from gatelab.study.sweep import sweep

        result = sweep(
            options.overrides,
            config_dirs=options.config_dir,
            force=options.force,
            keep_code_change=options.keep_code_change,
            dry_run=options.dry_run,
            trust=options.trust,
            watch=following,
            report=_report,
        )
    if options.dry_run:
        print_json(result) if options.json else _print_jobs(result)
        return 0
    from gatelab.report.text import render, summary
    from gatelab.study.analysis.read import read_study

    state = read_study(result["directory"], trust=True)
    if options.json:
        print_json({**summary(state), "report": result["report"]})
        return 0
    print_parts(render(state))
    print("\n" + "\n".join(result["report"]))
    return 0


def _report(directory: Path) -> list[str]:
    from gatelab.report.files import write_report

    return write_report(directory, trust=True)


def _print_jobs(result: dict[str, Any]) -> None:
    known = [job for job in result["jobs"] if job["params"] is not None]
    for job in known:
        values = " ".join(f"{key}={value}" for key, value in job["params"].items())
        if (change := job.get("change")) is not None:
            values = f"the base: {values}" if job["job"] == 0 else change
        size = f"  hidden_size {job['hidden']}, {job['parameters']:,} parameters" if "hidden" in job else ""
        print(f"{job['job']:5}  {values}{size}\n       {'  '.join(job['runs'])}")
    unknown = len(result["jobs"]) - len(known)
    if unknown:
        print(f"{unknown} trials, whose values the sampler proposes one after the other")
    print(f"study {result['study']}: {counted(len(result['jobs']), 'job')}, checked; nothing was started")
