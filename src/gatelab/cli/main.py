"""`gatelab COMMAND ...`: find the command, read its arguments, run it, turn errors into messages and exit codes.

Heavy imports happen inside a command's `run`, after its arguments are read, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import importlib
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from gatelab.run import Interrupted, RequestError, RunFailed
from gatelab.run.hydra_habits import refuse_option
from gatelab.tasks.signals import STOP, StopRequested, StopSignals, raising

COMMANDS = {
    "train": "train a model, or continue or report the run if it exists",
    "sweep": "try many configurations as one study, or continue it",
    "eval": "score a run's best checkpoint on the valid or test split",
    "backtest": "forecast the last windows of a run's data, origin by origin, and score them",
    "baseline": "score the trivial models on a data set",
    "generate": "continue a text with a trained language model",
    "perplexity": "score any text with a trained language model",
    "predict": "forecast, classify, translate or write down new input with a trained run",
    "explain": "show what a run's network learned, as a page",
    "export": "write a run's network as safetensors, ONNX or torch.export",
    "check": "compose and check a configuration without running it",
    "study": "show a study of many runs, or list the studies below a folder",
    "report": "write a page, a table or a list about studies, runs or records",
    "dashboard": "show studies and runs in the browser until Ctrl-C",
    "runs": "list runs with what differs between them, filtered and sorted",
    "rm": "remove runs and studies, after asking",
    "diff": "show what differs between two runs",
    "reproduce": "train a recorded run again and compare it bit for bit",
    "sync": "send runs that were tracked offline to Weights & Biases",
    "completion": "print the shell's completion of commands, options, choices, runs and studies",
    "doctor": "show what is installed and what this machine can do",
}

RESUMABLE = ("train", "sweep")
"""Commands that the same command continues after a signal, with exit code 75, and whose results are on the disk."""
COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
WRONG_PLACE = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError, FileNotFoundError)
NOBODY_READS = (errno.EPIPE, errno.EIO)
"""Errors of a stream whose reader has left, and of one whose terminal is closed."""
EPILOG = """exit codes: 0 done, 1 failed, 2 the request was wrong, 75 interrupted and resumable, 128+N ended by signal N
`gatelab COMMAND --help` tells more about a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Without `arguments` it is that of this process, which ends with it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        atexit.register(_ignore_stops)  # before any library's, hence after them
    early = StopSignals()
    early.listen()
    try:
        code = _outcome(given, early)
    except BaseException:
        early.release()
        raise
    if arguments is not None:
        early.release()
        return code
    for number in STOP:  # ends what the interpreter still takes down, and changes nothing of what is done
        signal.signal(number, lambda *_: os._exit(code))
    return code


def _ignore_stops() -> None:
    """The interpreter's last step with handlers of its own: from then on a signal would end the process by its name."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)


def _outcome(given: list[str], early: StopSignals) -> int:
    """The exit code of a command."""
    with unbreakable_output() as out:
        try:
            code = _main(given, early)
        except StopRequested as stop:  # Ctrl-C twice before the command has begun
            code = 75 if {*given[:1]} & {*RESUMABLE} else 128 + stop.number
        except SystemExit as leave:  # argparse's, after a help or arguments that it refuses
            if leave.code not in (None, 0) or not _lost(out):
                raise
            raise SystemExit(1) from None
        except Exception:  # printed here, where stderr is without secrets
            traceback.print_exc()
            code = 1
        if code == 0 and _lost(out):
            stored = given[0] in RESUMABLE and not {"--json", "--dry-run"} & {*given}
            code = 0 if stored else 1
    return code


def _lost(out: Output) -> bool:
    """Whether output that somebody waits for could not be written; then it is said."""
    out.flush()
    if out.lost is None or out.lost.errno in NOBODY_READS:
        return False
    _say(f"gatelab: not all of the output was written: {out.lost.strerror}", 1)
    return True


def _main(given: list[str], early: StopSignals) -> int:
    listed = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="gatelab",
        description=f"A laboratory for gated recurrent networks.\n\ncommands:\n{listed}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="gatelab [-h] [--version] COMMAND ...",
    )
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries end the process on that
        return _say("gatelab: the current folder is gone; change to another one", 2)
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    options = parser.parse_args(given[:1])
    if options.version:
        from importlib.metadata import version

        print(version("gatelab"))
        return 0
    if options.command is None:
        parser.print_help()
        return 2
    if options.command not in COMMANDS:
        from gatelab.data.messages import did_you_mean

        hint = did_you_mean(options.command, COMMANDS)
        return _say(f"gatelab: no command '{options.command}'.{hint} Commands: {', '.join(COMMANDS)}.", 2)
    return _run_command(options.command, given[1:], early)


def _run_command(name: str, arguments: Sequence[str], early: StopSignals) -> int:
    if name in ("train", "sweep", "check", "baseline") and (refused := refuse_option(name, arguments)):
        return _say(f"gatelab {name}: {refused}", 2)
    module = importlib.import_module(f"gatelab.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"gatelab {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    options = parser.parse_intermixed_args(list(arguments))
    try:
        with raising():
            early.act()
            return int(module.run(options))
    except RequestError as error:
        return _say(f"gatelab {name}: {error}", error.exit_code, error)
    except Interrupted as error:
        return _say(str(error), error.exit_code)
    except RunFailed as error:
        return _say(f"gatelab {name}: the run failed: {error}", error.exit_code, error)
    except OSError as error:
        return _say(f"gatelab {name}: {_where(error)}", 2 if isinstance(error, WRONG_PLACE) else 1, error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):  # PyTorch's
            raise
        why = "a size may be too large, of the request or in run.json; `ulimit -v` tells this shell's limit"
        return _say(f"gatelab {name}: out of memory: {why}", 1, error)
    except StopRequested as stop:
        resumable = name in RESUMABLE
        hint = "; the same command continues it" if resumable else ""
        return _say(f"gatelab {name}: stopped by {stop}{hint}", 75 if resumable else 128 + stop.number)


class Output:
    """A text stream that drops what is written where it cannot be, so that the work goes on.

    Its reader has left, its terminal was closed, its disk is full.

    Of stdout, what a terminal would obey is written as its code, but for the colours of a table (`printable`): names
    and values of a run may hold anything. On stderr a progress bar moves the cursor; texts go through `say`. Warnings
    and tracebacks quote values, so stderr is without secrets.

    Attributes:
        lost: why something was dropped, or None.
    """

    def __init__(self, stream: Any, *, clean: bool) -> None:
        self.stream, self.clean = stream, clean
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        with self._dropping():
            self.stream.write(self._printable(text) if self.clean else self._masked(text))
        return len(text)

    def _masked(self, text: str) -> str:
        if len(text) < 2:  # a line's end, a step of a bar
            return text
        from gatelab.run.record.secrets import without_secrets

        return str(without_secrets(text))

    def _printable(self, text: str) -> str:
        from gatelab.data.messages import printable

        parts = COLOUR.split(text) if self.stream.isatty() else [text]
        return "".join(part if i % 2 else printable(part, len(part)) for i, part in enumerate(parts))

    def flush(self) -> None:
        """Flush, or drop what is buffered."""
        with self._dropping():
            self.stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def unbreakable_output() -> Iterator[Output]:
    """Let a command go on where stdout or stderr cannot be written, or was closed from the start; yields stdout."""
    for number in range(3):  # else a file that the command opens would take the place of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a name that is no text, or a terminal that knows ASCII only
            stream.reconfigure(errors="backslashreplace")
    out, err = (io.StringIO() if stream is None else stream for stream in before)
    streams = [Output(out, clean=True), Output(err, clean=False)]
    sys.stdout, sys.stderr = streams
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def _where(error: OSError) -> str:
    """The system's message with the file, and the fix where the place is wrong."""
    if error.filename is None or error.strerror is None:
        return str(error)
    fix = ". Choose another place (paths.root=DIR, --output FILE), or mend this one" * isinstance(
        error, WRONG_PLACE
    )
    return f"{error.filename}: {error.strerror.lower()}{fix}"


def _say(text: str, code: int, error: Exception | None = None) -> int:
    if error is not None and os.environ.get("GATELAB_TRACEBACK"):
        raise error
    from gatelab.data.messages import say
    from gatelab.run.record.secrets import without_secrets

    say(without_secrets(text))
    return code


if __name__ == "__main__":
    sys.exit(main())
