"""Secrets in a text: by the name before them, by their shape, and by their place.

Every pattern takes time linear in the text: none looks further than `FURTHEST` characters for its end.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterable

from gatelab.run.record.secrets.blocks import Blocks, dent
from gatelab.run.record.secrets.names import (
    MARKS,
    ODD,
    RANDOM,
    UNSEEN,
    is_harmless,
    kind_below,
    kind_of,
    kind_of_option,
    mixed,
    unescaped,
    within,
)
from gatelab.run.record.secrets.places import FURTHEST, PLACES
from gatelab.run.record.secrets.tables import without_columns

MASK = "***"

_LETTER = rf"\w.%@${UNSEEN}{MARKS}-"
_NAME = rf"(?<![{_LETTER}])(?P<name>[{_LETTER}]++)"
_TYPE = (
    r"[ \t]?:[ \t]*(?:typing\.)?(?:str|string|bytes|any|secret\w{0,10}|(?:optional|union)\[[\w., |]{1,60}\])"
    r"(?:[ \t]*\|[ \t]*\w{1,40}){0,3}[ \t]{0,20}"
)
_REMARK = (
    r"[ \t](?:\([^()\n]{1,40}\)|(?:for|от|для|к|für|von|pour|para|per)[ \t](?:'[^'\n]{1,99}'|[^\s:']{1,60})"
    r"|(?:provided|given|used|received)\b)"
)
"""`Password for 'https://host': `, `token (of the bot): `, `Incorrect API key provided: `."""
_SPACE = r"[ \t\u00a0]"
_LAST_WORDS = re.compile(
    r"keys?|words?|phrases?|codes?|number|passe|answer|api|secret[ao]|segreta|khau|laluan|sandi|siri|sirri|sirta|rahasia|anahtar|lokugqithisa|soʻz|mật|báo|\w",
    re.IGNORECASE,
)
"""How a name of several words ends: `pass phrase`, `mot de passe`, `p a s s w o r d`."""
_NO_WORD = rf"[^\w{MARKS} \t]"
_ARROWS = ("->", "→", "⇒", "⟶", "➜", "≔")
_ASSIGNED = re.compile(
    rf"{_NAME}(?P<close>(?:\[[\"']?\w{{1,40}}[\"']?\]){{0,3}}\\?[\"'`]?[\])]?(?:\*\*)?(?:{_REMARK})?){_SPACE}{{0,40}}(?P<sign>(?:{_TYPE})?=(?![=~>])"
    rf"|[:?+]=|=>|[：＝]|{'|'.join(_ARROWS)}|::?(?=[\s\"'\[\\*])|:(?!//|:|$)|(?<=\w)>(?=[^<>\n]{{1,500}}</))(?:\*\*)?",
    re.IGNORECASE,
)
_FLAGGED = re.compile(
    rf"(?<![{_LETTER}])(?P<name>--?\w[{_LETTER}]*+)(?P<close>[\"']?)"
    rf"(?P<sign>[ \t]{{1,20}}(?!\\\n)|[ \t]{{0,20}}\\\n[ \t]{{0,80}}|,[ \t]{{0,2}}(?=[\"']))"
    rf"(?:(?![\"']?-)|(?={RANDOM}))"
)
_VERB = "(?:is|was|be|to|ist|lautet|est|es|è|är|jest)"
_OF = r"(?:(?:of|for|to)[ \t]+(?:(?:the|my|our|a)[ \t]+)?[^\s:'\"]{1,60}[ \t]+)?"
_BESIDE = re.compile(
    rf"{_NAME}(?P<close>[\"'\]]?)(?P<sign>[ \t]{{1,20}}(?:{_OF}{_VERB}[ \t]+|[(#])?"
    rf"(?=[\"']?(?:[A-Za-z0-9+/_~-]{{8}}|\d{{4}}))"
    rf"|`(?={RANDOM})|:?\n(?:[-=]{{0,40}}\n)?[ \t]{{0,20}}(?={RANDOM}[ \t]*(?:\n|$)))",
    re.IGNORECASE,
)
"""`ENV API_KEY x`, `password is x`, `the password of the server is x`."""
_IN_A_ROW = re.compile(
    rf"\|[ \t]{{0,20}}[`*]{{0,2}}{_NAME}(?P<close>[`*]{{0,2}})(?P<sign>[ \t]{{0,20}}\|)(?=[^\n|]{{1,{FURTHEST}}}\|)",
    re.IGNORECASE,
)
"""`| password | x |`."""
_ELEMENT = re.compile(
    rf"<(?P<name>[\w.:{MARKS}-]{{1,100}})(?P<close>)(?P<sign>[ \t]{{1,9}}value=)", re.IGNORECASE
)
"""`<Password Value="x"/>`."""
_PAIRED = re.compile(
    rf"{_NAME}(?:(?P<close>\\?[\"']),|\()(?P<sign>)(?=[ \t]{{0,9}}[rbfu]{{0,2}}\\?[\"'])", re.IGNORECASE
)
"""`setattr(settings, "api_key", "x")`, `SecretStr("x")`."""
_DEFAULT = re.compile(rf"\boc\.env:[ \t]{{0,9}}(?P<name>[\w.{MARKS}-]++)(?P<close>)(?P<sign>[ \t]{{0,9}},)")
"""`${oc.env:API_KEY,x}`."""
_ESCAPED_QUOTE = r"\\?[\"']?"
_IS = rf"{_ESCAPED_QUOTE}[ \t]*[:=][ \t]*{_ESCAPED_QUOTE}"
_NEXT = rf"[\s,;+-]{{1,80}}{_ESCAPED_QUOTE}"
_NAME_AND_VALUE = re.compile(
    rf"\b(?:name|key){_IS}(?P<name>[\w.{MARKS}-]{{1,100}})(?P<close>{_ESCAPED_QUOTE})"
    rf"(?P<sign>{_NEXT}val(?:ue)?{_ESCAPED_QUOTE}[ \t]*[:=])",
    re.IGNORECASE,
)
"""`{"name": "API_KEY", "value": "x"}`."""
_TYPES = (
    "name|key|type|kind|id|field|label|variable|header|title|path|env|param"
    "|parameter|option|setting|property|attribute"
)
_CONTENT = "value|val|content|data|default|payload|body"
TYPES, CONTENTS = _TYPES.split("|"), _CONTENT.split("|")
_TYPE_AND_VALUE = re.compile(
    rf"\b(?:{_TYPES}){_IS}(?P<name>[\w.{MARKS}-]{{1,100}})"
    rf"(?P<close>{_ESCAPED_QUOTE})(?P<sign>{_NEXT}(?:{_CONTENT}){_ESCAPED_QUOTE}[ \t]*[:=])",
    re.IGNORECASE,
)
"""`{"type": "password", "content": "x"}`."""
_VALUE_AND_NAME = re.compile(
    rf"(?P<kept>\b(?:{_CONTENT}){_IS})(?P<value>[^\s\"'\\,]{{1,{FURTHEST}}})"
    rf"(?P<rest>{_ESCAPED_QUOTE}{_NEXT}(?:name|key|type|variable){_IS}(?P<name>[\w.{MARKS}-]{{1,100}}))",
    re.IGNORECASE,
)
"""`{"value": "x", "name": "API_KEY"}`."""
_AFTER = r"[^\s'\"\])}<>,;&|]|[,;&|](?![\s,;&|]|$)|['\"](?=\w)"
_ASIDE = (
    r"(?:(?:/\*[^*\n]{0,99}\*/|<!--[^\n>]{0,99}-->|<!\[CDATA\[|[!&][\w!/]{1,40}[ \t]|[ \t]#[^\n]{0,200}(?=\n)"
    r"|\((?=[\"'][^)\n]{1,500}\n))[ \t]{0,9})?"
)
"""A comment, a tag of YAML or an open bracket before a value."""
_VALUE = re.compile(
    rf"{_SPACE}{{0,40}}{_ASIDE}(?:\\\n)?(?:[(\\]?\n[ +-]?[ \t]{{1,80}}(?:[rbfu]{{1,2}}(?=[\"']))?"
    rf"(?:(?P<below_quote>[\"'])(?P<below>[^\s\"']{{4,{FURTHEST}}})(?P=below_quote)"
    rf"|(?P<under>(?={RANDOM})[^\s:'\"]{{1,{FURTHEST}}})(?=[ \t]*(?:\n|$)))"
    rf"|[|>][+-]?\d?[ \t]*\n(?P<block>(?P<dent>[ +-]?[ \t]+)[^\n]+(?:\n(?P=dent)[^\n]+){{0,99}})"
    rf"|(?:\n\s{{0,9}}['\"]?|[<`])(?P<random>{RANDOM})(?=['\"]?[ \t]*(?:\n|$)|[>`])"
    rf"|`(?P<ticked>{ODD})(?=`)"
    rf"|(?P<listed>(?:\n[ +-]?[ \t]*-[ \t]+[^\n]+)+)"
    rf"|(?:(?:bearer|basic|digest|token|apikey)[ \t]+)?(?:[rbfu]{{1,2}}(?=[\"']))?(?:"
    rf"(?P<three>'''|\"\"\")(?P<long>.{{1,{FURTHEST}}}?)(?P=three)"
    rf"|\\(?P<escaped>[\"'])(?P<inner>(?!\\)(?:(?!\\(?P=escaped))[^\n]){{1,{FURTHEST}}})"
    rf"|(?P<twice>''|\"\")(?P<twiced>[^\s'\",;)\]}}][^\s'\"]{{0,{FURTHEST}}})(?P=twice)"
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
_MORE = re.compile(
    r"[\"'](?:[ \t]{0,9}(?:(?:\+|\.|&|\|\|)\s{0,80}|\\?\s{1,80}[+-]?[ \t]{0,80})[rbfu]{0,2}"
    rf"(?P<quote>[\"'])(?:(?!(?P=quote))[^\n]){{1,{FURTHEST}}}(?P=quote)){{1,20}}"
)
"""The further parts of a text in quotes: `'a' + 'b'`."""
_FURTHER = {"bare": _REST, "quoted": _MORE}
_PARTS = (
    "below",
    "under",
    "block",
    "random",
    "ticked",
    "listed",
    "long",
    "inner",
    "twiced",
    "quoted",
    "open",
    "call",
    "items",
    "tuple",
    "set",
    "bare",
)

_SHAPES = re.compile(
    "|".join(
        (
            r"\bsk-[A-Za-z0-9_-]{8,}",  # OpenAI, Anthropic
            r"\b(?:gsk|xai|pplx|tvly|nvapi|csk|fw|r8|tfp|e2b)[-_](?=[^\s]{0,40}\d)[A-Za-z0-9_-]{20,}",  # other models
            r"\b[spr]k_(?:live|test)_[A-Za-z0-9]{8,}|\bwhsec_[A-Za-z0-9+/=]{16,}",  # Stripe
            r"\bgh[pousr]_[A-Za-z0-9]{20,}",  # GitHub
            r"\bgithub_pat_[A-Za-z0-9_]{20,}",
            r"\bgl(?:pat|ptt|dt|rt|oas|soat|cbt|agent|ft|imt|ffct)-[A-Za-z0-9_-]{16,}",  # GitLab
            r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}",  # Hugging Face
            r"\bxox[abceprs]-[A-Za-z0-9-]{8,}|\bxapp-\d-[A-Za-z0-9-]{20,}",  # Slack
            r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",  # AWS
            r"\bAIza[A-Za-z0-9_-]{30,}|\bGOCSPX-[A-Za-z0-9_-]{20,}",  # Google
            r"\bya29\.[A-Za-z0-9_-]{20,}|\b1//0[A-Za-z0-9_-]{25,}",
            r"\bnpm_[A-Za-z0-9]{30,}",
            r"\bpypi-[A-Za-z0-9_-]{30,}",
            r"\bdo[opr]_v1_[a-f0-9]{40,}",  # DigitalOcean
            r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
            r"\bwandb_v\d_[A-Za-z0-9_]{20,}|\blocal-[0-9a-f]{40}\b",
            r"\b(?:lin_api|dckr_pat|dckr_oat|glc|glsa|pscale_tkn|shpat|shpss|sntrys|sntryu|phx|figd|ntn"
            r"|lsv2|pcsk|jina|rpa|rubygems|nfp)_[A-Za-z0-9_.=+/-]{16,}",
            r"\b(?:tskey|xkeysib|CFPAT)-[A-Za-z0-9-]{16,}|\bkey-[0-9a-f]{32}\b",  # Tailscale, Brevo, Mailgun
            r"\b(?:AC|SK)[0-9a-f]{32}\b(?::[0-9a-f]{32}\b)?",  # Twilio
            r"\b(?:ATATT3|ATCTT3|ATBB)[A-Za-z0-9_=-]{16,}",  # Atlassian
            r"\bhv[sbr]\.[A-Za-z0-9_-]{16,}|\bdapi[a-f0-9]{32}\b|\bpul-[a-f0-9]{40}\b",  # Vault, Databricks, Pulumi
            r"(?:\bbot|\b)\d{8,10}:AA[A-Za-z0-9_-]{32,}",  # Telegram
            r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}",
            r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}",  # JSON web token, signed or encrypted
            r"\$(?:[1256y]|2[abxy]|apr1|argon2i?d?|scrypt|pbkdf2[\w-]{0,12})\$[^\s:'\"]{16,200}",  # hash of a password
            r"----[- ]BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?[- ]----(?:(?!----)[\s\S]){0,20000}"
            r"(?:----[- ]END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?[- ]----)?",
            r"\bPrivate-(?:Lines|MAC|Hash):[ \t]*\w+(?:\r?\n[A-Za-z0-9+/=]{20,100}){0,100}",  # PuTTY
            # a line in the middle of a key file; a hash has no capitals
            r"(?m:^[ +-]?(?=[a-z0-9+/]{0,63}[A-Z])(?=[A-Z0-9+/]{0,63}[a-z])[A-Za-z0-9+/]{64}$)",
        )
    )
)


_ENCODED = re.compile(
    rf"(?<![A-Za-z0-9+/=_.-])(?=[a-z+/_-]{{0,{FURTHEST}}}[A-Z0-9])[A-Za-z0-9+/_-]{{11,}}+={{0,2}}(?![\w+/=-])"
)
_USER_AND_PASSWORD = re.compile(r"[\w.@+-]{1,100}:[!-~]{4,}", re.ASCII)

_WORD = re.compile(
    r"(?P<sign>(?:(?:[=:<>?~|;(\[{]|[ \t]-[ \t]|[^\x00-\x7f])[ \t]{0,9}"
    rf"|(?:(?<![\w-])--?\w[\w-]{{0,30}}|\b{_VERB})[ \t]{{1,9}})[\"'`]?|[\"'`])?+"
    r"(?<![A-Za-z0-9_+/.-])(?P<word>(?=[A-Za-z_+-]*\d)(?=[\d_+-]*[A-Za-z])[A-Za-z0-9_+-]{8,}+)(?<![_-])(?![A-Za-z0-9(/]|\.\w)"
)
"""A word of letters and digits, and the sign or the verb before it."""
_NEAR, _BEHIND = 160, 40
_WEAKLY = re.compile(
    r"(?<![\w.-])(?:tokens?|keys?|AUTH|log(?:ged)?[ -]?in|sign(?:ed)? in|authenticate|connect)(?![\w.(=-])",
    re.IGNORECASE,
)
"""What may stand near a secret, and mostly does not: only what changes between letters and digits often is one."""

_NAMED = (
    _ASSIGNED,
    _FLAGGED,
    _BESIDE,
    _PAIRED,
    _DEFAULT,
    _NAME_AND_VALUE,
    _TYPE_AND_VALUE,
    _IN_A_ROW,
    _ELEMENT,
)
KINDS_OF_TYPES = {"secret": "secret", "weak": "long"}
"""`{"type": "token", "content": "the"}` is a word of a text."""
_KINDS_BESIDE = {"secret": "pair", "weak": "long"}
"""Without a sign between name and value, the value has to look like a secret too."""


def masked_text(text: str, known: Iterable[str] = ()) -> str:
    """Return the text with `***` for every secret; `known`: secrets that are masked wherever they stand."""
    for secret in known:
        text = text.replace(secret, MASK)
    plain = text.replace("\r\n", "\n")
    masked = _masked(plain)
    if masked == plain:
        return text
    ends = text.count("\r\n")
    return masked.replace("\n", "\r\n") if ends and ends == text.count("\n") else masked


def masked_places(text: str) -> str:
    """The text without what is known to be a secret by its place."""
    for place in PLACES:
        text = place.sub(rf"\g<kept>{MASK}", text)
    return text


def _masked(text: str) -> str:
    if (plain := unescaped(text)) != text:  # of names that are spelt by numbers
        masked = _masked_once(plain)
        return masked if masked != plain else _masked_once(text)
    return _masked_once(text)


def _masked_once(text: str) -> str:
    return _masked_plainly(_ENCODED.sub(_decoded_mask, _SHAPES.sub(MASK, text)))


def _masked_plainly(text: str) -> str:
    """The text without what stands in it as it is, not in Base64."""
    text = _SHAPES.sub(MASK, text)
    text = masked_places(text)
    for pattern in _NAMED:
        text = _without_named(text, pattern)
    text = without_columns(_VALUE_AND_NAME.sub(_value_masked, text), MASK)
    return _WORD.sub(_without_near, text)


def _without_near(found: re.Match[str]) -> str:
    """The mask for a word that looks like a secret and has the name of one on its line or the line above."""
    word, text, start = found["word"], found.string, found.start("word")
    odd = found["sign"] is not None and "_" not in word and re.fullmatch(ODD, word)
    if not odd and not mixed(word):
        return found[0]
    *above, line = text[max(0, start - _NEAR) : start].split("\n")
    lines = [line]
    if mixed(word):
        headings = (
            before for before in above if dent(before) < dent(line) or before[:2].strip("+-").startswith("[")
        )
        lines += [*above[-1:], *headings, text[found.end() :][:_BEHIND].partition("\n")[0]]
    weakly = _no_name(word) and _WEAKLY.search("\n".join(lines))
    return f"{found['sign'] or ''}{MASK}" if weakly or any(map(_names_secret, lines)) else found[0]


def _no_name(word: str) -> bool:
    """Whether a word is no name of a model (`ResNet50V2b`), number or hash either, but mixed."""
    syllables = re.findall(r"[A-Z]?[a-z]{2,}", word)
    return (
        mixed(word)
        and 2 * len("".join(syllables)) < len(word)
        and len(re.findall(r"\d+", word)) > 1
        and not re.fullmatch(r"0[xX]\w+|[0-9a-f]+", word)
    )


def _names_secret(line: str) -> bool:
    """Whether a secret is named in a line."""
    if not within(line):
        return False
    words = re.findall(rf"[{_LETTER}]+", line)
    pairs = map("".join, itertools.pairwise(words))
    return any(kind_of(word) in ("secret", "within") for word in words) or "secret" in map(kind_of, pairs)


def _value_masked(found: re.Match[str]) -> str:
    kind = KINDS_OF_TYPES.get(kind_of(found["name"]), "")
    masked = bool(kind) and not is_harmless(found["value"], kind)
    return f"{found['kept']}{MASK}{found['rest']}" if masked else found[0]


def _decoded_mask(found: re.Match[str]) -> str:
    """The mask for Base64 of `USER:PASSWORD` or of a text in which a secret shows; else the word."""
    word = found[0]
    try:
        text = base64.b64decode(
            f"{word}{'=' * (-len(word) % 4)}", altchars=b"-_" if {*word} & {*"-_"} else None
        )
        told = text.decode()
    except ValueError:
        return word
    if not all(letter.isprintable() or letter in "\n\t\r" for letter in told):
        return word
    return MASK if _USER_AND_PASSWORD.fullmatch(told) or _masked_plainly(told) != told else word


def _without_named(text: str, pattern: re.Pattern[str]) -> str:
    """The text without the values that stand after names of secrets."""
    kept, done, at = [], 0, 0
    blocks = Blocks(text if pattern is _ASSIGNED else "")
    while found := pattern.search(text, at):
        at = found.end("name")
        kind = _kind_at(text, found)
        if parent := blocks.kind_at(at):
            kind = kind_below(parent, found["name"], kind)
        value = _VALUE.match(text, found.end()) if kind else None
        part = next((p for p in _PARTS if value and value[p] is not None), None)
        if value is None or part is None:
            continue
        told = value[part].split(",")[0] if parent and part == "bare" else value[part]
        if part == "bare" and _in_prose(text, found, value):
            continue
        if part == "call" and (kind == "random" or not _CALLED.search(told)):
            continue  # code
        named_only = told.lower() == found["name"].lower()  # password=password
        if named_only or is_harmless(told.strip("+- \t\n"), kind):
            continue
        kept += [text[done : value.start(part)], MASK]
        done = at = value.start(part) + len(told)
        if part in _FURTHER and not parent and (rest := _FURTHER[part].match(text, at)):
            done = at = rest.end()
    return "".join([*kept, text[done:]])


def _in_prose(text: str, found: re.Match[str], value: re.Match[str]) -> bool:
    """Whether a quoted name or a token, a colon and words are a sentence: `no score of 'token': every row is so`."""
    told = found["close"][-1:] in ("'", '"') or found["name"].lower() == "token"
    return (
        told
        and found["sign"] == ":"
        and value["bare"].isalpha()
        and bool(re.match(r" [a-z]{2,}\b(?![=:])", text[value.end() :][:40]))
    )


def _kind_at(text: str, found: re.Match[str]) -> str:
    """The kind of a name in a text; `api key: x` is one name too."""
    name = found["name"]
    if found["sign"] == ">" and text[found.start() - 1 : found.start()] != "<":
        return ""
    kind = kind_of_option(name) if name.startswith("-") else kind_of(name)
    if kind not in ("secret", "weak") and (_LAST_WORDS.fullmatch(name) or not name.isascii()):
        words = [*re.split(_NO_WORD, text[max(0, found.start() - 40) : found.start()])[-1].split(), name]
        kinds = (kind_of("".join(words[-n:]).lower()) for n in (2, 3, *([len(words)] * (len(name) == 1))))
        if joined := next((kind for kind in kinds if kind in ("secret", "pin")), ""):
            return joined
    if re.search(r"\[\D", found["close"] or ""):
        return "within" if kind == "secret" else ""
    if found.re is _TYPE_AND_VALUE:
        return KINDS_OF_TYPES.get(kind, "")
    if (
        found.re in (_PAIRED, _IN_A_ROW)
        or found["sign"] in _ARROWS
        or " " in (found["close"] or "")
        or (found.re is _BESIDE and name.isupper())
    ):
        return "pair" if kind in _KINDS_BESIDE else kind
    return _KINDS_BESIDE.get(kind, kind) if found.re is _BESIDE else kind
