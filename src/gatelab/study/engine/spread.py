"""Starts a run on all nodes of a worker: torchrun on each, here and at the followers, over one frozen request.

It is a `Runner` as those in `process.py`. A run that loses a process, a torchrun or a whole node has been killed, not
failed: its row waits again. What a follower does is `follower.py`.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gatelab.run.errors import RequestError
from gatelab.run.record.directory import write_json
from gatelab.study.engine.group import Leader, free_port
from gatelab.study.engine.runner import TRIAL, FreshProcess, Process, Runner
from gatelab.study.engine.run_trial import end_file

LATE_SECONDS = 20.0
"""How long the run goes on here when it has ended badly elsewhere: time to say what was wrong."""
LEAVE_SECONDS = 5.0
"""How long a follower's processes may take to end when the run has ended here; then they are killed."""
KILLED = 128
"""`gatelab.run.torchrun` adds this to the signal that killed one of its processes."""


@dataclass(frozen=True)
class Order:
    """What torchrun is to start on every node.

    Attributes:
        run: its number, of this worker.
        request: path of the frozen request; slot: of the worker; devices: processes on each node.
        nodes, address, port: of torchrun.
    """

    run: int
    request: str
    slot: int
    devices: int
    nodes: int
    address: str
    port: int

    def start(self, node: int, env: Mapping[str, str], cwd: Path) -> FreshProcess:
        """Start torchrun on this node; what it prints is appended to the run's log, one a node."""
        log = Path(self.request).with_suffix(".log" if node == 0 else f".node{node}.log")
        command = [
            *(sys.executable, "-m", "gatelab.run.torchrun"),
            *(f"--nnodes={self.nodes}", f"--node-rank={node}", f"--nproc-per-node={self.devices}"),
            *(f"--master-addr={self.address}", f"--master-port={self.port}", "--max-restarts=0"),
            *("-m", TRIAL, self.request),
        ]
        return FreshProcess.start(command, log, env, cwd)


class SpreadProcess(Process):
    """A run on several nodes, from the node that leads."""

    def __init__(self, leader: Leader, order: Order, local: FreshProcess) -> None:
        self.leader, self.order, self.local = leader, order, local
        self._over, self._killed, self._cut = threading.Event(), False, False

    def wait(self) -> int:
        """Wait for the end, here and at the followers."""
        watch = threading.Thread(target=self._watch, name=f"run-{self.order.run}", daemon=True)
        watch.start()
        code = self.local.wait()
        self._over.set()
        watch.join()
        self.leader.send({"run": self.order.run, "do": "end"})
        ends: dict[int, int | None] = {**self._ends_elsewhere(), 0: code}
        if self._killed:
            return -int(signal.SIGKILL)
        if self._cut:  # what was killed here because it had ended there is no cause
            del ends[0]
        for node, how in sorted(ends.items()):
            if how is None or how < 0 or how >= KILLED:
                return self._lose(node, how, code)
        return 1 if self._cut else code

    def terminate(self) -> None:
        """Ask the processes here to save themselves and leave; they agree on that with the others."""
        self.local.terminate()

    def kill(self) -> None:
        """Kill every process, on all nodes."""
        self._killed = True
        self.leader.send({"run": self.order.run, "do": "kill"})
        self.local.kill()

    def _watch(self) -> None:
        """End the run here, when it has ended badly elsewhere and this node does not notice."""
        bad_since = float("inf")
        while not self._over.wait(0.1):
            ends = self.leader.ends(self.order.run).values()
            if any(code != 0 for code in ends):
                bad_since = min(bad_since, time.monotonic())
            gone = any(code is None for code in ends)
            if time.monotonic() - bad_since > (LEAVE_SECONDS if gone else LATE_SECONDS):
                self._cut = True
                self.local.kill()
                return

    def _ends_elsewhere(self) -> dict[int, int | None]:
        others = self.order.nodes - 1
        with self.leader.changed:  # a follower kills what does not end, and a dead one is noticed
            self.leader.changed.wait_for(lambda: len(self.leader.ends(self.order.run)) == others)
            return self.leader.ends(self.order.run)

    def _lose(self, node: int, how: int | None, code: int) -> int:
        """Write down that the run was killed, unless it had ended before; the exit code."""
        request = Path(self.order.request)
        end = _read(end_file(request))
        if end is not None and end["outcome"] != "failed":
            return max(code, 0)
        where = "this node" if node == 0 else f"node {node} ({self.leader.host(node)})"
        what = f"{where} is gone"
        if how is not None:
            number = -how if how < 0 else how - KILLED
            what = f"a process on {where} was killed by signal {number}"
        for told in request.parent.glob(
            f"{request.stem}.rank*.json"
        ):  # what others say of the broken connection
            told.unlink()
        write_json(end_file(request), {"outcome": "lost", "error": what})
        return 1


class SpreadRunner(Runner):
    """Starts each run on all nodes of the group.

    Args:
        leader: of the group.
    """

    def __init__(self, leader: Leader) -> None:
        self.leader, self._numbers = leader, itertools.count(1)

    def start(self, request: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Process:
        """Begin a run.

        Raises:
            RequestError: it is for another number of nodes than the worker has.
        """
        asked = json.loads(request.read_text())
        trainer, nodes = asked["config"]["trainer"], self.leader.place.nodes
        if trainer.get("num_nodes") != nodes:
            raise RequestError(
                f"trainer.num_nodes={trainer.get('num_nodes')}: the trials of one study take the same number of nodes, "
                f"{nodes} in this one."
            )
        order = Order(
            run=next(self._numbers),
            request=str(request),
            slot=asked["slot"],
            devices=processes_of(trainer["devices"]),
            nodes=nodes,
            address=self.leader.address(),
            port=free_port(),
        )
        self.leader.send({"run": order.run, "do": "start", "order": asdict(order)})
        return SpreadProcess(self.leader, order, order.start(0, env, cwd))

    def close(self) -> None:
        """Send the followers home."""
        self.leader.close()


def processes_of(devices: Any) -> int:
    """How many processes a run has on each node.

    Raises:
        RequestError: that depends on the machine.
    """
    if isinstance(devices, list | tuple):
        return len(devices)
    if not isinstance(devices, int) or devices < 1:
        raise RequestError(f"trainer.devices={devices}: on several nodes give a number, the same for each.")
    return devices


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
