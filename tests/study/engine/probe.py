"""A stand-in for `gatelab.study.engine.run_trial`: tells what it is like to be a child, or misbehaves on request.

Run by the tests of `runner.py`, in a child of the fork server or as a fresh interpreter.
"""

import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

PREPARED_BY = []


def preload():
    """What the fork server does for all runs."""
    import torch  # noqa: F401

    import gatelab.core.backends.native.kernel  # noqa: F401

    PREPARED_BY.append(os.getpid())


def main(arguments):
    request = json.loads(Path(arguments[0]).read_text())
    print("on stdout")
    print("on stderr", file=sys.stderr)
    return globals()[request["do"]](request)


def tell(request):
    """Write facts about this process."""
    import torch

    from gatelab.core.backends.native import kernel

    torch.set_num_threads(2)
    facts = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "command": [sys.modules["__main__"].__spec__.name, *sys.argv[1:]],
        "stdin": sys.stdin.read(),
        "signals": {s.name: signal.getsignal(s) == signal.SIG_DFL for s in (signal.SIGTERM, signal.SIGUSR1)},
        "threads": kernel.most_threads(),
        "cuda": torch.cuda.is_initialized(),
        "prepared_by": PREPARED_BY,
        "parent": os.getppid(),
    }
    a = torch.rand(600, 600)
    weakref.finalize(tell, print, "undone by the run")
    (a @ a).exp().sum().item()
    facts["pool"] = len(os.listdir("/proc/self/task"))
    Path(request["out"]).write_text(json.dumps(facts))
    return 7


def leave_children(request):
    """End while a process that was started is still there."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(request["out"]).write_text(str(child.pid))
    return 0


def wait(request):
    """Wait for a signal, with a child of its own."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(request["out"]).write_text(f"{os.getpid()} {os.getppid()} {child.pid}")
    time.sleep(600)


def fail(request):
    raise ValueError("as requested")


if __name__ == "__main__":
    from gatelab.run.process_group import die_with_parent

    die_with_parent()
    sys.exit(main(sys.argv[1:]))
