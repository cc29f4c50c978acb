"""Secrets in what is written or shown: every one is replaced by `***`.

Run directories are shown, copied and put under version control, so whatever leaves the process passes here. A secret
is known by one of four signs: the name of its key (`api_key`, `DB_PASSWORD`, `Authorization`: names.py) in plain
data, in a command or in a text; the shape that a service gives to its keys (`ghp_...`) and its place (in a URL, after
`curl -u`: text.py); and the value of an environment variable that is called like a secret, wherever it turns up.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from gatelab.run.record.secrets.names import (
    PATH,
    is_harmless,
    kind_below,
    kind_of,
    kind_of_option,
    secret_name,
)
from gatelab.run.record.secrets.places import FURTHEST
from gatelab.run.record.secrets.tables import kinds_of_columns
from gatelab.run.record.secrets.text import CONTENTS, KINDS_OF_TYPES, MASK, TYPES, masked_places, masked_text

SHORTEST = 8  # a shorter value of an environment variable is as likely a word
FOLDERS = ("PWD", "OLDPWD")  # the shell's working folders, no passwords
_PASSWORD = re.compile(
    rf"\b[a-z][a-z0-9+.-]{{0,30}}://[^\s/@:]{{0,{FURTHEST}}}:([^\s/@]{{1,{FURTHEST}}})@", re.IGNORECASE
)


def without_secrets(value: Any) -> Any:
    """Plain data with every secret in it replaced by `***`; the data itself is not changed."""
    return _walk(value, _known())


class MaskedStream:
    """A text stream whose every write is without secrets."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text without its secrets."""
        self.stream.write(without_secrets(text))
        return len(text)


@contextlib.contextmanager
def masked_output() -> Iterator[None]:
    """Let a process whose output is a log file write no secret there, whatever prints it: warnings, tracebacks, code
    of a user's own."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (MaskedStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def first_secret(value: Any) -> str | None:
    """The key of the first secret that stands in the clear in plain data; None where there is none.

    An interpolation such as `${oc.env:API_KEY}` names a secret and holds none.
    """
    return _first(value, without_secrets(value), "")


def _first(value: Any, masked: Any, key: str) -> str | None:
    if isinstance(value, Mapping) and isinstance(masked, Mapping):
        inner = ((value[k], masked[k], f"{key}.{k}" if key else str(k)) for k in value)
    elif isinstance(value, list | tuple) and isinstance(masked, list):
        inner = ((v, m, f"{key}[{i}]") for i, (v, m) in enumerate(zip(value, masked, strict=True)))
    else:
        return None if value == masked or value != value else key  # NaN is not equal to itself
    return next((found for three in inner if (found := _first(*three))), None)


def by_variables(value: Any) -> Any:
    """Plain data whose secrets are named by the environment variables that hold them: `${oc.env:API_KEY}`.

    A secret that stands in no variable is left as it is.
    """
    holders = {held: f"${{oc.env:{name}}}" for name, held in sorted(os.environ.items()) if held}
    known = {secret: holders[secret] for secret in _variables()}

    def named(value: Any, masked: Any) -> Any:
        if isinstance(value, Mapping):
            below = masked if isinstance(masked, Mapping) else dict.fromkeys(value)
            return {key: named(inner, below[key]) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            items = masked if isinstance(masked, list) else [None] * len(value)
            return [named(v, m) for v, m in zip(value, items, strict=True)]
        if not isinstance(value, str) or value == masked:
            return value
        for secret, name in known.items():
            value = value.replace(secret, name)
        return holders.get(value, value)

    return named(value, without_secrets(value))


def from_variables(value: Any) -> Any:
    """What `by_variables` was given, where the same variables are set.

    Raises:
        KeyError: a variable is not set here.
    """
    if isinstance(value, Mapping):
        return {key: from_variables(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [from_variables(inner) for inner in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{oc\.env:(\w+)\}", lambda found: os.environ[found[1]], value)


def _variables() -> list[str]:
    """The values of the environment variables that are called like secrets; a path is none."""
    named = {value for name, value in os.environ.items() if name not in FOLDERS and secret_name(name)}
    return sorted((value for value in named if _telling(value)), key=len, reverse=True)


def _telling(value: str) -> bool:
    """Whether a secret is too long, or too odd, to be met by chance in a text; a path is no secret."""
    odd = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return len(value) >= SHORTEST - 2 * bool(odd) and not re.fullmatch(PATH, value)


def _known() -> list[str]:
    """What is masked wherever it stands: values of variables, their lines, passwords in URLs; quoted too."""
    whole = set(_variables())
    whole |= {
        line.strip() for value in whole for line in value.splitlines() if len(line.strip()) >= 2 * SHORTEST
    }
    in_urls = (found[1] for value in os.environ.values() if (found := _PASSWORD.search(value)))
    whole |= {password for password in in_urls if _telling(password)}
    written = {form for value in whole for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
    return sorted(written, key=len, reverse=True)


def _walk(value: Any, known: list[str], kind: str = "", *, inner: bool = False) -> Any:
    """`kind` of the name that everything below stands under; a value is masked where it is not empty.

    inner: it stands in a list.
    """
    if isinstance(value, Mapping):
        kinds = _kinds_of_values(value)
        value = _with_masked_columns(value, known)
        return {
            masked_text(k, known) if isinstance(k, str) else k: _walk(
                inner, known, kind_below(kind, str(k), kinds[k])
            )
            for k, inner in value.items()
        }
    if kind and not is_harmless(value, kind):
        return MASK
    if kind in ("secret", "weak"):
        return value
    if isinstance(value, list | tuple):
        return _walk_list(value, known, inner)
    return masked_text(value, known) if isinstance(value, str) else value


def _with_masked_columns(value: Mapping[Any, Any], known: list[str]) -> Mapping[Any, Any]:
    """A mapping of which one list names the columns of another: `{"columns": ["user", "password"], "data": [...]}`."""
    lists = {key: inner for key, inner in value.items() if isinstance(inner, list) and inner}
    header = next((key for key, names in lists.items() if _kinds_of_table([names, names])), None)
    masked = {}
    for key, rows in lists.items():
        flat = not isinstance(rows[0], list | tuple)
        table = [rows] if flat else rows
        if header not in (None, key) and (columns := _kinds_of_table([lists[header], *table])):
            told = [_walk_row(row, known, columns) for row in table]
            masked[key] = told[0] if flat else told
    return {**value, **masked}


def _kinds_of_values(value: Mapping[Any, Any]) -> dict[Any, str]:
    """The kinds of a mapping's values: of their keys, of `name` for `value`, and for kaggle.json's `key`."""
    kinds = {key: kind_of(str(key)) for key in value}
    small = {str(key).lower(): key for key in value}
    if isinstance(value.get("username"), str) and "key" in value:
        kinds["key"] = "secret"
    names = [value[small[word]] for word in ("name", "key") if word in small]
    pair = next(filter(None, (kind_of(name) for name in names if isinstance(name, str))), "")
    for word in ("value", "val"):
        if word in small:
            kinds[small[word]] = kinds[small[word]] or pair
    named = {
        key for key, name in value.items() if isinstance(name, str) and kind_of(name.lstrip("-/")) == "secret"
    }
    types = (value[small[word]] for word in TYPES if word in small)
    found = (KINDS_OF_TYPES.get(kind_of(name), "") for name in types if isinstance(name, str))
    pair = next(filter(None, found), "")
    for key in value:
        told = pair if str(key).lower() in CONTENTS else ""
        kinds[key] = kinds[key] or told or "long" * bool(named - {key})
    return kinds


def _walk_list(value: list[Any] | tuple[Any, ...], known: list[str], inner: bool) -> list[Any]:
    """A list may be a command: what follows `--password`; or a pair of a name and what it holds.

    Two words of a list may be columns or classes, so that what stands second is masked where it looks like a secret,
    in a tuple or in a list of lists where it is odd already.
    """
    together = inner or isinstance(value, tuple)
    value = _in_command(value)
    if len(value) == 2 and isinstance(value[0], str) and value[0][:1] != "-" and secret_name(value[0]):
        kind = "pair" if together else "long"
        return [_walk(value[0], known), _walk(value[1], known, kind * isinstance(value[1], str))]
    if kinds := _kinds_of_table(value):
        return [_walk(value[0], known, inner=True), *(_walk_row(row, known, kinds) for row in value[1:])]
    walked: list[Any] = []
    for place, item in enumerate(value):
        before = str(value[place - 1]) if place else ""
        option = before.startswith("-") and isinstance(value[place - 1], str)
        if not isinstance(item, str) or not (option or item.startswith("-")):
            sign = place > 1 and before in ("=", ":", "==", "->", "is")
            named = isinstance(item, str) and kind_of(str(value[place - 2]) if sign else before) == "secret"
            walked.append(_walk(item, known, "long" * named, inner=True))
            continue
        follows = option and "=" not in before and not item.startswith("-")
        walked.append(_walk(item, known, kind_of_option(before) if follows else ""))
    return walked


def _kinds_of_table(rows: Sequence[Any]) -> dict[int, str]:
    """The kinds of the columns of lists of equal length, the first of which holds names: those that are secrets."""
    width = len(rows[0]) if rows and isinstance(rows[0], list | tuple) else 0
    if len(rows) < 2 or width < 2 or not all(isinstance(name, str) for name in rows[0]):
        return {}
    if not all(isinstance(row, list | tuple) and len(row) == width for row in rows):
        return {}
    kinds = kinds_of_columns(rows[0])
    return {place: kind for place, kind in kinds.items() if kind in ("secret", "weak", "pair")}


def _walk_row(row: Sequence[Any], known: list[str], kinds: Mapping[int, str]) -> list[Any]:
    return [_walk(cell, known, kinds.get(place, ""), inner=True) for place, cell in enumerate(row)]


def _in_command(words: list[Any] | tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
    """The words of a command without those that are secrets by their place: `mysql -pX`, `curl -u me:X`."""
    between = '", "'
    line = between.join(map(str, words)) if words and isinstance(words[0], str) else ""
    told = masked_places(line).split(between)
    if len(told) != len(words):
        return words
    return [masked if isinstance(word, str) else word for word, masked in zip(words, told, strict=True)]
