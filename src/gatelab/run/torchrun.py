"""torchrun, with the exit code of the run: `python -m gatelab.run.torchrun ARGUMENTS OF TORCHRUN`.

torchrun itself exits with 1 whatever its processes exit with, ends at Slurm's USR1, and gives them 30 seconds to
save themselves. Here a run that was interrupted exits with 75 as everywhere, USR1 and USR2 are passed on like SIGTERM,
and there is time for a checkpoint. It ends with the process that started it, if that says so. Everything else is
torchrun's own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence

from gatelab.run.process_group import die_with_parent

SAVE_SECONDS = 600
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"
INTERRUPTED = 75


def main(arguments: Sequence[str]) -> int:
    """Run torchrun.

    Returns:
        the exit code: 0 done, 1 failed, 2 refused, 75 interrupted and resumable, 128 + the signal that killed one.
    """
    if "GATELAB_PARENT" in os.environ:
        die_with_parent(int(os.environ["GATELAB_PARENT"]))
        os.environ["GATELAB_PARENT"] = str(os.getpid())  # of the processes that torchrun starts
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = [f"--signals_to_handle={SIGNALS}", f"--shutdown-timeout={SAVE_SECONDS}"]
    try:
        with tempfile.TemporaryDirectory(prefix="gatelab-torchrun-") as logs:  # torchrun's own stays
            run.main([*options, f"--log-dir={logs}", *arguments])
    except ChildFailedError as error:
        return code_of([failure.exitcode for failure in error.failures.values()])
    except SignalException:
        return INTERRUPTED
    return 0


def code_of(codes: Sequence[int]) -> int:
    """One exit code for those of several processes, of which a negative one is the signal that killed it.

    What follows from a process that was killed or has failed (a broken connection: 1) says less than its cause.
    """
    killed = [-code for code in codes if code < 0]
    if killed:
        return 128 + killed[0]
    return max(codes, key=lambda code: (code == 2, code == 1), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
