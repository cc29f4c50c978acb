"""One job of a launcher, in the process that runs it. Not scanned by Hydra, because its name begins with `_`.

`python -m hydra_plugins.gatelab_study._job` reads a pickled job from stdin and writes the pickled result to stdout.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from hydra import version
from hydra.core.utils import JobReturn, JobRuntime, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass
class Job:
    """What a process needs to run one job.

    Attributes:
        hydra_context, task_function, config: of the launcher.
        overrides: of this job; number: its place among the jobs.
        parent: the process whose death ends this one.
        version_base, name: of Hydra and of the application, which are global there.
    """

    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    overrides: tuple[str, ...]
    number: int
    parent: int
    version_base: str
    name: str

    def log(self) -> Path:
        """Where what the job prints is kept."""
        return Path(str(self.config.hydra.sweep.dir)).absolute() / f"{self.number}.log"


def run(job: Job) -> JobReturn:
    """Run a job in this process: its output goes to its log, Ctrl-C at the terminal is not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(job.parent)
    version.setbase(job.version_base)
    JobRuntime.instance().set("name", job.name)
    setup_globals()
    log = os.open(job.log(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    config = job.hydra_context.config_loader.load_sweep_config(job.config, list(job.overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = str(job.number), job.number
    OmegaConf.set_readonly(config.hydra, True)
    return run_job(
        hydra_context=job.hydra_context,
        task_function=job.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _die_with(parent: int) -> None:
    """Be killed when the process `parent` dies (Linux; elsewhere a worker ends with its work)."""
    if sys.platform == "linux" and os.getppid() == parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def main() -> None:
    """Serve one job."""
    answer = os.dup(1)
    job: Job = pickle.load(sys.stdin.buffer)
    result = pickle.dumps(run(job))
    with os.fdopen(answer, "wb") as file:
        file.write(result)


if __name__ == "__main__":
    main()
