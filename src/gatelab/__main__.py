"""`python -m gatelab` is `gatelab`."""

import sys

from gatelab.cli.main import main

sys.exit(main())
