"""Show what is installed, what this machine can do, and which GRU backend runs on it and why."""

from __future__ import annotations

import argparse

from gatelab.cli.common import add_json, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Examine and print."""
    from gatelab.run.imports import quickly

    with quickly():
        from gatelab.run.doctor import examine

    facts = examine()
    if options.json:
        print_json(facts)
        return 0
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, inner in value.items():
                print(f"  {name:18} {str(inner).replace(chr(10), chr(10) + ' ' * 21)}")
        else:
            print(f"{key:20} {', '.join(value) or 'none' if isinstance(value, list) else value}")
    return 0
