"""One run: its configuration, its record, training, evaluation, resume, reproduction, export. Knows no study.

Here are the errors that end a command with a message and an exit code instead of a traceback, and the folder of the
configuration files: `gatelab/conf` in a wheel, `conf/` beside `src/` in a checkout.
"""

from pathlib import Path

_PACKAGED = Path(__file__).resolve().parents[1] / "conf"
_CHECKOUT = Path(__file__).resolve().parents[3] / "conf"

CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


class RequestError(Exception):
    """What was asked for is wrong: a key, a value, a file (exit code 2). The message names it and the fix."""

    exit_code = 2


class RunFailed(Exception):
    """The run started and could not be finished (exit code 1)."""

    exit_code = 1


class Interrupted(Exception):
    """The run was asked to stop and has saved itself; the same command continues it (exit code 75)."""

    exit_code = 75
