"""Continue a text with a trained language model.

At a terminal the text is shown while it is drawn. With --n several are drawn side by side; the first is shown at once,
the others when all are done.

examples:
  gatelab generate runs/quickstart/1a2b3c4d-s0 --prompt "def train(" --temperature 0.7
  gatelab generate RUN_DIR --prompt "ROMEO:" --n 3 --min-p 0.1 --stop "\\n\\n"
  gatelab generate RUN_DIR --prompt "def " --beam 5 --tokens 40
"""

from __future__ import annotations

import argparse
import sys

from gatelab.cli.common import add_run_dir, loading, print_json
from gatelab.run import RequestError
from gatelab.tasks.signals import finish

OPTIONS = (
    "tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "n",
    "beam",
    "stop",
    "seed",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument("--prompt", default="", help="text to continue (default: the start of a stream)")
    parser.add_argument(
        "--tokens", type=int, default=300, help="how many tokens to add at most (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, default=None, help="0: always the likeliest (default: 0.8)"
    )
    parser.add_argument(
        "--top-k", type=int, default=None, metavar="K", help="draw from the K likeliest tokens only"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=None,
        metavar="P",
        help="draw from the likeliest tokens of total probability P",
    )
    parser.add_argument(
        "--min-p",
        type=float,
        default=None,
        metavar="P",
        help="draw from the tokens that are at least P times as likely as the likeliest",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="above 1: tokens that were there before become less likely (default: 1, none)",
    )
    parser.add_argument(
        "--n", type=int, default=1, help="so many texts, drawn side by side (default: %(default)s)"
    )
    parser.add_argument(
        "--beam",
        type=int,
        default=None,
        metavar="N",
        help="search for the likeliest text with N hypotheses, compared by their mean log-probability per token",
    )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end where TEXT appears; may be given several times (\\n is a line's end)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    parser.add_argument(
        "--stream", action="store_true", help="show the text while it is drawn, as at a terminal"
    )


def run(options: argparse.Namespace) -> int:
    """Generate and print."""
    for other in ("json", "beam"):
        if options.stream and getattr(options, other):
            raise RequestError(f"--stream and --{other}: give one of them.")
    with loading():
        from gatelab.run.scoring.evaluate import generate_several
        from gatelab.tasks.text.generation import TEMPERATURE

    settings = {name: getattr(options, name) for name in OPTIONS}
    settings["stop"] = [text.replace("\\n", "\n") for text in options.stop]
    live = options.stream or (sys.stdout.isatty() and not options.json and options.beam is None)
    show = _show if live else None
    texts = generate_several(options.run_dir, options.prompt, trust=options.trust, show=show, **settings)
    if settings["temperature"] is None and options.beam is None:
        settings["temperature"] = TEMPERATURE
    finish()
    if options.json:
        print_json(
            {"run": options.run_dir, "prompt": options.prompt, **settings, "text": texts[0], "texts": texts}
        )
        return 0
    for number, text in enumerate(texts, 1):
        if number > 1:
            print(f"--- {number} of {len(texts)}")
        print("" if live and number == 1 else text)
    return 0


def _show(text: str) -> None:
    print(text, end="", flush=True)
