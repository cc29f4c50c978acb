"""Names of secrets, and what stands under one and is harmless.

secret  `api_key`, `DB_PASSWORD`: every value is a secret
weak    `token`, `auth`: every value that is not plainly harmless, such as a path or a small number
odd     `login`, `salt`: letters and digits mixed
pin     four or more digits
random  `tokens`: random letters and digits, no hash
solid   `key`: one of these that has nothing else, as few keys of a table have
pair    a secret's name that has no sign between itself and the value: odd, or long and random
long    the same of a weak name: long and random
"""

from __future__ import annotations

import functools
import re
from typing import Any
from unicodedata import category, normalize
from urllib.parse import unquote

MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f"
    "\u0981-\u0983\u09bc-\u09cd\u0b82\u0bbe-\u0bcd\u0c3e-\u0c4d\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
)
"""Vowels and accents that are written on letters, and are no letters to a regular expression; for its brackets."""
UNSEEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_LOOK_ALIKE = str.maketrans("асԁеіјкорѕтухαικορ", "acdeijkopstyxaikop", UNSEEN)
"""Cyrillic and Greek letters that are read as Latin ones, and what is not seen at all, in the name of a secret."""

_OTHER_LANGUAGES = tuple(
    re.sub(f"[{MARKS}]", "", normalize("NFKC", word)).translate(_LOOK_ALIKE)
    for word in (
        *(
            "geslo",
            "lozinka",
            "parolă",
            "slaptažodis",
            "κωδικόςπρόσβασης",
            "συνθηματικό",
            "şifrə",
            "құпиясөз",
        ),
        *(
            "סיסמה",
            "סיסמא",
            "סיסמאות",
            "ססמה",
            "ססמא",
            "סוד",
            "رقمسري",
            "كلمةالسر",
            "كلمةالمرور",
            "كلمةسر",
            "كلمةمرور",
            "رمزعبور",
            "گذرواژه",
            "پسورد",
        ),
        *(
            "密钥",
            "密鑰",
            "秘钥",
            "令牌",
            "口令",
            "秘密鍵",
            "合言葉",
            "トークン",
            "アクセスキー",
            "비밀키",
            "토큰",
            "암호키",
        ),
        *("รหัสผ่าน", "รหัสลับ", "โทเค็น", "पासवर्ड", "कूटशब्द", "পাসওয়ার্ড", "கடவுச்சொல்", "గుప్తపదం", "ключапи", "токен"),
        *(
            "passwort",
            "passwörter",
            "passwoerter",
            "kennwort",
            "kennwörter",
            "kennwoerter",
            "geheimnis",
            "zugangsdaten",
        ),
        *(
            "motdepasse",
            "motsdepasse",
            "contraseña",
            "contrasena",
            "secreto",
            "senha",
            "segredo",
            "segreto",
            "wachtwoord",
        ),
        *(
            "wachtwoorden",
            "lösenord",
            "losenord",
            "adgangskode",
            "kodeord",
            "passord",
            "salasana",
            "hasło",
            "haslo",
        ),
        *(
            "heslo",
            "jelszó",
            "jelszo",
            "şifre",
            "sifre",
            "katasandi",
            "mậtkhẩu",
            "пароль",
            "пароли",
            "пароля",
            "密码",
        ),
        *("密碼", "口令", "パスワード", "暗証番号", "비밀번호", "암호"),
    )
)
"""Password and secret in other languages, as a name's joined parts."""
_ENDS = re.compile(
    rf"(?:password|passw0rd|passwd|{'|'.join(_OTHER_LANGUAGES)}|passphrase|passcode|secret|secretstring|credential"
    r"|apikey|accesskey|secretkey|privatekey|privkey|sshkey|signingkey|encryptionkey|licensekey|masterkey|accountkey"
    r"|authorization|bearer|webhook|webhookurl|connectionstring|connstr|connstring|presharedkey"
    r"|(?:zugangs|geheim|api)schl(?:ü|ue)ssel|requirepass|masterauth|bindpw|rootpw|storepass|keypass)s?$"
)
"""How a name of a secret ends, its parts joined."""
_WEAK = re.compile(
    r"(?:.+_)?(?:pass|pwd|pw|pat|auth|oauth|otp|totp|creds?|dsn|jwt|cookies?|cookie_?jar|csrf|sas|psk|auth_?header"
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
_LEFT_OUT = (
    "id",
    "value",
    "b",
    "base",
    "hash",
    "json",
    "text",
    "str",
    "raw",
    "plain",
    "old",
    "new",
    "env",
    "prod",
    "production",
    "dev",
    "staging",
    "live",
    *(
        "de",
        "en",
        "fr",
        "es",
        "it",
        "pt",
        "nl",
        "sv",
        "da",
        "fi",
        "pl",
        "cs",
        "hu",
        "tr",
        "ru",
        "uk",
        "el",
        "he",
        "ar",
    ),
    *("fa", "hi", "zh", "ja", "ko", "th", "vi"),
)
"""Last parts that change nothing: `private_key_id`, `SECRET_KEY_BASE`, `key_b64`, `password_de`."""
_ESCAPED = re.compile(
    r"\\{1,2}(?:u([0-9a-f]{4})|u\{([0-9a-f]{1,5})\}|x([0-9a-f]{2}))|&#(?:x([0-9a-f]{2,4})|(\d{2,5}));",
    re.IGNORECASE,
)
"""A letter by its number: `\\u0077`, `\\x77`, `&#119;`."""

PATH = r"~?/[^\s'\"]{0,300}|\.{1,2}/[^\s'\"]{0,300}|[A-Za-z]:\\[^\s'\"]{0,300}"
_WORDS = (
    r"null|none|nil|true|false|str|string|int|float|bool|bytes|any|object|list|dict|tuple|set|optional|tensor|torch\.tensor"
    r"|self|cls|required|redacted|masked|hidden"
)
_INTERPOLATION = r"(?:[,\s]*\$\{(?:(?!:[-=?+])[^{},\s]){0,200})+(?:,\s*(?:null|none|\?\?\?|''|\"\")?)?\}*"
"""`${oc.env:API_KEY}` names a secret and holds none, unless it has a default."""
_HARMLESS = re.compile(
    rf"\\?|\**|{_WORDS}|{_INTERPOLATION}|\$[A-Za-z_]\w*|~|\?\?\?|<[^<>]*>|%s|(?-i:[A-Z]+(?:_[A-Z]+)+)|\{{\w*\}}|os\.environ(?:\.get)?[(\[]['\"]\w+['\"][)\]]",
    re.IGNORECASE,
)
_HARMLESS_WEAK = re.compile(
    rf"[-+]?\d{{1,6}}(?:\.\d*)?(?:e-?\d+)?|{PATH}|\[[A-Z]{{2,8}}\]|</?\w{{0,8}}>|yes|no|on|off|basic|digest|ntlm|kerberos",
    re.IGNORECASE,
)
ODD = r"(?![A-Za-z_-]+[\d_]*(?:$|[`\s]))(?![0-9a-f]{32,}$)(?=[^\s`]*\d)(?=[^\s`]*[A-Za-z])[A-Za-z0-9+/_~-]{8,}={0,2}"
"""Letters and digits mixed, not a name with a number behind it, not a hash: what `login`, `salt`, `--key` are followed
by where it is a secret."""
_SINGLE = {
    "salt": "odd",
    "login": "odd",
    "tok": "odd",
    "pin": "pin",
    "key": "solid",
    "keys": "solid",
} | dict.fromkeys(
    ("clave", "parola", "parol", "sandi", "schlüssel", "schluessel", "mdp", "κωδικός".translate(_LOOK_ALIKE)),
    "odd",
)
"""Names by which a secret goes as often as something else, and the kind of their values that are masked."""
RANDOM = r"(?=[^\s]{0,60}\d)(?=[^\s]{0,60}[A-Za-z])(?![./~])[A-Za-z0-9+/=._~-]{16,}"
"""What nobody would write as a word."""


def secret_name(name: object) -> bool:
    """Whether a key, an option or an environment variable is called like a secret."""
    return kind_of(str(name)) in ("secret", "weak")


def unescaped(text: str) -> str:
    """The text with the letters that are written by their numbers."""

    def letter(found: re.Match[str]) -> str:
        sign = chr(int(found[5]) if found[5] else int(next(filter(None, found.groups())), 16))
        return sign if sign.isalnum() or sign in "_-." or category(sign)[0] == "M" else found[0]

    return _ESCAPED.sub(letter, text)


@functools.lru_cache(10_000)
def kind_of(name: str) -> str:
    """The kind of a name; empty where it is harmless."""
    name = normalize("NFKC", unquote(unescaped(name[-200:])))
    name = re.sub(f"[{MARKS}]", "", name).translate(_LOOK_ALIKE)
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().translate(_LOOK_ALIKE)  # of capitals too
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


def kind_of_option(name: str) -> str:
    """The kind of `--NAME`, whose value follows."""
    return "odd" if name.lower().lstrip("-") == "key" else kind_of(name)


def is_harmless(value: Any, kind: str) -> bool:
    """Whether a value under the name of a secret tells none."""
    if value is None or isinstance(value, bool | float):  # a measured number
        return True
    if isinstance(value, list | tuple):
        return all(is_harmless(inner, kind) for inner in value)
    if kind in _SHAPED:
        return not any(_SHAPED[kind].fullmatch(word) for word in re.split(r"[\s,'\"]+", str(value)))
    text = str(value) if isinstance(value, str | int | float) else "?"
    return bool(_HARMLESS.fullmatch(text)) or (kind == "weak" and bool(_HARMLESS_WEAK.fullmatch(text)))


_SHAPED = {
    "odd": re.compile(ODD),
    "pin": re.compile(r"\d{4,12}"),
    "random": re.compile(rf"(?![0-9a-f]{{32,}}$){RANDOM}"),
    "pair": re.compile(rf"{ODD}|{RANDOM}"),
    "long": re.compile(RANDOM),
    "solid": re.compile(r"[0-9a-f]{32}|(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9]{20,}"),
}
"""Kinds whose values are told by their shape alone."""
