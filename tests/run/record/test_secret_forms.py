"""Secrets are masked in families of forms: below a plural of their name, in commands, under longer names, in prose."""

import json

import pytest

from gatelab.run.record.secrets import without_secrets

WORD = "-".join(("swordfish", "7", "x"))  # in no line of this file, whose difference may be recorded
MIXED = "".join(("Zq7xP2", "mN9vKd"))


def _yaml(mapping, dent=0):
    for name, value in mapping.items():
        below = isinstance(value, dict)
        yield " " * dent + f"{name}:" + ("" if below else f" {value}")
        if below:
            yield from _yaml(value, dent + 2)


def _toml(mapping, *names):
    plain = {name: value for name, value in mapping.items() if not isinstance(value, dict)}
    if plain and names:
        yield f"[{'.'.join(names)}]"
    yield from (f"{name} = {json.dumps(value)}" for name, value in plain.items())
    for name, value in mapping.items():
        if isinstance(value, dict):
            yield from _toml(value, *names, name)


WRITTEN = {
    "object": lambda mapping: mapping,
    "list": lambda mapping: [mapping],
    "json": json.dumps,
    "compact": lambda mapping: json.dumps(mapping, separators=(",", ":")),
    "indented": lambda mapping: json.dumps(mapping, indent=2),
    "in a text of json": lambda mapping: json.dumps(json.dumps(mapping)),
    "python": lambda mapping: "\n".join(f"{name} = {value!r}" for name, value in mapping.items()),
    "yaml": lambda mapping: "\n".join(_yaml(mapping)),
    "yaml in a mapping": lambda mapping: "\n".join(_yaml({"x": 1, "logger": mapping, "y": {"z": 2}})),
    "difference": lambda mapping: "\n".join(f"+{line}" for line in _yaml(mapping)),
    "override": lambda mapping: f"+x={mapping}".replace("'", "").replace(" ", ""),
    "toml": lambda mapping: "\n".join(["[a]", "b = 1", *_toml(mapping), "[c]", "d = 2"]),
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("parent", ["tokens", "keys", "passwords", "credentials", "api_keys", "accessTokens"])
def test_what_is_below_the_plural_of_a_secrets_name_is_masked(parent, write):
    for mapping in (
        {parent: {"hf": WORD, "openai": WORD}},
        {parent: {"x": 1, "github": WORD}},
        {parent: {"prod": {"wandb": WORD}}},
        {"my": {parent: {"hf": WORD}}},
    ):
        masked = write(mapping)
        assert WORD in str(masked)
        assert WORD not in str(without_secrets(masked)), masked


def test_a_block_ends_where_its_text_does():
    for text in (
        "passwords:\n  joe: {0}\n\n  ann: {0}\nmodel:\n  name: gru\n",
        "[passwords]\njoe = {0}\n[model]\nname = gru\n",
        "passwords = {{'joe': '{0}'}}, {{'name': 'gru'}}",
        "- passwords:\n    joe: {0}\n  name: gru\n",
    ):
        assert without_secrets(text.format(WORD)) == text.format("***")


@pytest.mark.parametrize(
    "name", ["session", "nonce", "authentication", "session_id", "JSESSIONID", "client_nonce"]
)
@pytest.mark.parametrize(
    "form", ["{}={}", "{}: {}", '"{}": "{}"', "+x.{}={}", "--{} {}", "https://h/?{}={}&a=1", "x['{}'] = '{}'"]
)
def test_a_session_is_masked_where_it_looks_random(name, form):
    assert MIXED not in without_secrets(form.format(name, MIXED))
    for harmless in ("3", "true", "gru-h128-lr1e-3", "2024-01-02T10", "experiment-12") * (
        "id" not in name.lower()
    ):
        assert without_secrets(form.format(name, harmless)) == form.format(name, harmless)


COMMANDS = (
    "redis-cli -h h AUTH {}", "redis-cli AUTH me {}", "AUTH me {}", "AUTH {}", "redis-cli -a {}", "mysql -u me -p{} db",
    "sshpass -p {} ssh h", "ldapsearch -x -w {}", "sqlcmd -S h -U sa -P {}", "smbclient //h/s -U me%{}",
    "lftp -u me,{} h",
    "curl -u me:{} h", "curl -sSu me:{} h", "http -a me:{} u", "http -A bearer -a {} u", "docker login -u me -p {}",
    "helm registry login h -u me -p {}", "oc login -u me -p {}", "ipmitool -H h -P {}", "tsql -U me -P {}",
    "evil-winrm -i h -u me -p {}", "winrs -u:me -p:{}", "sendemail -xu me -xp {}", "swaks -au me -ap {}",
    "cypher-shell -u me -p {}", "htpasswd -nb me {}", "sqlplus me/{}@db", "wpa_passphrase net {}",
    "net user joe {} /add",
    "rabbitmqctl add_user me {}", "poetry config http-basic.x me {}", "npm config set //h/:_authToken {}",
    "aws configure set aws_secret_access_key {}", "rclone config create x y pass {}", "nuget push -k {}",
    "vault kv put secret/x a={}", "x --token {}", "xfreerdp /u:me /p:{}", "pdftotext -upw {} f",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_secret_of_a_command_is_masked_in_a_line_and_in_a_list(command):
    line = command.format(WORD)
    for given in (
        line,
        f"run:\n{line}\nok",
        line.split(),
        json.dumps(line.split()),
        {"argv": tuple(line.split())},
    ):
        masked = without_secrets(given)
        assert WORD not in str(masked), given
        assert "***" in str(masked)


@pytest.mark.parametrize(
    "line",
    [
        "python -u train.py -p small", "docker run -u 1000 -p 8080:80 image", "sudo -u postgres mkdir -p out",
        "mkdir -p runs/x", "ssh -p 2222 me@host", "psql -U me -p 5432 db", "redis-cli -p 6379 ping", "AUTH required",
        "250-AUTH LOGIN PLAIN", "aws configure set region eu-west-1",
        "npm config set registry https://h", "wandb login",
        "curl -u https://h", "git log -p",
    ],
)  # fmt: skip
def test_a_command_without_a_secret_stays(line):
    for given in (line, line.split(), json.dumps(line.split())):
        assert without_secrets(given) == given


@pytest.mark.parametrize("name", ["password", "api_key", "client_secret", "hf_token"])
def test_a_name_with_a_version_or_a_kind_of_writing_behind_it_is_one(name):
    for more in (
        "1",
        "_1",
        "_v2",
        "-v2",
        "_old",
        "_prod",
        "_file_content",
        "_value",
        "_hex",
        "_plaintext",
        "_confirm",
    ):
        for written in (name + more, (name + more).upper()):
            assert without_secrets({written: WORD}) == {written: "***"}
            assert WORD not in without_secrets(f"{written}={WORD}")
    for more in ("_field", "_of_joe", "_mine"):
        assert without_secrets({name + more: MIXED}) == {name + more: "***"}
        assert without_secrets({name + more: "word"}) == {name + more: "word"}


NAMES = (
    "توکن", "رمز ورود", "کلید api", "پاسورڈ", "رمز الوصول", "אסימון", "סיסמת", "קוד סודי", "ความลับ", "โทเคน", "टोकन",
    "गुप्त कुंजी", "टोकन", "টোকেন", "ટોકન", "ਟੋਕਨ", "ಟೋಕನ್", "ടോക്കൺ", "టోకెన్", "సంకేతపదం", "டோக்கன்", "மறைச்சொல்", "මුර පදය",
    "စကားဝှက်", "លេខសម្ងាត់", "ລະຫັດຜ່ານ", "საიდუმლო", "գաղտնիք", "የይለፍ ቃል", "нууц үг", "лозинка", "ключ доступа", "μυστικό",
    "gizli anahtar", "neno la siri", "nywila", "kunci rahasia", "khóa bí mật", "mã thông báo", "zaporka", "parool",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_rarer_language_is_read(name):
    for form in ("{}: {}", "{} = '{}'", '"{}": "{}"'):
        assert WORD not in without_secrets(form.format(name, WORD))
    assert without_secrets({name: WORD}) == {name: "***"}
    assert WORD not in without_secrets(json.dumps({name: WORD}))


PROSE = (
    "the {0} for the server is {1}", "use {1} as the {0}", "the {0} has been changed to {1}", "{1} is my {0}",
    "for the {0} type {1}", "the {0} that works is {1}", "mit {1} als {0}", "enter {1} at the {0} prompt",
)  # fmt: skip


@pytest.mark.parametrize("name", ["password", "token", "key", "access key"])
def test_a_random_word_in_a_sentence_is_masked(name):
    for form in PROSE:
        assert MIXED not in without_secrets(form.format(name, MIXED))
        for harmless in ("gru-h128-seed3", "a1" * 20, "embedding_128") * (name == "key"):
            assert without_secrets(form.format(name, harmless)) == form.format(name, harmless)
    for verb in ("login", "log in", "logged in as me", "authenticate", "connect"):
        assert MIXED not in without_secrets(f"{verb} with {MIXED}")


@pytest.mark.parametrize(
    "harmless",
    [
        {"tokens": {"train": 929589, "valid": 73760}, "keys": {"q": 8, "k": 8}, "session": {"id": 3, "x": "day"}},
        {"tokens": {"bos": "<s>", "pad": "[PAD]", "file": "wiki.train.tokens", "name": "wikitext-103-word-v1"}},
        {"keys": {"sort": "lr", "code": "a1b2c3d4", "data": "0f" * 16, "run": "gru-h256-lr1e-3"}},
        {"models": {"openai": "gpt-4o-2024-08-06"}, "authentication": {"type": "kerberos"}, "secrets": {}},
        "tokens:\n  train: 929589\n  file: wiki.train.tokens\n", "[keys]\nsize = 64\nsort = lr\n", "secrets: inherit",
        "secrets:\n  api_key: ${oc.env:API_KEY}\n", "credentials:\n  - ${oc.env:API_KEY}\n",
        "keys = dict(lr=0.1, seed=3)",
        "tokens = {word: place for place, word in enumerate(words)}", "tokens: dict[str, int] = {'train': 3}",
        "`passwords = {` opens a block\nat = word\nx: str = y",
        "key = seed * 0x9E3779B97F4A7C15u", "load the key ResNet50V2b", "the token of GPT2LMHeadModel",
        "bimatrix: true",
        "session = onnxruntime.InferenceSession(path)", "the nonce is drawn anew", "log in with the browser",
        "connect to gpu-node-17 and run step 3", '["-p", "8080", "--seed", "3"]', ["x", 1, None, 2.5, "-p", 8080],
    ],
)  # fmt: skip
def test_words_numbers_and_names_of_runs_stay(harmless):
    assert without_secrets(harmless) == harmless
