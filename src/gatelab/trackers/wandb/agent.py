"""Environment variables by which `wandb agent` tells the command that it starts which run of which sweep it is.

Gatelab names a run by its configuration, the agent by an id of its own. The run directory follows the first, the run
at Weights & Biases the second; so one run may be shown under several ids.
"""

from __future__ import annotations

import os

from gatelab.run.process_group import OF_ONE_RUN


def started_by_agent() -> bool:
    """Whether this process is the run of an agent."""
    return all(os.environ.get(name) for name in OF_ONE_RUN)


def agent_settings() -> dict[str, str]:
    """The agent's settings of the run, as `WandbTracker` takes them; empty without an agent."""
    if not started_by_agent():
        return {}
    given = {name: os.environ.get(f"WANDB_{name.upper()}") for name in ("project", "entity")}
    told = {"sweep_id": os.environ["WANDB_SWEEP_ID"], "id": os.environ["WANDB_RUN_ID"], "job_type": "sweep"}
    return told | {name: value for name, value in given.items() if value}
