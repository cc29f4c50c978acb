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
import sys

from gatelab.cli.closing import print_summary
from gatelab.cli.common import add_json, add_overrides, choices_epilog, loading, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_overrides(parser)
    parser.add_argument(
        "--force", action="store_true", help="train a finished run again; the earlier one is renamed and kept"
    )
    add_json(parser)


def epilog() -> str:
    """The groups and their choices."""
    return choices_epilog()


def run(options: argparse.Namespace) -> int:
    """Train and print the closing summary."""
    from gatelab.run.errors import Interrupted
    from gatelab.run.process_group import die_with_parent
    from gatelab.tasks.signals import launched, rank, stoppable
    from gatelab.trackers.wandb.agent import started_by_agent

    if rank() > 0 and not launched():
        die_with_parent()  # else it waits for a first process that was killed
    try:
        with stoppable(Interrupted):
            with loading():
                from gatelab.run.train import train

            result = train(options.overrides, force=options.force, config_dirs=options.config_dir)
    except Interrupted as stopped:
        if not started_by_agent():
            raise
        print(stopped, file=sys.stderr)
        return 0  # an agent counts every other code as a failure, and gives up after a few
    if result["outcome"] == "rank":
        return 0
    print_json(result) if options.json else print_summary(result)
    return 0
