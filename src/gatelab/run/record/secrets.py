"""Takes secrets out of what is recorded: run directories are shown, copied and put under version control.

Three kinds are recognised: values of keys that are called like a secret (`api_key`, `token`, `password`...), the
password in a URL, and the value of any environment variable that is called like a secret, wherever it turns up.
It cannot know a secret that has none of these forms.
"""

from __future__ import annotations

import os
import re
from typing import Any

MASK = "***"
NAMES = r"(?:(?:api|access|secret|private|account)[_-]?key|token|secret|password|passwd|pwd|credentials?)"
SECRET_NAME = re.compile(rf"(?:.*[._-])?{NAMES}(?:[_-]id)?", re.IGNORECASE)
ASSIGNMENT = re.compile(
    rf"(?<![\w.+~-])((?:[\w.+~-]*[._+~-])?{NAMES}(?:=|\s*:\s+))([^\s'\"]+)", re.IGNORECASE
)
URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'\":]*:[^\s'\"]*|[^\s/@'\"]+)@", re.IGNORECASE)
FOLDERS = ("PWD", "OLDPWD")  # the shell's working folders, no passwords
SHORTEST = 8  # a shorter value of an environment variable is as likely a word


def without_secrets(value: Any) -> Any:
    """Plain data with every secret in it replaced by `***`; the data itself is not changed."""
    return _walk(value, _known())


def _known() -> list[str]:
    named = {v for k, v in os.environ.items() if SECRET_NAME.fullmatch(k) and k not in FOLDERS}
    values = {value for value in named if len(value) >= SHORTEST}
    return sorted(values, key=len, reverse=True)


def _walk(value: Any, known: list[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if inner is not None and _is_secret(key, inner) else _walk(inner, known)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_walk(inner, known) for inner in value]
    return _clean(value, known) if isinstance(value, str) else value


def _is_secret(key: Any, value: Any) -> bool:
    return isinstance(value, str) and bool(SECRET_NAME.fullmatch(str(key)))


def _clean(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, MASK)
    return URL.sub(rf"\g<1>{MASK}@", ASSIGNMENT.sub(rf"\g<1>{MASK}", text))
