"""Secrets in the columns of a table in a text: a line of names, one of them a secret's, and the rows below it.

`user,password` above `joe,x`: by comma, semicolon, tab or pipe, in Markdown too. Beside the name of who or what the
secret opens (`user`, `url`) every value of the column is masked, else what looks like a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gatelab.run.record.secrets.names import MARKS, is_harmless, kind_of

_LONGEST = 1000
_FIELD = re.compile(rf"[^\W\d][\w.{MARKS}-]{{0,40}}(?: [\w.{MARKS}-]{{1,40}}){{0,2}}")
_OPENED = re.compile(
    r"(?:.*[ _-])?(?:users?|usernames?|login|logins|e-?mails?|accounts?|hosts?|hostname|servers?|urls?|uri"
    r"|sites?|website|database|benutzer|benutzername|usuario|utilisateur|utente|konto|domain|machine|ssid)",
    re.IGNORECASE,
)
"""Names that stand beside a password: who or what it opens."""
_INSERTED = re.compile(
    r"(?P<kept>\binsert[ \t]+into[ \t]+\S{1,100}?[ \t]{0,9}\((?P<names>[^()\n]{1,500})\)\s{0,9}values\s{0,9})"
    r"(?P<rows>\([^()\n]{1,500}\)(?:,\s{0,9}\([^()\n]{1,500}\)){0,100})",
    re.IGNORECASE,
)
"""`INSERT INTO users (name, password) VALUES ('joe', 'x')`."""
_RULE = re.compile(r"[-:| \t+=]+")


def without_columns(text: str, mask: str) -> str:
    """The text with `mask` for the values below names of secrets."""
    lines = _INSERTED.sub(lambda found: _masked_rows(found, mask), text).split("\n")
    rows: Callable[[str], str | None] | None = None
    for place, line in enumerate(lines):
        if rows is not None and line.lstrip("+- ").startswith("#"):  # a remark
            continue
        told = rows(line) if rows is not None and line.strip() else None
        if told is not None:
            lines[place] = told
        else:
            rows = _below(line, mask)
    return "\n".join(lines)


def _below(header: str, mask: str) -> Callable[[str], str | None] | None:
    """What masks the rows below a line of names, None for a line of another width; None where it is no such line."""
    if len(header) > _LONGEST:
        return None
    for sign in ",;\t|^ ":
        names = [_bare(field) for field in _fields(header, sign)]
        if sign != "|" and f"{sign} " in header and any(" " in name for name in names):  # a sentence
            continue
        if sum(map(bool, names)) < 2 or not all(
            _FIELD.fullmatch(name) for name in names if name and sign not in name
        ):
            continue
        if sign == " " and not all(_OPENED.fullmatch(name) or kind_of(name) for name in names):
            continue
        if kinds := kinds_of_columns(names):
            return lambda line: _masked_row(line, sign, len(names), kinds, mask)
    return None


def kinds_of_columns(names: Sequence[str]) -> dict[int, str]:
    """The places of the columns that hold secrets, and the kind of their values."""
    opens = any(_OPENED.fullmatch(name) for name in names)
    kinds = {place: _kind(name, opens) for place, name in enumerate(names) if opens or " " not in name}
    return {place: kind for place, kind in kinds.items() if kind}


def _kind(name: str, opens: bool) -> str:
    """The kind of a column's values."""
    kind = kind_of(name)
    if opens and not name.lower().endswith("token"):
        return kind if kind in ("secret", "weak") else ""
    return {"secret": "secret" if opens else "pair", "weak": "long"}.get(kind, "")


def _masked_row(line: str, sign: str, width: int, kinds: dict[int, str], mask: str) -> str | None:
    if sign == "|" and _RULE.fullmatch(line):
        return line
    fields = _fields(line, sign)
    if len(fields) != width or len(line) > _LONGEST:
        return None
    for place, kind in kinds.items():
        if (value := _bare(fields[place])) and not is_harmless(value, kind):
            fields[place] = fields[place].replace(value, mask)
    return sign.join(fields)


def _fields(line: str, sign: str) -> list[str]:
    """The fields between the signs that stand in no quotes."""
    if sign == " ":
        return line.split()
    hidden = re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace(sign, "\0"), line)
    return [field.replace("\0", sign) for field in hidden.split(sign)]


def _masked_rows(found: re.Match[str], mask: str) -> str:
    names = [_bare(name) for name in found["names"].split(",")]
    kinds = {place: "secret" for place, name in enumerate(names) if kind_of(name) in ("secret", "weak")}

    def masked(row: re.Match[str]) -> str:
        return f"({_masked_row(row[1], ',', len(names), kinds, mask) or row[1]})"

    return found["kept"] + re.sub(r"\(([^()]*)\)", masked, found["rows"])


def _bare(field: str) -> str:
    """A field without spaces, quotes and the signs of a difference around it."""
    return field.strip("+# \t\r").strip("'\"`")
