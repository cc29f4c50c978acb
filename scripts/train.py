"""`python scripts/train.py ...` is `gatelab train ...`."""

import sys

from gatelab.cli.main import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", sys.argv[1:]))
