"""Continue a text with a trained language model.

example:
  gatelab generate runs/quickstart/1a2b3c4d-s0 --prompt "def train(" --temperature 0.7
"""

from __future__ import annotations

import argparse

from gatelab.cli.common import add_run_dir, loading, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument("--prompt", default="", help="text to continue (default: the start of a stream)")
    parser.add_argument(
        "--tokens", type=int, default=300, help="how many tokens to add (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.8, help="0: always the likeliest (default: 0.8)"
    )
    parser.add_argument("--top-k", type=int, default=None, help="draw from the K likeliest tokens only")
    parser.add_argument("--top-p", type=float, default=None, help="draw from the likeliest tokens of total P")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Generate and print."""
    with loading():
        from gatelab.run.evaluate import generate

    settings = {k: getattr(options, k) for k in ("tokens", "temperature", "top_k", "top_p", "seed")}
    text = generate(options.run_dir, options.prompt, trust=options.trust, **settings)
    if options.json:
        print_json({"run": options.run_dir, "prompt": options.prompt, **settings, "text": text})
    else:
        print(text)
    return 0
