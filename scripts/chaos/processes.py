"""The processes of one sweep, found by pid and killed by pid, never by name.

They are those that were started here, all that descend from them, and the workers that the study's own
`workers/*.json` name. A process that lost its parent stays known. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gatelab.study.engine.directory import birth, machine, read_owner

FORK_SERVER = "gatelab.study.engine.runner"


@dataclass(frozen=True)
class Member:
    """A process: its number, and its start in clock ticks since boot, since numbers are used again."""

    pid: int
    birth: int

    def alive(self) -> bool:
        """Whether it still runs."""
        return birth(self.pid) == self.birth

    def kill(self) -> bool:
        """SIGKILL, to this process and to no later one with its number; False if it was gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)
        return False


class Processes:
    """The living processes of the study in a folder."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self._known: set[Member] = set()
        self._sweep: Member | None = None

    def adopt(self, pid: int) -> None:
        """Add the process of `gatelab sweep` that was just started."""
        self._sweep = Member(pid, birth(pid) or 0)
        self._known.add(self._sweep)

    def living(self) -> dict[Member, str]:
        """Every living process, and what it is: sweep, worker, server (the fork server), run, or other."""
        parents, workers = _parents(), self._workers()
        known = {member.pid for member in {*self._known, *workers} if member.alive()}
        while found := {pid for pid, parent in parents.items() if parent in known and pid not in known}:
            known |= found
        self._known = {Member(pid, started) for pid in known if (started := birth(pid)) is not None}
        return {member: self._kind(member, workers, parents) for member in self._known}

    def of(self, kind: str) -> list[Member]:
        """The living processes of a kind, by pid."""
        return sorted((m for m, what in self.living().items() if what == kind), key=lambda m: m.pid)

    def kill_all(self, rng: random.Random) -> int:
        """Kill all of them, in any order, until none is left; how many there were."""
        killed = 0
        while members := sorted(self.living(), key=lambda m: m.pid):
            rng.shuffle(members)
            killed += sum(member.kill() for member in members)
            time.sleep(0.02)
        return killed

    def _workers(self) -> set[Member]:
        folder, here = self.study / "workers", machine()
        owners = [read_owner(folder, path.stem) for path in folder.glob("*.json")]
        return {Member(owner.pid, owner.birth) for owner in owners if owner and owner.machine == here}

    def _kind(self, member: Member, workers: Iterable[Member], parents: dict[int, int]) -> str:
        if member == self._sweep:
            return "sweep"
        if member in workers:
            return "worker"
        process = Path("/proc", str(member.pid))
        with contextlib.suppress(OSError):
            if os.readlink(process / "fd/1").startswith(f"{self.study}/trials/"):
                return "run" if os.getsid(member.pid) == member.pid else "other"
        with contextlib.suppress(OSError):
            forked_by = parents.get(member.pid)
            if any(worker.pid == forked_by for worker in workers):
                return "server" if FORK_SERVER.encode() in (process / "cmdline").read_bytes() else "other"
        return "other"


def _parents() -> dict[int, int]:
    """Parent of every process that can be seen."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{entry.name}/stat").read_text()
                found[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    return found
