"""What `wandb agent` tells the command that it starts: which run of which sweep it is. By environment variables.

Two services name a run here: Gatelab by its configuration, the agent by an id of its own. The run directory follows
the first, what is shown at Weights & Biases the second; so one run may be shown under several ids.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

OWN = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")
"""The variables that are meant for one run, and for none that it starts."""


def started_by_agent() -> bool:
    """Whether this process is the run of an agent."""
    return all(os.environ.get(name) for name in OWN)


def of_agent() -> dict[str, Any]:
    """What the agent says about the run, as settings of `WandbTracker`; nothing if there is no agent."""
    if not started_by_agent():
        return {}
    told = {"sweep_id": os.environ["WANDB_SWEEP_ID"], "id": os.environ["WANDB_RUN_ID"], "job_type": "sweep"}
    for name in ("project", "entity"):
        value = os.environ.get(f"WANDB_{name.upper()}")
        if value:
            told[name] = value
    return told


def forget_agent(environment: MutableMapping[str, str]) -> None:
    """Take the agent out of the environment of a process that is not its run."""
    for name in OWN:
        environment.pop(name, None)
