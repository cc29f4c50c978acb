"""`python scripts/train.py ...` is `gatelab train ...`, and with Hydra's `-m` it is `gatelab sweep ...`."""

import sys

from gatelab.cli.main import main

MULTIRUN = {"-m", "--multirun"}

if __name__ == "__main__":
    given = sys.argv[1:]
    command = "sweep" if MULTIRUN & set(given) else "train"
    sys.exit(main([command, *(argument for argument in given if argument not in MULTIRUN)]))
