"""Names of secrets, and what stands under one and is harmless.

secret  `api_key`, `DB_PASSWORD`: every value is a secret
weak    `token`, `auth`: every value that is not plainly harmless, such as a path or a small number
odd     `login`, `salt`: letters and digits mixed
pin     four or more digits
random  `tokens`: random letters and digits, no hash
mixed   `session`, `nonce`: small and capital letters and digits that change often
solid   `key`: one of these that has nothing else, as few keys of a table have
pair    a secret's name that has no sign between itself and the value: odd, or long and random
long    the same of a weak name: long and random
within  `password_db`, `passwords.joe`: the name of a secret and more: odd, no path
"""

from __future__ import annotations

import functools
import re
from typing import Any
from unicodedata import category, normalize
from urllib.parse import unquote

MARKS = "".join(sign for sign in map(chr, range(0x300, 0x1800)) if category(sign)[0] == "M")
"""Vowels and accents that are written on letters, and are no letters to a regular expression; for its brackets."""
UNSEEN = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_READ, _AS = "асԁеіјкорѕтухαικορσłøđکی", "acdeijkopstyxaikopolodكي"
_LOOK_ALIKE = str.maketrans(_READ + _READ.upper(), _AS + _AS, UNSEEN)
"""Letters of other alphabets that are read as these ones, and what is not seen at all, in the name of a secret."""
_LEET = tuple(str.maketrans("01345789@$", f"o{one}eastbgas") for one in "li")
"""`p4ssw0rd`, `t0ken`."""


def _plain(name: str) -> str:
    """The name without marks on its letters, and in letters that are not of an alphabet that looks alike."""
    name = normalize("NFKC", name).translate(_LOOK_ALIKE)
    return name if name.isascii() else re.sub(f"[{MARKS}]", "", name)


def _without_accents(name: str) -> str:
    return "".join(sign for sign in normalize("NFKD", name) if category(sign)[0] != "M")


_ODD = _plain(
    "salt|login|tok|sid|mnemonic|parole|losung|clave|llave|parola|parol|sandi|schlüssel|schluessel|sleutel|mdp|jeton|ключ"
    "|κωδικός|κλειδί|διακριτικό|رمز|шифра|šifra|belirteç|tessera"
)
_CODES = ("pin", "pins", "pincode", "pinnumber", "authcode", "securitycode", "verificationcode", "cvv", "cvc")
_SINGLE = dict.fromkeys(("otp", "totp"), "secret") | dict.fromkeys(("key", "keys"), "solid")
_SINGLE |= dict.fromkeys(_CODES, "pin") | dict.fromkeys(_ODD.split("|"), "odd")
_SINGLE |= dict.fromkeys(("session", "nonce", "authentication"), "mixed")
"""Names by which a secret goes as often as something else, and the kind of their values that are masked."""
_OTHER_LANGUAGES = _plain(
    "geslo|lozinka|parolă|slaptažodis|κωδικόςπρόσβασης|συνθηματικό|şifrə|құпиясөз|гасло|лозинк|парола|գաղտնաբառ|პაროლ"
    "|סיסמ|סיסמה|סיסמא|סיסמאות|ססמה|ססמא|סוד|מפתחapi"
    "|رقمسري|الرقمالسري|كلمهالسر|كلمهالمرور|كلمةالسر|كلمةالمرور|كلمةسر|كلمةمرور|رمزعبور"
    "|رمزالمرور|رمزالدخول|رمزسري|گذرواژه|پسورد|کلمهعبور|مفتاحapi"
    "|密钥|密鑰|秘钥|密匙|私钥|令牌|口令|密码|密碼|通行碼|秘密鍵|合言葉|トークン|アクセスキー|apiキー|シークレット|パスワード|パスフレーズ|暗証番号"
    "|비밀키|토큰|암호|비번|패스워드|시크릿|인증키|비밀번호|api키"
    "|รหัสผ่าน|รหัสลับ|โทเค็น|พาสเวิร์ด|คีย์api|पासवर्ड|पासकोड|कूटशब्द|गुप्तकोड|एपीआईकुंजी|পাসওয়ার্ড|গোপন|கடவுச்சொல்"
    "|గుప్తపదం|పాస్వర్డ్|ಪಾಸ್ವರ್ಡ್|പാസ്വേഡ്|ਪਾਸਵਰਡ|પાસવર્ડ|සුරක්ෂිතකේතය"
    "|ключапи|ключapi|токен|пароль|пароли|пароля|секретныйключ|кодовоеслово|секрет|秘密"
    "|passwort|passwörter|passwoerter|kennwort|kennwörter|kennwoerter|geheimnis|geheimwort|geheimzahl|zugangsdaten|zugangscode"
    "|motsdepasse|motdepasse|clesecrete|cleapi|phrasesecrete|contraseña|contrasenya|secreto|clavesecreta|claveapi|senha"
    "|segredo|palavrapasse|segreto|chiavesegreta|chiaveapi|parolad'?ordine|wachtwoord|wagwoord|toegangscode|lösenord"
    "|adgangskode|kodeord|kodord|passord|aðgangsorð|lykilorð|salasana|tunnussana|salasõna|hasło|heslo|jelszó|şifre|fjalëkalim"
    "|توکن|توكن|ٹوکن|کلیدapi|رمزورود|رمزالوصول|الرمزالسري|پاسورڈ|خفیہ|סיסמת|אסימון|טוקן|קודסודי|מפתחסודי|ความลับ|คีย์ลับ|โทเคน"
    "|टोकन|गुप्तकुंजी|गुप्तशब्द|संकेतशब्द|रहस्य|गोप्य|টোকেন|গোপনকী|ટોકન|ગુપ્ત|ਟੋਕਨ|ಗುಪ್ತಪದ|ಟೋಕನ್|ടോക്കൺ|രഹസ്യവാക്ക്"
    "|టోకెన్|రహస్యపదం|రహస్య|సంకేతపదం|டோக்கன்|இரகசியம்|ரகசியம்|பாஸ்வேர்ட்|மறைச்சொல்|මුරපදය|රහස්පදය|စကားဝှက်"
    "|လျှို့ဝှက်နံပါတ်|ពាក្យសម្ងាត់|លេខសម្ងាត់|ລະຫັດຜ່ານ|პაროლი|საიდუმლო|ტოკენი|գաղտնիք|թոքեն|የይለፍቃል|ሚስጥር|нууцүг"
    "|паролем|паролю|лозинка|лозинку|ключдоступа|секретнийключ|таємнийключ|таенключ|гузарвожа|μυστικό|gizlianahtar"
    "|nenolasiri|isharayasiri|nywila|kuncirahasia|rahasia|mãthôngbáo|khóabímật|khóaapi|clausecreta|zaporka|fjalëkalimi"
    "|kontrasenyas|parool|modpas|passwuert|kalmarsirri|eraygasirta|furahasirta|igamalokugqithisa|ọrọigbaniwọle|ọrọaṣínà"
    "|maxfiysoʻz|tembungsandi|pasahitza|nenosiri|katasandi|katalaluan|mậtkhẩu|mãbímật|iphasiwedi|contrasinal|cyfrinair|facalfaire|pasfhocal|pasvorto"
)
"""Password, secret and key in other languages, as a name's joined parts."""
_WRITTEN = {
    word for text in (_OTHER_LANGUAGES, _without_accents(_OTHER_LANGUAGES)) for word in text.split("|")
}
_SECRET = (
    rf"(?:{'|'.join(_WRITTEN - {*_SINGLE})}"
    r"|pa?s{1,3}(?:wo?r?|ow?r|rw?o)d|secretstring|secret|credential|passphrase|passcode"
    r"|apikey|accesskey|secretkey|privatekey|privkey|sshkey|signingkey|encryptionkey|licensekey|masterkey|accountkey"
    r"|authorization|bearer|webhook|webhookurl|connectionstring|connstr|connstring|presharedkey|authkey|passkey|seckey"
    r"|(?:zugangs|geheim|api)schl(?:ü|ue|u)ssel|requirepass|masterauth|bindpw|rootpw|storepass|keypass|apipass"
    r"|(?:seed|recovery|backup|key)phrase|(?:recovery|backup|mfa|2fa|otp)code|securityanswer|wifikey|wpakey|clientassertion"
    r"|codeverifier|samlresponse)"
)
_ENDS, _WITHIN = re.compile(rf"{_SECRET}s?$"), re.compile(_SECRET)
"""How a name of a secret ends, its parts joined, and what one has in it."""
_FILE = re.compile(r".*/.*|.*\.(?:pyi?|ya?ml|json|toml|md|rst|txt|csv|ini|cfg|sh|html|log|ipynb)", re.DOTALL)
_WEAK = re.compile(
    r"(?:.+_)?(?:pass|passw|pwd|pwrd|pw|pat|auth|oauth|tkn|creds?|dsn|jwt|cookies?|cookie_?jar|csrf|sas|psk|auth_?header"
    r"|(?:php|j|asp)?sess(?:ion)?id|(?:ssh|db|user|root|smtp|mysql|pg|redis|admin|my|the|owner|u|o|pk)(?:pass|pw|pwd))|(?:.*[^n])?token"
)
"""Names that may mean something harmless too: a path, a small number, a symbol."""
_SYMBOLS = re.compile(
    "pad|unk|eos|bos|sep|cls|mask|end|start|special|seed|stop|next|first|last|per|input|output|blank|target|source|prev"
    "|previous|word|char|sub|type|num|max|min|this|each|every|any|current|new"
)
"""`pad_token` and its like are names of symbols, `per_token` of rates."""
_SERVICES = (
    "stripe|wandb|kaggle|comet|neptune|openai|anthropic|hf|huggingface|aws|azure|gcp|google|github|gitlab|slack|gemini"
    "|mistral|deepseek|groq|cohere|replicate"
)
_KEYS = re.compile(
    f"{_SERVICES}|api|access|secret|private|priv|account|signing|encrypt(?:ion)?|decryption|ssh|license|master|shared"
    "|auth|subscription|admin|enc|aes|crypto?|vault|unseal|wlan|wpa|wifi|sec|pass|db|fernet|hmac|gpg|pgp|rsa|dsa|ecdsa"
    "|deploy|write|app|service|storage|consumer|client|session|tls|ssl"
)
"""A key of these opens something; `sort_key`, `primary_key` do not."""
_HOLDERS = re.compile(
    "api|auth|access|refresh|hf|github|gitlab|wandb|bearer|session|secret|private|bot|id|service"
)
"""`api_tokens` are secrets, `tokens` are not."""
_HELD = re.compile(rf"(?<![a-z])(?:{_HOLDERS.pattern})_token")
_LEFT_OUT = re.compile(
    "(?:_(?:id|value|b|v|base|hash|hex|json|text|str|string|raw|plain|plaintext|cleartext|literal|(?:en|de)crypted|local"
    "|content|contents|file_contents?|old|new|env|prod|production|dev|staging|live|primary|secondary|confirm|confirmation"
    "|de|en|fr|es|it|pt|nl|sv|da|no|fi|pl|cs|sk|hu|ro|bg|tr|ru|uk|el|he|ar|fa|hi|zh|cn|ja|jp|ko|kr|th|vi|us|gb|eu))+$"
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
    r"|self|cls|required|redacted|masked|hidden|inherit"
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
_PART = r"[A-Za-z]*\d*(?:[eT]\d*Z?)?"
PARTS = rf"(?:{_PART}[/+=:._~-])*{_PART}"
"""A name of several parts, each a word with a number behind it, or a date: `gru-h128-lr1e-3`."""
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
    name = _plain(unquote(unescaped(name[-200:])))
    kind, bare = _kind_as_read(name), _without_accents(name)
    for read in {bare, *(bare.translate(letters) for letters in _LEET)} - {name}:
        if len(read) >= len("token") and (other := _kind_as_read(read)) in ("secret", "weak"):
            return kind if kind == "secret" else other
    return kind


def mixed(word: str) -> bool:
    """Whether small and capital letters and digits change as often as in no word or name of a file; no hash of git."""
    runs = len(re.findall(r"[a-z]+|[A-Z]+|\d+", word))
    return (
        3 * runs >= len(word) >= 10
        and not re.fullmatch(PARTS, word)
        and re.search(r"\d", word) is not None
        and re.fullmatch(r"[0-9a-f]{1,12}|[0-9a-f]{32,}|[^A-Za-z]*", word) is None
    )


def within(text: str) -> bool:
    """Whether letters of a text, taken together, hold the name of a secret; quick."""
    return bool(_WITHIN.search(re.sub(r"[\W_]+", "", _plain(text).lower())))


def _kind_as_read(name: str) -> str:
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    parts = [stripped for part in re.split(r"[\W_]+", split) if (stripped := part.rstrip("0123456789"))]
    if parts[-2:] == ["session", "id"]:
        return "odd"
    if not parts:
        return ""
    parts = _LEFT_OUT.sub("", "_".join(parts)).split("_")
    if parts[-2:-1] in (["key"], ["token"], ["pwd"]) and _KEYS.fullmatch(parts[-1]):  # KEY_OPENAI
        parts[-2:] = parts[:-3:-1]
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    joined = "".join(parts)
    if _ENDS.search(joined):
        return "secret"
    if last in ("key", "keys") and _KEYS.fullmatch(before):
        return "secret"
    if last.endswith("tokens"):
        holder = last.removesuffix("tokens") or before
        return "weak" if _HOLDERS.fullmatch(holder) else "random" * (last == "tokens")
    if _SYMBOLS.fullmatch(before) and last == "token":
        return ""
    if _WEAK.fullmatch("_".join(parts[-3:])):
        return "weak"
    kind = _SINGLE.get(last) or _SINGLE.get(before + last, "")
    held = _WITHIN.search(joined) or _HELD.search("_".join(parts))
    return kind or "within" * bool(held and not _FILE.fullmatch(name))


def kind_below(parent: str, name: str, own: str) -> str:
    """The kind of a name, else of the kind `own`, in a mapping whose name is of the kind `parent`."""
    if parent in ("random", "solid"):
        return "weak" if re.fullmatch(_SERVICES, name.lower()) else own or "random"
    return parent if parent in ("secret", "weak") else own


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
        words = re.split(r"[\s,;&'\"]+", str(value))
        told = kind in ("long", "random", "mixed")
        return not any(_SHAPED[kind].fullmatch(word) or (told and mixed(word)) for word in words)
    text = str(value) if isinstance(value, str | int | float) else "?"
    return bool(_HARMLESS.fullmatch(text)) or (kind == "weak" and bool(_HARMLESS_WEAK.fullmatch(text)))


_SHAPED = {
    "odd": re.compile(ODD),
    "pin": re.compile(rf"\d{{4,12}}|{ODD}"),
    "within": re.compile(rf"(?![./~]){ODD}"),
    "random": re.compile(rf"(?![0-9a-f]{{32,}}$)(?!{PARTS}$){RANDOM}"),
    "mixed": re.compile(r"(?!)"),
    "pair": re.compile(rf"{ODD}|{RANDOM}"),
    "long": re.compile(RANDOM),
    "solid": re.compile(r"[0-9a-f]{32}|(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9]{20,}"),
}
"""Kinds whose values are told by their shape alone."""
