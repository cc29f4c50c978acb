"""Two Hydra launchers: `gatelab_local` starts a process for each job, `gatelab_joblib` uses joblib's loky.

No `from __future__ import annotations` here: Hydra runs the module before Python knows it by name.

Both run the jobs at the same time, write what a job prints to `<its output directory>.log`, and end it when the
launching process dies. `joblib` is imported when it is used. What a job does is the task function's business.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.gatelab_study._job import Job, run


@dataclass
class LocalConf:
    """`hydra/launcher=gatelab_local`."""

    _target_: str = "hydra_plugins.gatelab_study.launchers.LocalLauncher"


@dataclass
class JoblibConf:
    """`hydra/launcher=gatelab_joblib`; `n_jobs`: processes at the same time, -1: one for each job."""

    _target_: str = "hydra_plugins.gatelab_study.launchers.JoblibLauncher"
    n_jobs: int = -1


class _Processes(Launcher):
    """What both have in common: the jobs."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a job needs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def jobs(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Job]:
        """The jobs, numbered from `first`."""
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        given = (self.hydra_context, self.task_function, self.config)
        ours = (os.getpid(), str(version.getbase()), str(JobRuntime.instance().get("name")))
        return [
            Job(*given, tuple(overrides), first + number, *ours)
            for number, overrides in enumerate(job_overrides)
        ]


class LocalLauncher(_Processes):
    """A fresh interpreter for each job, in a session of its own, so that Ctrl-C reaches the launching process only.

    The task function must be importable: it is pickled by its name.
    """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start all jobs and wait for them; a job that died has failed.

        Raises:
            RuntimeError: the task function cannot be pickled by its name.
        """
        jobs = self.jobs(job_overrides, initial_job_idx)
        try:
            payloads = [pickle.dumps(job) for job in jobs]
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise RuntimeError(
                "hydra/launcher=gatelab_local starts fresh interpreters, so the task function must be importable: "
                f"{error}. hydra/launcher=gatelab_joblib takes any."
            ) from None
        started = [(job, self._start(payload)) for job, payload in zip(jobs, payloads, strict=True)]
        return [self._ended(job, process) for job, process in started]

    @staticmethod
    def _start(payload: bytes) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hydra_plugins.gatelab_study._job"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdin is not None
        process.stdin.write(payload)
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def _ended(job: Job, process: subprocess.Popen[bytes]) -> JobReturn:
        answer, _ = process.communicate()
        if process.returncode == 0 and answer:
            returned: JobReturn = pickle.loads(answer)
            return returned
        how = (
            f"exit code {process.returncode}" if process.returncode >= 0 else f"signal {-process.returncode}"
        )
        error = RuntimeError(f"worker {job.number} ended with {how}; what it printed: {job.log()}")
        return JobReturn(overrides=job.overrides, status=JobStatus.FAILED, _return_value=error)


class JoblibLauncher(_Processes):
    """joblib's loky: processes that take one job after the other."""

    def __init__(self, n_jobs: int = -1, **_other: Any) -> None:
        self.n_jobs = n_jobs

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs.

        Raises:
            ImportError: joblib is not installed.
        """
        import joblib

        jobs = self.jobs(job_overrides, initial_job_idx)
        processes = len(jobs) if self.n_jobs < 0 else self.n_jobs
        parallel = joblib.Parallel(n_jobs=processes, backend="loky", batch_size=1, pre_dispatch="all")
        found: list[JobReturn] = parallel(joblib.delayed(run)(job) for job in jobs)
        return found


for name, node in {"gatelab_local": LocalConf, "gatelab_joblib": JoblibConf}.items():
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="gatelab")
