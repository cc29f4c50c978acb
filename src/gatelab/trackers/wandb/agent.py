"""Environment variables by which `wandb agent` tells the command that it starts which run of which sweep it is.

Gatelab names a run by its configuration, the agent by an id of its own. The run directory follows the first, the run
at Weights & Biases the second; so one run may be shown under several ids.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

OWN = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")
"""Variables that are meant for one run, and not for the processes that it starts."""


def started_by_agent() -> bool:
    """Whether this process is the run of an agent."""
    return all(os.environ.get(name) for name in OWN)


def agent_settings() -> dict[str, str]:
    """The agent's settings of the run, as `WandbTracker` takes them; empty without an agent."""
    if not started_by_agent():
        return {}
    given = {name: os.environ.get(f"WANDB_{name.upper()}") for name in ("project", "entity")}
    told = {"sweep_id": os.environ["WANDB_SWEEP_ID"], "id": os.environ["WANDB_RUN_ID"], "job_type": "sweep"}
    return told | {name: value for name, value in given.items() if value}


def forget_agent(environment: MutableMapping[str, str]) -> None:
    """Remove the agent's variables from the environment of a process that is not its run."""
    for name in OWN:
        environment.pop(name, None)
