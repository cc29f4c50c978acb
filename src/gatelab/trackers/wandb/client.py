"""Questions to the server of Weights & Biases, through `wandb.Api`: does it answer, and which rows of a run has it?

The process beside a run and `gatelab sync` call this, the process that trains never does. No person is asked.
`asked_to_stop` uses the one private name of wandb in Gatelab, `Api._service_api` (tried: 0.31), because the public
API does not tell whether a run was asked to stop; `test_wandb_client.py` fails when it is gone.
"""

from __future__ import annotations

import math
import time
from typing import Any

from gatelab.run.record.secrets import without_secrets
from gatelab.trackers.follow import SPECIAL, Row

SECONDS = 3
"""How long the server may take to answer whether it knows the key, when nobody asked for `mode=online`."""
PATIENT_SECONDS = 30
NO_KEY = "no key"
STOPPED = """query RunStopped($entity: String, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { stopped } }
}"""


def has_key() -> bool:
    """Whether wandb finds a key, or an identity token, without asking for one. The server is not asked."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.Error:  # something that is not a key
        return False


def connect(seconds: int = PATIENT_SECONDS) -> Any:
    """A `wandb.Api` whose server has answered and knows the key.

    Raises:
        ConnectionError: there is none; the message says why in a few words (`NO_KEY` without a key).
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    begun = time.monotonic()
    try:
        if not wandb.login(prompt=False, verify=False):
            raise ConnectionError(NO_KEY)
        return wandb.Api(timeout=seconds)
    except wandb.Error as error:
        if time.monotonic() - begun >= seconds:
            raise ConnectionError(f"{server()} did not answer within {seconds} s") from None
        raise ConnectionError(without_secrets(str(error).splitlines()[0])) from None


def server() -> str:
    """The server's address, without a password in it."""
    import wandb

    return str(without_secrets(wandb.setup().settings.base_url))


def history(entity: str | None, project: str, run_id: str) -> list[Row]:
    """The metrics that the server has of a run, in order; none if it does not know the run.

    Raises:
        ConnectionError, wandb.Error: it cannot be asked.
    """
    import wandb
    from wandb.apis.public.runs import RunNotFoundError

    api = connect()
    try:
        run = api.run("/".join(part for part in (entity, project, run_id) if part))
    except (RunNotFoundError, wandb.errors.CommError) as error:
        if isinstance(error, RunNotFoundError) or isinstance(getattr(error, "exc", None), RunNotFoundError):
            return []
        raise
    if run.lastHistoryStep < 0:
        return []
    return [row for row in map(_row, run.scan_history(use_cache=False)) if row]


def asked_to_stop(entity: str | None, project: str, run_id: str) -> bool:
    """Whether the run was asked to stop at the server: by a person, or by a sweep that ends weak runs early."""
    import wandb

    names = {"entity": entity or None, "project": project, "run": run_id}
    try:
        data = connect(SECONDS)._service_api.execute_graphql(STOPPED, names)
    except (ConnectionError, wandb.Error):
        return False
    return bool(((data.get("project") or {}).get("run") or {}).get("stopped"))


def _row(line: dict[str, Any]) -> Row:
    """The metrics of a line of history; nothing if it holds a picture or a table."""
    own = {name: value for name, value in line.items() if not name.startswith("_")}
    if any(isinstance(value, dict) for value in own.values()):
        return {}
    return {k: SPECIAL.get(v, math.nan) if isinstance(v, str) else v for k, v in own.items()}
