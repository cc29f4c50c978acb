"""Compose a configuration and check every key, type, target and constructor, without training.

Files of your own are read as a run would read them, and what was found out about them is told; nothing is downloaded.
Prints the configuration as it would run, and which run directory it would be.
"""

from __future__ import annotations

import argparse

from gatelab.cli.common import add_overrides, print_json
from gatelab.data.messages import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_overrides(parser)


def run(options: argparse.Namespace) -> int:
    """Check and print."""
    import yaml

    from gatelab.run import RequestError
    from gatelab.run.config import check, compose
    from gatelab.run.config.dry_build import notes_on_data, refusal
    from gatelab.run.record.directory import RunDirectory
    from gatelab.run.record.identity import identify
    from gatelab.run.record.secrets import without_secrets

    composed = compose(options.overrides, config_dirs=options.config_dir)
    config = check(composed)
    if refused := refusal(config):
        raise RequestError(refused)
    for note in notes_on_data(config):
        say(note)
    directory = identify(composed).directory(config["paths"]["runs"])
    state = RunDirectory(directory).state() if (directory / "run.json").is_file() else "new"
    config = without_secrets(config)
    facts = {"config": config, "choices": composed.choices, "run_dir": str(directory), "state": state}
    if options.json:
        print_json(facts)
        return 0
    print(yaml.safe_dump(config, sort_keys=False).rstrip())
    print(f"# checked: every key, type, target and constructor fits\n# run directory: {directory} ({state})")
    return 0
