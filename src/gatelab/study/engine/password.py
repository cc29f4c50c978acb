"""The password of `study.storage`: taken off the command line, handed to the workers, never written down.

It travels in the environment, which every launcher on this machine and Slurm hand on. PostgreSQL's own ways
(PGPASSWORD, ~/.pgpass) work too: a URL without a password leaves them to it. Other secrets: `gatelab.run.record.secrets`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote

LOGIN = re.compile(r"(?P<before>[^:/]+://[^:/@]*):(?P<password>.*)@(?P<after>[^@]*)")
PASSWORD = "GATELAB_STORAGE_PASSWORD"
"""The environment variable that holds the password of `study.storage`; nothing of a study ever does."""


def keep_password(overrides: Sequence[str]) -> list[str]:
    """Take the password out of `study.storage=URL`, and hand it on in this process' environment.

    The workers, wherever a launcher starts them, inherit it; no file that they or this process write holds it.
    """
    found = []
    for line in overrides:
        key, equals, value = line.partition("=")
        if equals and key.lstrip("+") == "study.storage":
            url, password = split_password(value.strip("'\""))
            if password is not None:
                os.environ[PASSWORD] = password
                line = f"{key}='{url}'"
        found.append(line)
    return found


def split_password(url: str) -> tuple[str, str | None]:
    """The URL of a database without its password, and the password, decoded; None where it holds none."""
    match = LOGIN.fullmatch(url)
    if match is None:
        return url, None
    return f"{match['before']}@{match['after']}", unquote(match["password"])


def with_password(url: str) -> str:
    """The URL to connect with: its own password, else that of the environment, if it names a user."""
    scheme, slashes, rest = url.partition("://")
    user, _, place = rest.rpartition("@")
    if not user or ":" in user or "/" in user or PASSWORD not in os.environ:
        return url
    return f"{scheme}{slashes}{user}:{quote(os.environ[PASSWORD], safe='')}@{place}"


def hide_password(url: str) -> str:
    """The URL with `***` for a password."""
    return LOGIN.sub(r"\g<before>:***@\g<after>", url)
