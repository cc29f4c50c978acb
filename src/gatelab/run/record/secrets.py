"""Secrets in what is written or shown: every one is replaced by `***`.

Run directories are shown, copied and put under version control, so whatever leaves the process passes here. A secret
is known by one of four signs: the name of its key (`api_key`, `DB_PASSWORD`, `Authorization`) in plain data, in a
command or in a text; the shape that a service gives to its keys (`ghp_...`); its place in a URL; and the value of an
environment variable that is called like a secret, wherever that value turns up.

Every pattern takes time linear in the text: none looks further than `FURTHEST` characters for its end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
FURTHEST = 2000
SHORTEST = 8  # a shorter value of an environment variable is as likely a word
FOLDERS = ("PWD", "OLDPWD")  # the shell's working folders, no passwords

_KEY = r"(?:api|access|secret|private|account|signing|encryption|ssh|license|master|shared|auth|subscription)"
# `pad_token` and its like are names of symbols.
_SYMBOL = "".join(
    rf"(?<!{word}[_-])"
    for word in ("pad", "unk", "eos", "bos", "sep", "cls", "mask", "end", "start", "special")
)
_WORD = (
    rf"(?:{_KEY}[_-]?keys?|secrets?|{_SYMBOL}token|passwords?|passwd|passphrase|credentials?|authorization"
    r"|bearer|cookie|connection[_-]?string|client[_-]?secret)"
)
# Short words are names of secrets only as a whole part of a name: DB_PASS, sshpass, GITHUB_PAT, MYSQL_PWD.
_PART = r"(?:(?<=[._-])(?:pass|pat|pwd|auth)|sshpass|(?<![a-z0-9])pwd)"
NAME = re.compile(
    rf"(?:.*[^a-z0-9])?(?:[a-z0-9]*{_WORD}|{_PART})(?:[_-](?:id|value|b64|base64|hash))?", re.IGNORECASE
)

_OPEN = r"\\?[\"']"
_VALUE = (
    rf"(?:(?P<quote>\\?[\"'])(?!\\?[\"'])(?P<quoted>(?:(?!(?P=quote)).){{1,{FURTHEST}}})(?P=quote)"
    rf"|\[(?P<items>[^\]\n]{{1,{FURTHEST}}})\]|(?P<bare>[^\s'\"\[\](){{}},;&|<>](?:[^\s'\"\])}};&|<>,]|,(?!\s|$))*))"
)
_HARMLESS = re.compile(
    r"\\?|\**|null|none|true|false|str|int|bytes|any|optional|\$\{[^}]*\}?|\$\w+|~|\?\?\?", re.IGNORECASE
)
_SCHEME = r"(?:(?:bearer|basic|digest|token|apikey)\s+)?"
# The name, its closing quote, a sign of assignment, the value. `--password VALUE` has a blank for the sign.
ASSIGNMENT = re.compile(
    rf"(?P<name>(?:{_WORD}|{_PART})(?:[_-](?:id|value|b64|base64|hash))?(?:{_OPEN})?(?:\]|\))?"
    rf"[ \t]{{0,20}}(?:=|:(?=[\s\"'\[\\])|:(?!//|:|$))[ \t]{{0,20}}{_SCHEME}){_VALUE}",
    re.IGNORECASE,
)
FLAG = re.compile(
    rf"(?P<name>(?<![\w-])--?(?:[a-z0-9]{{1,30}}[_-]){{0,4}}(?:{_WORD}|pass|pwd|auth)[\"']?[ \t]{{1,20}}(?!-)){_VALUE}",
    re.IGNORECASE,
)
HEADER = re.compile(r"(?P<name>\bbearer[ \t]{1,20})(?P<bare>[A-Za-z0-9+/=._~-]{8,})", re.IGNORECASE)
URL = re.compile(
    rf"(\b[a-z][a-z0-9+.-]{{0,30}}://)(?:[^\s/@'\":]{{0,{FURTHEST}}}:[^\s'\"@]{{0,{FURTHEST}}}|[^\s/@'\"]{{1,{FURTHEST}}})@",
    re.IGNORECASE,
)
QUERY = re.compile(
    r"([?&](?:sig|key|code|signature|x-amz-signature|x-goog-signature)=)[^\s&'\"#]+", re.IGNORECASE
)
SHAPES = re.compile(
    "|".join(
        (
            r"\bsk-[A-Za-z0-9_-]{8,}",  # OpenAI, Anthropic
            r"\b[spr]k_(?:live|test)_[A-Za-z0-9]{8,}",  # Stripe
            r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub
            r"\bgithub_pat_[A-Za-z0-9_]{20,}",
            r"\bgl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{16,}",  # GitLab
            r"\bhf_[A-Za-z0-9]{20,}",  # Hugging Face
            r"\bxox[abeprs]-[A-Za-z0-9-]{8,}",  # Slack
            r"\bhooks\.slack\.com/services/[A-Za-z0-9/_-]{8,}",
            r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
            r"\bAIza[A-Za-z0-9_-]{30,}",  # Google
            r"\bya29\.[A-Za-z0-9_-]{20,}",
            r"\bnpm_[A-Za-z0-9]{30,}",
            r"\bpypi-[A-Za-z0-9_-]{30,}",
            r"\bdop_v1_[a-f0-9]{40,}",  # DigitalOcean
            r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
            r"\bwandb_v\d_[A-Za-z0-9_]{20,}",
            r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{0,}",  # JSON web token
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
        )
    )
)


def without_secrets(value: Any) -> Any:
    """Plain data with every secret in it replaced by `***`; the data itself is not changed."""
    return _walk(value, _known())


def secret_name(name: object) -> bool:
    """Whether a key, an option or an environment variable is called like a secret."""
    return bool(NAME.fullmatch(_split(str(name)[-200:])))


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
        return None if value == masked else key
    return next((found for three in inner if (found := _first(*three))), None)


def by_variables(value: Any) -> Any:
    """Plain data whose secrets are named by the environment variables that hold them: `${oc.env:API_KEY}`.

    A secret that stands in no variable is left as it is.
    """
    holders = {held: f"${{oc.env:{name}}}" for name, held in sorted(os.environ.items()) if held}
    known = {secret: holders[secret] for secret in _known()}

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


def _known() -> list[str]:
    named = {v for k, v in os.environ.items() if k not in FOLDERS and secret_name(k)}
    return sorted({value for value in named if len(value) >= SHORTEST}, key=len, reverse=True)


def _walk(value: Any, known: list[str], masked: bool = False) -> Any:
    """`masked`: everything below stands under the name of a secret."""
    if isinstance(value, Mapping):
        return {k: _walk(inner, known, masked or secret_name(k)) for k, inner in value.items()}
    if masked:
        return value if _harmless(value) else MASK
    if isinstance(value, list | tuple):
        # a command as a list: the word after `--password`
        after = [
            False,
            *(isinstance(v, str) and v.startswith("-") and "=" not in v and secret_name(v) for v in value),
        ]
        return [
            _walk(inner, known, flagged and isinstance(inner, str) and not inner.startswith("-"))
            for inner, flagged in zip(value, after, strict=False)
        ]
    return _clean(value, known) if isinstance(value, str) else value


def _harmless(value: Any) -> bool:
    """Whether a value under the name of a secret tells none."""
    return (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, str) and _HARMLESS.fullmatch(value) is not None)
    )


def _clean(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, MASK)
    text = URL.sub(rf"\g<1>{MASK}@", SHAPES.sub(MASK, text))
    text = QUERY.sub(rf"\g<1>{MASK}", text)
    for pattern in (ASSIGNMENT, FLAG, HEADER):
        text = pattern.sub(_masked, text)
    return text


def _masked(found: re.Match[str]) -> str:
    part = next(name for name in ("quoted", "items", "bare") if found.groupdict().get(name) is not None)
    start, end = found.start(part) - found.start(), found.end(part) - found.start()
    whole = found[0]
    return whole if _HARMLESS.fullmatch(found[part]) else f"{whole[:start]}{MASK}{whole[end:]}"


def _split(name: str) -> str:
    """`apiKey` as `api_Key`, so that a word inside a name is seen."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
