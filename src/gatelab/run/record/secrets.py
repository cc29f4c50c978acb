"""Secrets in what is written or shown: every one is replaced by `***`.

Run directories are shown, copied and put under version control, so whatever leaves the process passes here. A secret
is known by one of four signs: the name of its key (`api_key`, `DB_PASSWORD`, `Authorization`: `secret_name`) in plain
data, in a command or in a text; the shape that a service gives to its keys (`ghp_...`); its place (in a URL, after
`curl -u`); and the value of an environment variable that is called like a secret, wherever that value turns up.

Every pattern takes time linear in the text: none looks further than `FURTHEST` characters for its end.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from unicodedata import normalize
from urllib.parse import quote, unquote

MASK = "***"
FURTHEST = 500
SHORTEST = 8  # a shorter value of an environment variable is as likely a word
FOLDERS = ("PWD", "OLDPWD")  # the shell's working folders, no passwords
_UNSEEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_LOOK_ALIKE = str.maketrans("асԁеіјкорѕтухαικορ", "acdeijkopstyxaikop", _UNSEEN)
"""Cyrillic and Greek letters that are read as Latin ones, and what is not seen at all, in the name of a secret."""

_ENDS = re.compile(
    r"(?:password|passwd|passwort|kennwort|contraseña|contrasena|motdepasse|senha|passphrase|passcode|secret|credential"
    r"|apikey|accesskey|secretkey|privatekey|privkey|sshkey|signingkey|encryptionkey|licensekey|masterkey|accountkey"
    r"|authorization|bearer|webhook|webhookurl|connectionstring|connstr|connstring)s?$"
)
"""How a name of a secret ends, its parts joined."""
_WEAK = re.compile(
    r"(?:.+_)?(?:pass|pwd|pw|pat|auth|oauth|otp|totp|creds?|dsn|jwt|cookies?|cookie_?jar|csrf|sas|auth_?header"
    r"|(?:php)?sess(?:ion)?id|(?:ssh|db|user|root|smtp|mysql|pg|redis|admin)(?:pass|pw|pwd))|(?:.*[^n])?token"
)
"""Names that may mean something harmless too: a path, a small number, a symbol."""
_SYMBOLS = re.compile(
    "pad|unk|eos|bos|sep|cls|mask|end|start|special|seed|stop|next|first|last|per|input|output|blank|target|source|prev"
    "|previous|word|char|sub|type|num|max|min|this|each|every|any|current|new"
)
"""`pad_token` and its like are names of symbols, `per_token` of rates."""
_KEYS = re.compile(
    "api|access|secret|private|priv|account|signing|encrypt(?:ion)?|decryption|ssh|license|master|shared|auth|stripe"
    "|subscription|wandb|kaggle|comet|neptune|openai|anthropic|hf|huggingface|aws|azure|gcp|google|github|gitlab|slack"
    "|fernet|hmac|gpg|pgp|rsa|dsa|ecdsa|deploy|write|app|service|storage|consumer|client|session|tls|ssl"
)
"""A key of these opens something; `sort_key`, `primary_key` do not."""
_HOLDERS = re.compile(
    "api|auth|access|refresh|hf|github|gitlab|wandb|bearer|session|secret|private|bot|id|service"
)
"""`api_tokens` are secrets, `tokens` are not."""
_LEFT_OUT = ("id", "value", "b", "base", "hash", "json", "text", "raw", "plain", "old", "new", "env")
"""Last parts that change nothing: `private_key_id`, `SECRET_KEY_BASE`, `key_b64`."""

_PATH = r"~?/[^\s'\"]{0,300}|\.{1,2}/[^\s'\"]{0,300}|[A-Za-z]:\\[^\s'\"]{0,300}"
_WORDS = (
    r"null|none|nil|true|false|str|string|int|float|bool|bytes|any|object|list|dict|tuple|set|optional|tensor|torch\.tensor"
    r"|self|cls|required|redacted|masked|hidden"
)
_HARMLESS = re.compile(
    rf"\\?|\**|{_WORDS}|\$\{{[^}}]*\}}?|\$[A-Za-z_]\w*|~|\?\?\?|<[^<>]*>|%s|(?-i:[A-Z]+(?:_[A-Z]+)+)|\{{\w*\}}|os\.environ(?:\.get)?[(\[]['\"]\w+['\"][)\]]",
    re.IGNORECASE,
)
_HARMLESS_WEAK = re.compile(
    rf"[-+]?\d{{1,6}}(?:\.\d*)?(?:e-?\d+)?|{_PATH}|\[[A-Z]{{2,8}}\]|</?\w{{0,8}}>|yes|no|on|off|basic|digest|ntlm|kerberos",
    re.IGNORECASE,
)
_ODD = re.compile(
    r"(?![A-Za-z_-]+[\d_]*$)(?![0-9a-f]{32,}$)(?=\S*\d)(?=\S*[A-Za-z])[A-Za-z0-9+/_~-]{8,}={0,2}"
)
"""Letters and digits mixed, not a name with a number behind it, not a hash: what `login`, `salt`, `--key` are followed
by where it is a secret."""
_SINGLE = {"salt": "odd", "login": "odd", "tok": "odd", "pin": "pin", "key": "solid"}
"""Names by which a secret goes as often as something else, and the kind of their values that are masked."""
_RANDOM = r"(?=[^\s]{0,60}\d)(?=[^\s]{0,60}[A-Za-z])(?![./~])[A-Za-z0-9+/=._~-]{16,}"
"""What nobody would write as a word."""

_NAME = rf"(?<![\w.%-])(?P<name>[\w.%{_UNSEEN}-]++)"
_TYPE = (
    r"[ \t]?:[ \t]*(?:typing\.)?(?:str|string|bytes|any|secret\w{0,10}|(?:optional|union)\[[\w., |]{1,60}\])"
    r"(?:[ \t]*\|[ \t]*\w{1,40}){0,3}[ \t]{0,20}"
)
ASSIGNED = re.compile(
    rf"{_NAME}(?P<close>\\?[\"'`]?[\])]?)[ \t]{{0,40}}(?P<sign>(?:{_TYPE})?=(?![=~>])|[:?+]=|=>"
    r"|::?(?=[\s\"'\[\\])|:(?!//|:|$)|(?<=\w)>(?=[^<>\n]{1,500}</)|,(?=[ \t]*[\"']))",
    re.IGNORECASE,
)
FLAGGED = re.compile(
    r"(?<![\w.%-])(?P<name>--?[A-Za-z][\w.-]*+)(?P<close>[\"']?)"
    rf"(?P<sign>[ \t]{{1,20}}(?!\\\n)|[ \t]{{0,20}}\\\n[ \t]{{0,80}})(?:(?!-)|(?={_RANDOM}))"
)
BESIDE = re.compile(
    rf"{_NAME}(?P<close>[\"']?)(?P<sign>[ \t]{{1,20}}(?:is[ \t]+)?|`"
    rf"|:?\n(?:[-=]{{0,40}}\n)?[ \t]{{0,20}}(?={_RANDOM}[ \t]*(?:\n|$)))(?={_RANDOM})",
    re.IGNORECASE,
)
_AFTER = r"[^\s'\"\])}<>,;&|]|[,;&|](?![\s,;&|]|$)|['\"](?=\w)"
VALUE = re.compile(
    rf"[ \t]{{0,40}}(?:\\\n)?(?:[(\\]?\n[ +-]?[ \t]{{1,80}}(?:[rbfu]{{1,2}}(?=[\"']))?"
    rf"(?:(?P<below_quote>[\"'])(?P<below>[^\s\"']{{4,{FURTHEST}}})(?P=below_quote)"
    rf"|(?P<under>(?={_RANDOM})[^\s:'\"]{{1,{FURTHEST}}})(?=[ \t]*(?:\n|$)))"
    rf"|[|>][+-]?\d?[ \t]*\n[ +-]?[ \t]+(?P<block>[^\n]+)"
    rf"|(?:\n\s{{0,9}}['\"]?|[<`])(?P<random>{_RANDOM})(?=['\"]?[ \t]*(?:\n|$)|[>`])"
    rf"|(?P<listed>(?:\n[ +-]?[ \t]*-[ \t]+[^\n]+)+)"
    rf"|(?:(?:bearer|basic|digest|token|apikey)[ \t]+)?(?:[rbfu]{{1,2}}(?=[\"']))?(?:"
    rf"(?P<three>'''|\"\"\")(?P<long>.{{1,{FURTHEST}}}?)(?P=three)"
    rf"|\\(?P<escaped>[\"'])(?P<inner>(?!\\)(?:(?!\\(?P=escaped))[^\n]){{1,{FURTHEST}}})"
    rf"|(?P<quote>[\"'])(?P<quoted>(?:\\.|(?!(?P=quote))[^\\\n]){{1,{FURTHEST}}})(?P=quote)"
    rf"|[\"'](?P<open>[^\s\"',;)\]}}][^\"'\n]{{0,{FURTHEST}}})"
    rf"|(?P<call>[A-Za-z_][\w.]{{0,80}}[(\[][^)\]\n]{{0,{FURTHEST}}}[)\]]?(?:{_AFTER}){{0,80}})"
    rf"|\[(?P<items>[^\]\n]{{1,{FURTHEST}}})\]|\((?P<tuple>[^)\n]{{1,{FURTHEST}}})\)|\{{(?P<set>[^}}\n:]{{1,{FURTHEST}}})\}}"
    rf"|(?P<bare>(?:[^\s'\"`\[\](){{}},<>&|;]|[;&|](?=[^\s]))(?:{_AFTER}){{0,{FURTHEST}}})))",
    re.IGNORECASE | re.DOTALL,
)
_CALLED = re.compile(r"['\"](?![A-Z][A-Z0-9_]*['\"])\w|^\w+[(\[].*\d", re.DOTALL)
"""A call or a word in brackets that may hold a secret: a text that is no variable's name, or a number."""
_REST = re.compile(rf"(?:{_AFTER})*")
_PARTS = (
    "below",
    "under",
    "block",
    "random",
    "listed",
    "long",
    "inner",
    "quoted",
    "open",
    "call",
    "items",
    "tuple",
    "set",
    "bare",
)

_CLIENTS = r"mysql(?:dump|admin|import|show|check|slap|sh|pump)?|mariadb(?:-\w{1,20})?|mycli"
"""Commands that take a password directly after `-p`."""
_QUOTE = r"\\?[\"']"
_READERS = r"(?:\bsudo[ \t]+-S\b|\bchpasswd\b|--password-stdin|--with-token|\blogin\b)"
"""How commands look that read a password from their input."""

PLACES = tuple(
    re.compile(rf"(?P<kept>{before})(?:{secret})", re.IGNORECASE)
    for before, secret in (
        # user and password in a URL; not a port
        (
            r"\b[a-z][a-z0-9+.-]{0,30}://",
            rf"(?:[^\s/@'\":]{{0,{FURTHEST}}}:(?!\d{{1,5}}(?:[/?]|$))[^\s'\"]{{0,{FURTHEST}}}|[^\s/@'\"]{{1,{FURTHEST}}})(?=@)",
        ),
        (
            r"[?&#;](?:sig|key|code|signature|awsaccesskeyid|x-(?:amz|goog)-(?:signature|credential))=",
            r"[^\s&'\"#]+",
        ),
        (r"(?:token|key|secret|password|passwd|pwd|auth|sig|signature)%3D", r"[^\s&'\"%]+"),
        (
            r"authorization\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?"
            r"(?:basic|bearer|negotiate|ntlm|hawk|token|apikey|key|aws4-[\w-]+)[ \t]+",
            r"[^'\n]+?(?=\\?\"[ \t]*[,})\]\n]|['\n]|$)",
        ),
        (r"authorization:[ \t]*digest[ \t]+", r"[^'\n]+"),
        (r"\b(?:set-)?cookie:[ \t]*", r"[^'\"\n]+"),
        (r"\bbearer[ \t]{1,20}", r"[A-Za-z0-9+/=._~-]{8,}"),
        (r"(?:[ \t]-u|--user|--proxy-user)[ \t=]{0,9}['\"]?[^\s:'\"/]{1,100}:", r"[^\s'\":]+"),
        (r"\bsshpass[ \t]+-p[ \t]*", r"\S+"),
        (rf"\b(?:{_CLIENTS})\b[^\n|;]{{0,200}}?[ \t]-p", r"[^\s'\"]+"),
        (r"\bmongo\w{0,10}\b[^\n|;]{0,200}?[ \t]-p[ \t]{1,9}", r"[^\s'\"-][^\s'\";|]*"),
        (r"\bredis-cli\b[^\n|;]{0,200}?[ \t]-a[ \t]{1,9}", r"[^\s'\"-][^\s'\";|]*"),
        # kaggle.json
        (
            rf"{_QUOTE}username{_QUOTE}[ \t]*:\s{{0,20}}{_QUOTE}[^\s'\"]{{0,100}}{_QUOTE},\s{{0,20}}{_QUOTE}key{_QUOTE}"
            rf"[ \t]*:\s{{0,20}}{_QUOTE}",
            r"[^\s'\"\\]+",
        ),
        (
            rf"{_QUOTE}key{_QUOTE}[ \t]*:\s{{0,20}}{_QUOTE}",
            rf"[^\s'\"\\]{{1,200}}(?={_QUOTE},\s{{0,20}}{_QUOTE}username{_QUOTE}[ \t]*:)",
        ),
        (r"\b(?:docker|podman|az)[ \t]+login\b[^\n|;]{0,200}?[ \t]-p[ \t]{1,9}", r"\S+"),
        (r"(?<![^\s'\"])-p", rf"(?={_RANDOM})[A-Za-z0-9+=_~-]{{16,}}"),
        # echo K | docker login --password-stdin, and <<< K behind it
        (
            r"\b(?:echo|printf)[ \t]+(?:-\w+[ \t]+|['\"]?%s\S{0,3}[ \t]+)?['\"]?",
            rf"[^\s'\"|]{{4,{FURTHEST}}}(?=['\"]?[ \t]*\|[^\n|;]{{0,200}}?{_READERS})",
        ),
        (rf"{_READERS}[^\n|;]{{0,99}}<<(?:<[ \t]*|-?[ \t]*['\"]?\w+['\"]?\n)['\"]?", r"[^\s'\"]{4,}"),
        (
            r"\b(?:wandb|hf|huggingface-cli|npm|vault|neptune|comet)[ \t]+(?:auth[ \t]+)?login[ \t]+"
            r"(?:--?\w+[ \t]+){0,3}",
            _RANDOM,
        ),
        (r"\blogin[ \t]+\S{1,200}[ \t\n+-]+password[ \t]+", r"\S+"),  # .netrc
        (
            r"\b(?:discord(?:app)?\.com/api/webhooks/\d{1,25}|outlook\.office(?:365)?\.com/webhook\w*)/",
            r"[^\s'\"]+",
        ),
        (r"\bhooks\.slack\.com/services/", r"[A-Za-z0-9/_-]{8,}"),
    )
)
_PASSWORD = re.compile(
    rf"\b[a-z][a-z0-9+.-]{{0,30}}://[^\s/@:]{{0,{FURTHEST}}}:([^\s/@]{{1,{FURTHEST}}})@", re.IGNORECASE
)
SHAPES = re.compile(
    "|".join(
        (
            r"\bsk-[A-Za-z0-9_-]{8,}",  # OpenAI, Anthropic
            r"\b(?:gsk|xai|pplx|tvly|nvapi|csk|fw|r8|tfp|e2b)[-_](?=[^\s]{0,40}\d)[A-Za-z0-9_-]{20,}",  # other models
            r"\b[spr]k_(?:live|test)_[A-Za-z0-9]{8,}|\bwhsec_[A-Za-z0-9+/=]{16,}",  # Stripe
            r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub
            r"\bgithub_pat_[A-Za-z0-9_]{20,}",
            r"\bgl(?:pat|ptt|dt|rt|oas|soat|cbt|agent|ft|imt|ffct)-[A-Za-z0-9_-]{16,}",  # GitLab
            r"\bhf_[A-Za-z0-9]{20,}",  # Hugging Face
            r"\bxox[abceprs]-[A-Za-z0-9-]{8,}|\bxapp-\d-[A-Za-z0-9-]{20,}",  # Slack
            r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
            r"\bAIza[A-Za-z0-9_-]{30,}|\bGOCSPX-[A-Za-z0-9_-]{20,}",  # Google
            r"\bya29\.[A-Za-z0-9_-]{20,}",
            r"\bnpm_[A-Za-z0-9]{30,}",
            r"\bpypi-[A-Za-z0-9_-]{30,}",
            r"\bdo[opr]_v1_[a-f0-9]{40,}",  # DigitalOcean
            r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
            r"\bwandb_v\d_[A-Za-z0-9_]{20,}",
            r"\b(?:lin_api|dckr_pat|dckr_oat|glc|glsa|pscale_tkn|shpat|shpss|sntrys|sntryu|phx|figd|ntn)_[A-Za-z0-9_.=+/-]{16,}",
            r"\b(?:ATATT3|ATCTT3|ATBB)[A-Za-z0-9_=-]{16,}",  # Atlassian
            r"\bhv[sbr]\.[A-Za-z0-9_-]{16,}|\bdapi[a-f0-9]{32}\b|\bpul-[a-f0-9]{40}\b",  # Vault, Databricks, Pulumi
            r"(?:\bbot|\b)\d{8,10}:AA[A-Za-z0-9_-]{32,}",  # Telegram
            r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}",
            r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{0,}",  # JSON web token
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----)[\s\S]){0,20000}"
            r"(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?",
            # a line in the middle of a key file; a hash has no capitals
            r"(?m:^[ +-]?(?=[a-z0-9+/]{0,63}[A-Z])(?=[A-Z0-9+/]{0,63}[a-z])[A-Za-z0-9+/]{64}$)",
        )
    )
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


def secret_name(name: object) -> bool:
    """Whether a key, an option or an environment variable is called like a secret."""
    return _kind(str(name)) in ("secret", "weak")


@functools.lru_cache(10_000)
def _kind(name: str) -> str:
    """The kind of a name; empty where it is harmless.

    secret: every value is one; weak: one that is not plainly harmless; odd: one of letters and digits mixed; pin: four
    or more digits; random: one of random letters and digits; solid: one of these that has nothing else, as few keys of
    a table have.
    """
    name = normalize("NFKC", unquote(name[-200:])).translate(_LOOK_ALIKE)
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    parts = [stripped for part in re.split(r"[\W_]+", split) if (stripped := part.rstrip("0123456789"))]
    if parts[-2:] == ["session", "id"]:
        return "odd"
    while len(parts) > 1 and parts[-1] in _LEFT_OUT:
        parts.pop()
    if not parts:
        return ""
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    if _ENDS.search("".join(parts[-4:])):
        return "secret"
    if last in ("key", "keys") and _KEYS.fullmatch(before):
        return "secret"
    if last.endswith("tokens"):
        holder = last.removesuffix("tokens") or before
        return "weak" if _HOLDERS.fullmatch(holder) else "random" * (last == "tokens")
    if _SYMBOLS.fullmatch(before) and last == "token":
        return ""
    return "weak" if _WEAK.fullmatch("_".join(parts[-3:])) else _SINGLE.get(last, "")


def _kind_of_option(name: str) -> str:
    """The kind of `--NAME`, whose value follows."""
    return "odd" if name.lower().lstrip("-") == "key" else _kind(name)


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
    return len(value) >= SHORTEST - 2 * bool(odd) and not re.fullmatch(_PATH, value)


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


def _walk(value: Any, known: list[str], kind: str = "") -> Any:
    """`kind` of the name that everything below stands under; a value is masked where it is not empty."""
    if isinstance(value, Mapping):
        named = [_kind(str(value[key])) for key in ("name", "key") if isinstance(value.get(key), str)]
        pair = next(filter(None, named), "")  # {name: API_KEY, value: ...}
        below = kind if kind in ("secret", "weak") else ""

        def kind_of(key: object) -> str:
            if key == "key" and isinstance(value.get("username"), str):  # kaggle.json
                return "secret"
            return below or _kind(str(key)) or (pair if key == "value" else "")

        return {
            _clean(k, known) if isinstance(k, str) else k: _walk(inner, known, kind_of(k))
            for k, inner in value.items()
        }
    if kind and not _harmless(value, kind):
        return MASK
    if kind in ("secret", "weak"):
        return value
    if isinstance(value, list | tuple):
        # a command as a list: the word after `--password`
        after = [
            "",
            *(
                _kind_of_option(v) if isinstance(v, str) and v.startswith("-") and "=" not in v else ""
                for v in value
            ),
        ]
        client = any(isinstance(v, str) and re.fullmatch(rf"(?:\S*/)?(?:{_CLIENTS})", v) for v in value[:2])
        return [
            f"-p{MASK}"
            if client and isinstance(inner, str) and re.fullmatch(r"-p[^\s].*", inner)
            else _walk(inner, known, flag if isinstance(inner, str) and not inner.startswith("-") else "")
            for inner, flag in zip(value, after, strict=False)
        ]
    return _clean(value, known) if isinstance(value, str) else value


def _harmless(value: Any, kind: str) -> bool:
    """Whether a value under the name of a secret tells none."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, list | tuple):
        return all(_harmless(inner, kind) for inner in value)
    if kind in _SHAPED:
        return not any(_SHAPED[kind].fullmatch(word) for word in re.split(r"[\s,'\"]+", str(value)))
    text = str(value) if isinstance(value, str | int | float) else "?"
    return bool(_HARMLESS.fullmatch(text)) or (kind == "weak" and bool(_HARMLESS_WEAK.fullmatch(text)))


_SHAPED = {
    "odd": _ODD,
    "pin": re.compile(r"\d{4,12}"),
    "random": re.compile(rf"(?![0-9a-f]{{32,}}$){_RANDOM}"),
    "solid": re.compile(r"[0-9a-f]{32}|(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9]{20,}"),
}
"""Kinds whose values are told by their shape alone."""


def _clean(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, MASK)
    text = SHAPES.sub(MASK, text)
    for place in PLACES:
        text = place.sub(rf"\g<kept>{MASK}", text)
    for pattern in (ASSIGNED, FLAGGED, BESIDE):
        text = _named(text, pattern)
    return text


def _named(text: str, pattern: re.Pattern[str]) -> str:
    """The text without the values that stand after names of secrets."""
    kept, done, at = [], 0, 0
    while found := pattern.search(text, at):
        at = found.end("name")
        value = VALUE.match(text, found.end()) if (kind := _kind_at(text, found)) else None
        part = next((p for p in _PARTS if value and value[p] is not None), None)
        if value is None or part is None:
            continue
        told = value[part]
        if part == "call" and (kind == "random" or not _CALLED.search(told)):
            continue  # code
        same = told.lower() == found["name"].lower()  # password=password
        if (
            not same
            and not _harmless(told.strip(), kind)
            and (found["sign"] != "," or re.match(_RANDOM, told))
        ):
            kept += [text[done : value.start(part)], MASK]
            done = at = value.end(part)
            if part == "bare" and (rest := _REST.match(text, at)):
                done = at = rest.end()
    return "".join([*kept, text[done:]])


def _kind_at(text: str, found: re.Match[str]) -> str:
    """The kind of a name in a text; `api key: x` is one name too."""
    if found["sign"] == ">" and text[found.start() - 1 : found.start()] != "<":
        return ""
    if found["sign"] == "," and not found["close"]:
        return ""
    name = found["name"]
    if name.lower() in ("key", "keys") and re.search(
        r"(?i)\b(?:api|secret|access|private) $", text[max(0, found.start() - 10) : found.start()]
    ):
        return "secret"
    return _kind_of_option(name) if name.startswith("-") else _kind(name)
