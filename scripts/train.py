"""`python scripts/train.py ...` is `gatelab train ...`, and with Hydra's `-m` it is `gatelab sweep ...`."""

import sys

from gatelab.cli.main import run_command

MULTIRUN = {"-m", "--multirun"}

if __name__ == "__main__":
    given = sys.argv[1:]
    command = "sweep" if MULTIRUN & set(given) else "train"
    sys.exit(run_command(command, [argument for argument in given if argument not in MULTIRUN]))
