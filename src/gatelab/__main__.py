"""`python -m gatelab` is `gatelab`."""

import sys

from gatelab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
