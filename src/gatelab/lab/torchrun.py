"""torchrun, with the exit code of the run: `python -m gatelab.lab.torchrun ARGUMENTS OF TORCHRUN`.

torchrun itself exits with 1 whatever its processes exit with, ends at Slurm's USR1, and gives them 30 seconds to
save themselves. Here a run that was interrupted exits with 75 as everywhere, USR1 and USR2 are passed on like SIGTERM,
and there is time for a checkpoint. Everything else is torchrun's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

SAVE_SECONDS = 600
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"
INTERRUPTED = 75


def main(arguments: Sequence[str]) -> int:
    """Run torchrun; return the exit code: 0 done, 1 failed, 2 refused, 75 interrupted and resumable."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main([f"--signals_to_handle={SIGNALS}", f"--shutdown-timeout={SAVE_SECONDS}", *arguments])
    except ChildFailedError as error:
        return code_of([failure.exitcode for failure in error.failures.values()])
    except SignalException:
        return INTERRUPTED
    return 0


def code_of(codes: Sequence[int]) -> int:
    """One exit code for those of several processes; negative: the signal that killed one.

    What follows from a process that was killed or has failed (a broken connection: 1) says less than its cause.
    """
    if any(code < 0 for code in codes):
        return 1
    return max(codes, key=lambda code: (code == 2, code == 1), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
