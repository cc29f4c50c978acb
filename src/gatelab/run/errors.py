"""Errors that end a command with a message and an exit code instead of a traceback."""


class RequestError(Exception):
    """What was asked for is wrong: a key, a value, a file (exit code 2). The message names it and the fix."""

    exit_code = 2


class RunFailed(Exception):
    """The run started and could not be finished (exit code 1)."""

    exit_code = 1


class Interrupted(Exception):
    """The run was asked to stop and has saved itself; the same command continues it (exit code 75)."""

    exit_code = 75
