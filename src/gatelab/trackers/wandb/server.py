"""What can be learnt from the server of Weights & Biases: does it answer and know the key, what has it of a run?

Asks no person, and decides between online and offline within a second and a half. It sends nothing of a run.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import netrc
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from gatelab.trackers.follow import SPECIAL, Row

SECONDS = 1.5
"""How long the server may take to answer."""
SERVER = "https://api.wandb.ai"
NO_KEY = "no key"
PAGE = 1000
"""Steps of history that are asked for at once."""
HISTORY = """query HistoryPage(
  $entity: String, $project: String!, $run: String!, $from: Int64!, $to: Int64!, $size: Int!
) {
  project(name: $project, entityName: $entity) {
    run(name: $run) { historyKeys history(minStep: $from, maxStep: $to, samples: $size) }
  }
}"""

STOPPED = """query RunStopped($entity: String, $project: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { stopped } }
}"""


def server() -> str:
    """The server's address: `WANDB_BASE_URL`, else the user's settings of wandb, else the public one."""
    return str(os.environ.get("WANDB_BASE_URL") or _settings().get("base_url") or SERVER).rstrip("/")


def find_key() -> str | None:
    """The key that wandb would take without asking: `WANDB_API_KEY`, the netrc file, the user's settings."""
    host = urllib.parse.urlsplit(server()).netloc
    return os.environ.get("WANDB_API_KEY") or _netrc_key(host) or _settings().get("api_key") or None


def has_wandb_key() -> bool:
    """Whether Weights & Biases could log in without asking."""
    return bool(find_key() or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))


def why_offline(seconds: float = SECONDS) -> str | None:
    """Why a run cannot be sent to the server now, in a few words; None if it can.

    Args:
        seconds: how long the server may take, names and connections included.
    """
    if not has_wandb_key():
        return NO_KEY
    answer: list[str | None] = [_silent(seconds)]
    asking = threading.Thread(target=lambda: answer.insert(0, _ask(seconds)), daemon=True)
    asking.start()
    asking.join(seconds)  # looking a name up knows no time limit of its own
    return answer[0]


def _silent(seconds: float) -> str:
    return f"{server()} did not answer within {seconds:g} s"


def _ask(seconds: float) -> str | None:
    try:
        viewer = _query("query Viewer { viewer { id } }", {}, seconds).get("viewer")
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        return f"{server()} refused the key" if refused else f"{server()} answered with {error.code}"
    except (OSError, ValueError) as error:
        if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
            return _silent(seconds)
        return f"{server()} cannot be reached ({getattr(error, 'reason', None) or error})"
    return None if viewer or not find_key() else f"{server()} refused the key"


def history(entity: str | None, project: str, run_id: str) -> list[Row]:
    """The metrics that the server has of a run, in order; none if it does not know the run.

    Raises:
        OSError, ValueError: it cannot be asked.
    """
    rows: list[Row] = []
    names = {"entity": entity or None, "project": project, "run": run_id}
    for start in range(0, 1 << 62, PAGE):
        data = _query(HISTORY, {**names, "from": start, "to": start + PAGE, "size": PAGE}, 30.0)
        run = (data.get("project") or {}).get("run")
        if run is None:
            return []
        lines = [json.loads(line) for line in run["history"] or []]
        rows += [row for row in map(_row, lines) if row]
        if start + PAGE > (run["historyKeys"] or {}).get("lastStep", -1):
            break
    return rows


def asked_to_stop(entity: str | None, project: str, run_id: str) -> bool:
    """Whether the run was asked to stop at the server: by a person, or by a sweep that ends weak runs early."""
    names = {"entity": entity or None, "project": project, "run": run_id}
    try:
        data = _query(STOPPED, names, 5.0)
    except (OSError, ValueError):
        return False
    return bool(((data.get("project") or {}).get("run") or {}).get("stopped"))


def _row(line: dict[str, Any]) -> Row:
    """The metrics of a line of history; nothing if it holds a picture or a table."""
    own = {name: value for name, value in line.items() if not name.startswith("_")}
    if any(isinstance(value, dict) for value in own.values()):
        return {}
    values: Row = {}
    for name, value in own.items():
        values[name] = SPECIAL.get(value, math.nan) if isinstance(value, str) else value
    return values


def _query(query: str, variables: dict[str, Any], seconds: float) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{server()}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "gatelab"},
    )
    key = find_key()
    if key:
        word = base64.b64encode(f"api:{key}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
    with urllib.request.urlopen(request, timeout=seconds) as reply:
        return dict(json.load(reply).get("data") or {})


def _netrc_key(host: str) -> str | None:
    named = os.environ.get("NETRC")
    candidates = [named] if named else ["~/.netrc", "~/_netrc"]
    for name in candidates:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            found = netrc.netrc(Path(name).expanduser()).authenticators(host)
            if found:
                return found[2]
    return None


def _settings() -> dict[str, Any]:
    """The `[default]` section of the user's settings of wandb."""
    import configparser

    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    parser = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError, configparser.Error):
        parser.read(Path(folder).expanduser() / "settings")
    return dict(parser["default"]) if "default" in parser else {}
