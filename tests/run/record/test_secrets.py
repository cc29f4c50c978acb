"""Nothing secret is recorded: by the name of its key, its shape, its place in a URL, or the variable that holds it."""

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from gatelab.cli.main import main
from gatelab.run import CONF_DIR, frozen_run
from gatelab.run.frozen_run import write_request
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import Identity
from gatelab.run.record.secrets import first_secret, from_variables, secret_name, without_secrets

KEY = "a1b2c3d4e5f6a7b8"
WORD = "-".join(("swordfish", "7", "x"))  # in no line of this file, whose difference may be recorded
MIXED = "".join(("Xk29fLmQ7z", "R4tW8vB3nC"))
NAMES = (
    "api_key", "API_KEY", "wandb_api_key", "apiKey", "x-api-key", "token", "HF_TOKEN", "auth_token", "password",
    "PGPASSWORD", "SSHPASS", "DB_PASS", "GITHUB_PAT", "MYSQL_PWD", "client_secret", "clientSecret", "passphrase",
    "aws_secret_access_key", "credentials", "private_key", "api_tokens", "dbpass", "rootpw", "sentry_dsn", "jwt",
    "slackWebhook", "SECRET_KEY_BASE", "password2", "KAGGLE_KEY", "fernet_key", "deployKey",
    "credentials_json", "basic_auth", "requirepass", "storepass", "API_KEY_PROD", "wpa_psk", "Passwort", "DB_PASSWORT",
    "kennwörter", "mot_de_passe", "motDePasse", "contraseña", "contrasena", "senha", "wachtwoord", "lösenord",
    "passord",
    "adgangskode", "salasana", "hasło", "heslo", "jelszó", "şifre", "kata_sandi", "mật_khẩu", "пароль", "DB_ПАРОЛЬ",
    "密码", "パスワード", "비밀번호", "zugangsdaten", "password_de", "passwort_en", "DB_PASSWORD_FR", "geslo", "токен",
    "סיסמה", "סיסמא", "كلمة_السر", "كلمة_المرور", "رمز_عبور", "密钥", "令牌", "トークン", "토큰", "รหัสผ่าน", "โทเค็น",
    "पासवर्ड", "κωδικός_πρόσβασης", "parolă",
)  # fmt: skip
FORMS = (
    "{name}={value}", "{name} = '{value}'", '+{name} = "{value}"', '"{name}": "{value}",', "{name}: {value}",
    "export {name}={value}; psql", "train '+callbacks.n={{_target_:my.Notify,{name}:{value}}}'", "+x.{name}={value}",
    'os.environ["{name}"] = "{value}"', "{{'{name}': '{value}', 'b': 1}}", '\\"{name}\\": \\"{value}\\"',
    "{name}=[{value}, {value}]", "call({name}='{value}')", "{name} := '{value}'", "{name} ?= {value}",
    "{name} => '{value}'",
    "('{name}', '{value}')", "<{name}>{value}</{name}>", "{name}: str = '{value}'",
    "def f({name}: str | None='{value}')",
    "{name}: |\n  {value}", "{name}:\n+  - {value}", '{name} = """{value}"""', "{name}=b'{value}'",
    "{name} = ('{value}')",
    "{name} = os.environ.get('X', '{value}')", "{name}=a;{value}", "{name}='a\\'{value}'", "--{name} {value}",
    "{name} {value}",
    "+{name} =\n+    '{value}'", '{name} = (\n    "{value}"\n)', '+"{name}":\n+  "{value}"', "{name} = \\\n  '{value}'",
    "-  {name}:\n-    {value}\n", "setenv {name} {value}", "{name} is {value}", "{name}={{{value}}}", "{name}='{value}",
    "{name}:\n{value}\nx", "{name}\n---\n{value}", "{name} =\n'{value}'\n", "{name}:\n\n  {value}", "{name}=<{value}>",
    "{name}: `{value}`", "x --{name}\\\n {value}", "{name}=${{oc.env:X,{value}}}", "{name}=${{X:-{value}}}",
    "x: ${{oc.decode:${{oc.env:{name},'{value}'}}}}", "setattr(c, '{name}', '{value}')", '{name}("{value}")',
    "env:\n- name: {name}\n  value: {value}\n", '{{"name":"{name}","value":"{value}"}}', "{name} (of mine): {value}",
    '<add key="{name}" value="{value}"/>', "{name} for 'https://h': {value}", "the {name} was {value}",
    "{name}\u00a0=\u00a0{value}", "{name}：{value}", "{name} → {value}", "{name} -> {value}", "**{name}**: {value}",
    "**{name}:** {value}", "| {name} | {value} |", "`{name}`: `{value}`", "{name}=''{value}''",
    "{name} =\r\n  '{value}'\r\n", "{name}:\r\n{value}\r\nx", "{name} of the server is {value}",
    "{name} provided: {value}",
    "<{name} value='{value}'/>", "{name}[0]={value}", "x.{name}[12] = '{value}'", "user,{name}\njoe,{value}",
    "{name};host\n{value};h\n{value};x", '"url","{name}"\r\n"https://h","{value}"\r\n',
    "| user | {name} |\n|---|:---:|\n| joe | {value} |", "id\tusername\t{name}\n1\tjoe\t{value}",
    "+email,{name}\n+a@b,{value}", '{{"type": "{name}", "value": "{value}"}}', "value: {value}\nname: {name}\n",
    '{{"value": "{value}", "name": "{name}"}}',
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.quick(13, rest="ci")
def test_a_value_under_the_name_of_a_secret_is_masked_in_every_way_of_writing(form):
    for name in NAMES:
        masked = without_secrets(form.format(name=name, value=KEY))
        assert KEY not in masked, (name, masked)
        assert name in masked


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [KEY, 12345678, [KEY, 1], {"user": KEY}, (KEY,)])
@pytest.mark.quick(107, rest="ci")
def test_a_secret_key_masks_whatever_stands_below_it(name, value):
    plain = {"logger": [{"inner": {name: value, "kept": 3}}]}
    masked = str(without_secrets(plain))
    assert KEY not in masked
    assert "12345678" not in masked
    assert "'kept': 3" in masked
    assert first_secret(plain).startswith(f"logger[0].inner.{name}")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {key}", '{{"Authorization": "Bearer {key}"}}', "curl -H 'authorization: Basic {key}'",
        "--password {key}", "--api-key '{key}'", "mysql --db-pass {key} x", "postgresql://me:{key}@host/db",
        "open db://me:a/b:{key}@host/db", "https://{key}@example.org/repository.git", "ssh://u:{key}@h",
        "https://x.org/?sig={key}&a=1", "https://x.org/a?b=1&access_token={key}", "sk-{key}", "ghp_{key}{key}",
        "AKIAABCDEFGHIJKLMNOP {key}"[:20], "hf_{key}{key}", "xoxb-{key}", "glpat-{key}{key}",
        "-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n-x\n-{key}\n-----END PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n{key}",
        "+{key}{key}{key}Abcdefghijklmnop", "gsk_{key}{key}", "dckr_pat_{key}{key}",
        "https://discord.com/api/webhooks/1/{key}",
        "api key: {key}", "curl -u me:{key} https://h", "mysql -u root -p{key}", "sshpass -p {key} ssh",
        "wandb login {key}",
        "docker login -u me -p {key}", "machine h\n login me\n password {key}", "postgres://me:p@ss{key}@host/db",
        'Authorization: Digest username="u", response="{key}"',
        "Authorization: AWS4-HMAC Credential=a, Signature={key}",
        "HTTPBasicAuth('me', '{key}')", "wandb.login(key='{key}')", "CREATE USER u IDENTIFIED BY '{key}'",
        "ALTER ROLE u WITH PASSWORD '{key}'", "ConvertTo-SecureString '{key}' -AsPlainText",
        "https%3A%2F%2Fme%3A{key}%40h",
        "https://h/?q=%7B%22password%22%3A%22{key}%22%7D", "7z x -p{key} a.7z", "unzip -P {key} a.zip",
        "openssl enc -aes-256-cbc -k {key}", "openssl rsa -passin pass:{key}", "smbclient //h/s -U me%{key}",
        "ldapsearch -D cn=me -w {key}", "eyJhbGciOiJkaXIifQ..{key}.{key}.{key}", "key-{key}{key}",
        "AC{key}{key}:{key}{key}",
        "1//0g{key}-{key}", "root:$6$salt${key}{key}:1:0", "me:$apr1$abc${key}{key}",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{key}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
        "Private-Lines: 1\n{key}{key}\nPrivate-MAC: {key}", "lsv2_pt_{key}", "api_org_{key}{key}",
        "Cookie: session=a; id={key}", "https://h/?password%3D{key}", "https://h/#access_token={key}",
        "https://h/?auth={key}", "unknown-tool -p{key}", "echo {key} | docker login -u me --password-stdin",
        "printf '%s' '{key}' | gh auth login --with-token", "gh auth login --with-token <<< {key}",
        "gh auth login --with-token <<EOF\n{key}\nEOF", "echo {key} | sudo -S ls", "echo 'me:{key}' | chpasswd",
        "h:5432:db:me:{key}", "+*:*:*:me:{key}", "spawn ssh h\nexpect \"*assword:*\"\nsend -- \"{key}\\r\"",
        "c.expect('Password: ')\nc.sendline('{key}')", "sqlcmd -U me -P {key}", "twine upload -p {key} d/x",
        "helm registry login h -u me -p {key}", "ssh-keygen -N {key} -f k", "ssh-keygen -p -P {key} -f k",
        "lftp -u me,{key} h",
        "http -a me:{key} u", "xfreerdp /u:me /p:{key}", "sqlplus me/{key}@db", "net use Z: \\\\h\\s {key} /user:me",
        "htpasswd -b f me {key}", "htpasswd -nb me {key}", "poetry config http-basic.x me {key}",
        "rclone obscure {key}",
        "wpa_passphrase net {key}", "mc alias set m https://h me {key}",
        "kubectl create secret generic s --from-literal=a={key}",
        "vault kv put secret/x a=b c={key}", "fly secrets set A={key}", "pass insert -e x <<< {key}",
        "gcloud auth activate-service-account --key-file=- <<< {key}", "conda install -c https://h/t/{key}/c x",
        "smtp.login('me', '{key}')", "pymysql.connect('h', 'me', '{key}', 'db')", "Fernet(b'{key}')",
        "hmac.new(b'{key}', m)",
        "jwt.encode(p, '{key}')", "wandb.login(relogin=True, key='{key}')", "me:{key}:1000:1000::/home/me:/bin/sh",
        "conf.set('fs.azure.account.key.a.blob', '{key}')", "ALTER USER me IDENTIFIED WITH x BY '{key}'",
        "Incorrect API key provided: {key}{key}.",
    ],
)  # fmt: skip
def test_a_secret_is_known_by_its_shape_and_its_place(text):
    given = text.format(key=KEY)
    masked = without_secrets([given])[0]
    assert KEY not in masked
    assert "AKIA" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    "told", [f"me:{WORD}", f"api_key={KEY}", f'{{"password": "{WORD}"}}', f"x ghp_{KEY}{KEY}"]
)
@pytest.mark.parametrize(
    "form", ["{}", "Basic {}", "auth: {}", '"auth": "{}"', "b64decode('{}')", "echo {} | base64 -d"]
)
def test_a_secret_in_base64_is_masked(told, form):
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for word in (encode(told.encode()).decode(), encode(told.encode()).decode().rstrip("=")):
            assert word not in without_secrets(form.format(word))
            assert word not in str(without_secrets({"a": {"auths": [form.format(word)]}}))


def test_base64_of_something_else_stays():
    words = ["a sentence that nobody hides", "x: 3", "{}", "1.5 2.5 3.5", "<svg width='3'/>"]
    texts = [base64.b64encode(word.encode()).decode() for word in words]
    texts += [hashlib.sha256(bytes([n])).hexdigest()[: 12 + n % 50] for n in range(200)]
    texts += [base64.b64encode(hashlib.sha256(bytes([n])).digest()).decode() for n in range(200)]
    texts += [
        "LabelledTextDataModule",
        "model.hidden_size=256",
        "non_monotonic_averaging",
        "multi30k/train.de.gz",
    ]
    for text in texts:
        assert without_secrets(text) == text


@pytest.mark.parametrize(
    "name", ["salt", "password_salt", "login", "session_id", "sessionId", "tok", "hf_tok", "--key"]
)
def test_a_name_that_may_be_harmless_masks_what_looks_like_a_secret(name):
    forms = ("{} = '{}'", "{} {}", "{}={}", "a --seed 1 {} {} b", "+x.{}={}", '"{}": "{}",')
    for form in forms[: 4 if name.startswith("--") else None]:
        assert KEY not in without_secrets(form.format(name, KEY)), form
        for harmless in ("user", "me@example.org", "12", "layer_norm_2", "encoder2", "runs/x", "0" * 40):
            text = form.format(name, harmless)
            assert without_secrets(text) == text
    assert without_secrets({name.strip("-"): 3}) == {name.strip("-"): 3}
    if name.startswith("--"):
        assert without_secrets(["x", name, KEY, name, "lr"]) == ["x", name, "***", name, "lr"]
    else:
        assert without_secrets({name: KEY}) == {name: "***"}


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ({"pin": 4711, "b": {"PIN": "12345678"}}, {"pin": "***", "b": {"PIN": "***"}}),
        ("pin: 4711, spin: 4711, pin_memory=1234, pin: 3", "pin: ***, spin: 4711, pin_memory=1234, pin: 3"),
        ({"username": "me", "key": WORD}, {"username": "me", "key": "***"}),
        (f'{{"username":"me","key":"{WORD}"}}', '{"username":"me","key":"***"}'),
        (f"{{'key': '{WORD}', 'username': 'me'}}", "{'key': '***', 'username': 'me'}"),
        (["mysql", "-u", "root", f"-p{WORD}", "-P1"], ["mysql", "-u", "root", "-p***", "-P1"]),
        (f"mariadb-dump -p{WORD} db; mysqlimport -p{WORD}", "mariadb-dump -p*** db; mysqlimport -p***"),
        (f"mongosh -u a -p {WORD}; redis-cli -a {WORD} get x", "mongosh -u a -p ***; redis-cli -a *** get x"),
        (f"tokens=[{KEY},{KEY}] x", "tokens=[***] x"),
        ({"tokens": [KEY, KEY]}, {"tokens": "***"}),
        (f"tokens={KEY},{KEY} x", "tokens=*** x"),
        ({"key": MIXED, "x": f"username: me, key: {MIXED}"}, {"key": "***", "x": "username: me, key: ***"}),
        ({"key": "0123456789abcdef" * 2}, {"key": "***"}),  # kaggle's
    ],
)
def test_a_secret_is_known_beside_what_it_stands_with(given, masked):
    assert without_secrets(given) == masked


@pytest.mark.parametrize(
    "letters",
    ["aа", "eе", "oо", "pр", "cс", "kк", "sѕ", "wｗ", "e\u200be", "k\u00adk", "aА", "eЕ", "kК", "sЅ"],
)
def test_a_letter_that_looks_like_another_or_is_not_seen_hides_no_name(letters):
    read, written = letters[0], letters[1:]
    for name in ("api_key", "token", "password", "passwd", "client_secret"):
        for form in ("{}={}", "{} = '{}'", '"{}": "{}"', "{} {}", "--{} {}"):
            assert KEY not in without_secrets(form.format(name.replace(read, written, 1), KEY)), (form, name)


@pytest.mark.parametrize(
    "written", ["\\u{:04x}", "\\x{:02x}", "\\\\u{:04X}", "\\u{{{:x}}}", "&#{};", "&#x{:x};"]
)
@pytest.mark.parametrize("place", [0, 3, -1])
def test_a_letter_that_is_written_by_its_number_hides_no_name(written, place):
    for name in ("api_key", "token", "password", "client_secret"):
        spelt = list(name)
        spelt[place] = written.format(ord(spelt[place]))
        name = "".join(spelt)
        for form in ("{}={}", "{} = '{}'", '"{}": "{}"', "--{} {}"):
            assert KEY not in without_secrets(form.format(name, KEY)), (form, name)
        assert without_secrets({name: WORD}) == {name: "***"}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_json_writes_in_ascii_are_read(name):
    assert KEY not in without_secrets(json.dumps({name: KEY}))


LIKE_IT = (
    "p4ssw0rd", "p@ssword", "pa$$word", "pa55wd", "t0ken", "cl1ent_s3cret", "4pi_key", "ap1_key", "pássword",
    "passwørd", "passẇord", "tσken", "pasword", "pswd", "passwrd", "passowrd", "KEY_OPENAI", "TOKEN_GITHUB",
    "vault_key", "password_no", "a.p.i.k.e.y", "p-a-s-s-w-o-r-d", "palavra-passe", "clé_secrète", "секрет", "חסיסמה",
    "كلمه_المرور", "كلمة_سر", "密匙", "シークレット", "비번", "พาสเวิร์ด", "पासकोड", "ಪಾಸ್‌ವರ್ಡ್", "ਪਾਸਵਰਡ", "გპაროლ",
    "գաղտնաբառ", "pasahitza", "otp", "totp",
)  # fmt: skip
SPACED = (
    "pass word", "Pass Phrase", "pass code", "api  key", "API\tkey", "Account Key", "recovery code", "seed phrase",
    "p a s s w o r d", "A P I K E Y", "mot de passe", "mat khau", "clave secreta", "palavra passe", "chiave segreta",
    "ключ api", "كلمة سر", "מפתח API", "क गुप्त कोड",
)  # fmt: skip


@pytest.mark.parametrize("name", [*LIKE_IT, *SPACED])
def test_a_name_in_other_letters_or_in_parts_is_read(name):
    forms = ["{}: {}", "{} = '{}'", '"{}": "{}",', "x\n+{}={}\n"]
    for form in forms if name in SPACED else [*forms, "--{} {}", "+x.{}[0]={}", "x['{}'] = '{}'"]:
        assert WORD not in without_secrets(form.format(name, WORD)), form
    assert without_secrets({name: WORD}) == {name: "***"}


@pytest.mark.parametrize("name", ["password", "API_KEY", "client_secret", "пароль", "비밀번호"])
@pytest.mark.parametrize(
    "more",
    ["_mine", "_test", "Admin", ".joe", "-again", "_for_joe", "['joe']", "[joe]", "s.joe", "_backup_2024"],
)
def test_a_secret_under_a_name_with_more_behind_it_is_masked(name, more):
    for form in ("{}: {}", "{} = '{}'", "+x.{}={}", '{{"{}": "{}"}}'):
        assert KEY not in without_secrets(form.format(name + more, KEY)), form
        for harmless in ("8", "/run/x1y2z3", "hidden_size_128", "word", "0" * 40):
            text = form.format(name + more, harmless)
            assert without_secrets(text) == text
    assert KEY not in str(without_secrets({name + more: [KEY]}))


NEAR = (
    "{0} santa: {1}", "the {0} reminder, by the way: {1}", "{0} for prod db: {1}", "{0} [prod]: {1}",
    "{0} root@h: {1}", "{0}: for prod {1}", "{0} => the {1}", "{0}? {1}", "{0} - {1}", "{0} — {1}", "{0}; {1}",
    "{0} | {1}", "{0} <- '{1}'", "{0} ({1})", "{0} “{1}”", "use {1} as the {0}", "log in with {1} as {0}",
    "{0} should be {1}", "{0} set to {1}", "wrong {0}: got '{1}'", "assert {0} == '{1}'", "if '{1}' == {0}:",
    "x = f('{1}')  # {0}", "{1} // {0}", "# {0}\n{1}", "{0} # of mine\n= {1}", "{0}: # of mine\n  {1}",
    "{0} = # of mine\n    '{1}'", "{0}: !vault {1}", "{0}: &a {1}", "{0} = /* of mine */ '{1}'",
    "{0} /* of mine */ = '{1}'", "{0}: <!-- x --> {1}", "? {0}\n: {1}", "{0}:\n\n\n  {1}",
    "{0}s:\n  joe: {1}\n  ann: {1}", "{0}s:\n  db:\n    prod: {1}", "[{0}s]\nuser = joe\nx = \"{1}\"",
    "+{0}S = {{\n+    'joe': '{1}',\n+}}", "{0}S = ['a', '{1}']", "{0} = 'a' + '{1}'", "{0} = 'a' '{1}'",
    "{0} = 'a'\\\n  '{1}'", "{0} = ('a'\n  '{1}')", "{0} = ''.join(['a', '{1}'])", "{0} = a or '{1}'",
    "{0}: |\n  a\n  {1}\n", "{0}: a\n  {1}", "def get_it({0}):\n    return '{1}'", "{0}, user = '{1}', 'me'",
    "add_argument('--x', help='{0}', default='{1}')", "<th>{0}</th><td>{1}</td>", "<td>{0}</td>\n<td>{1}</td>",
    "<property name='{0}'>{1}</property>", "<key>{0}</key><string>{1}</string>",
    "<input name='{0}' type='text' value='{1}'/>", "<x:{0}><![CDATA[{1}]]></x:{0}>",
    '{{"op": "replace", "path": "/db/{0}", "value": "{1}"}}', "x --name {0} --value {1}",
    "1 error\n{0}\n  [value='{1}']", "{0} authentication failed for joe with {1}", "read -p '{0}: ' x <<< {1}",
    "{0} char[] = {{'{1}'}}", "e = ({0!r}, '=', '{1}')",
)  # fmt: skip


@pytest.mark.parametrize("form", NEAR)
def test_what_looks_like_a_secret_near_the_name_of_one_is_masked(form):
    for name in ("password", "api_key", "secret", "пароль", "密码"):
        for secret in (KEY, MIXED, "q7Zk29fLmx4R"):
            assert secret not in without_secrets(form.format(name, secret)), (name, secret)


@pytest.mark.parametrize(
    "line",
    [
        "the secret of {}", "{} # no password", "the password\nof {}", "api keys:\n  of: {}", "see secrets.py: {}",
        "passwords, {} and so on", "secret santa ran {} in it",
    ],
)  # fmt: skip
def test_names_and_hashes_near_the_name_of_a_secret_stay(line):
    words = [
        "a1b2c3d",
        "0fdd32b1c2d3",
        "a1" * 20,
        "a1" * 32,
        "m4_hourly_gru",
        "hidden_size_128",
        "2024-01-02",
        "1.5e-3",
    ]
    for word in words:
        assert without_secrets(line.format(word)) == line.format(word)


@pytest.mark.parametrize("name", ["PIN", "OTP", "2FA code", "passcode", "MFA"])
@pytest.mark.parametrize(
    "form", ["{} 4711", "my {} is 471108", "{} no. 4711", "{} number 4711", "{} #4711", "{} (4711)", "{}\n4711",
             "{}, 4711", "{} → 4711", "{}: '4711'", "the {} for joe: 4711."]
)  # fmt: skip
def test_a_short_number_beside_its_name_is_masked(name, form):
    masked = without_secrets(form.format(name))
    assert "4711" not in masked
    assert name in masked


@pytest.mark.parametrize(
    "harmless",
    [
        "pin 12",
        "pin_memory 4096",
        "pin torch 2.8",
        "PIN 4711.5",
        "spin 4711",
        "opinion 4711",
        "the pins are 4711",
    ],
)
def test_a_number_beside_another_name_stays(harmless):
    assert without_secrets(harmless) == harmless


@pytest.mark.parametrize(
    "table",
    [
        "#user,password\njoe,{}\nann,{}", "user^password\njoe^{}\nann^{}", "user    password\njoe     {}\nann     {}",
        "user,password,\njoe,{},\nann,{},", "user,password\n# a remark\njoe,{}\nann,{}",
        '"a,b",password,user\n"x,y",{},joe\n"x",{},ann', 'user,password\njoe,"a,{}"\nann,{}',
    ],
)  # fmt: skip
def test_a_table_in_an_odd_layout_is_read(table):
    masked = without_secrets(table.format(WORD, "hunter"))
    assert WORD not in masked
    assert "hunter" not in masked
    assert "joe" in masked


@pytest.mark.parametrize("secret", [KEY, MIXED])
def test_a_secret_beside_its_name_in_plain_data_is_masked(secret):
    for key in (
        "param",
        "option",
        "setting",
        "property",
        "attribute",
        "env",
        "path",
        "parameter",
        "k",
        "column",
    ):
        for content in ("value", "payload", "body", "text", "v", "string_value", "now"):
            assert without_secrets({key: "password", content: secret}) == {key: "password", content: "***"}
            assert secret not in without_secrets(json.dumps({key: "password", content: secret}))
            assert secret not in str(without_secrets({key: "/db/password", content: [secret, 1]}))
    for names, rows in (("columns", "rows"), ("header", "data"), ("fields", "values"), ("names", "values")):
        for columns in (["user", "password"], ["name", "API_KEY"]):
            assert secret not in str(
                without_secrets({names: columns, rows: [["joe", secret], ["ann", secret]]})
            )
    for words in (
        ["password", secret],
        ["password", "=", secret],
        ["password:", secret],
        ["/password", secret],
    ):
        assert secret not in str(without_secrets([*words]))
        assert secret not in str(without_secrets({"argv": ["x", *words, "y"]}))


@pytest.mark.parametrize(
    "key", ["type", "kind", "id", "field", "label", "variable", "header", "title", "name", "key"]
)
@pytest.mark.parametrize("value", ["value", "val", "content", "data", "default"])
def test_what_a_secrets_name_stands_beside_is_masked(key, value):
    for name in ("password", "API_KEY", "db_password"):
        assert without_secrets([{key: name, value: WORD}]) == [{key: name, value: "***"}]
        assert WORD not in without_secrets(json.dumps({key: name, value: WORD}))
    for word in ("the", "embedding_128", "12"):  # a token of a text
        if key not in ("name", "key"):
            assert without_secrets({key: "token", value: word}) == {key: "token", value: word}


@pytest.mark.parametrize(
    "given",
    [
        [["user", "password"], ["joe", WORD], ["ann", WORD]],
        {"columns": ["user", "password"], "data": [["joe", WORD]]},
        f"user password\njoe {WORD}",
        f"ssh joe:{WORD}@host ls",
        f"scp a joe:{WORD}@host:b",
        f"INSERT INTO users (name, password) VALUES ('joe', '{WORD}'), ('ann', '{WORD}')",
        f"<db>\n  <password>\n    {WORD}\n  </password>",
        f"пароль от сервера: {WORD}",
        f"passw0rd={WORD}",
        f"login joe:{WORD}",
        f"password ⇒ {WORD}",
        f"password ≔ {WORD}",
        f"[password] {WORD}",
        f"net user joe {WORD} /add",
        f"useradd -p {WORD} joe",
        f"snmpwalk -A {WORD} -X {WORD} h",
        f"كلمة المرور: {WORD}",
        f"κωδικός πρόσβασης: {WORD}",
        f"רשת סיסמה: {WORD}",
    ],
)
def test_a_secret_is_known_in_rows_and_commands_and_words_of_other_languages(given):
    masked = str(without_secrets(given))
    assert WORD not in masked
    assert "***" in masked


@pytest.mark.parametrize("mark", [",", ";", "\t", " | "])
def test_a_column_is_masked_as_far_as_its_table_goes(mark):
    table = [["user", "password", "note"], ["joe", WORD, "a"], ["ann", "hunter", "b"]]
    text = "\n".join(map(mark.join, table))
    masked = text.replace(WORD, "***").replace("hunter", "***")
    assert without_secrets(f"x\n{text}\nand then\na, b, c") == f"x\n{masked}\nand then\na, b, c"


@pytest.mark.parametrize(
    "given",
    [
        ["curl", "-u", f"me:{WORD}", "h"],
        ["mongosh", "-u", "me", "-p", WORD],
        ["docker", "login", "-u", "me", "-p", WORD],
        ["sshpass", "-p", WORD, "ssh"],
        ["unzip", "-P", WORD, "a.zip"],
        ["curl", "-H", f"Authorization: Bearer {KEY}"],
        [["password", WORD], ["x", 1]],
        {"headers": [("Authorization", f"Basic {KEY}")]},
        {"env": [{"key": "API_KEY", "val": WORD}, {"Name": "API_KEY", "Value": WORD}]},
        {"x": f"${{oc.env:API_KEY,{WORD}}}"},
    ],
)
def test_a_secret_is_known_by_its_neighbours_in_plain_data(given):
    masked = str(without_secrets(given))
    assert WORD not in masked
    assert KEY not in masked


def test_the_word_after_an_option_is_masked_in_a_command_that_is_a_list():
    assert without_secrets(["x", "--password", KEY, "--token", "--seed", "1"]) == [
        "x", "--password", "***", "--token", "--seed", "1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "harmless",
    [
        {
            "tokens": 82430,
            "tokenizer": "word",
            "unit": "tokens",
            "token": None,
            "pad_token": 0,
            "seed_token": 3,
            "unk_token": "<unk>",
            "loss_per_token": 2.3,
            "ntoken": 10000,
            "next_token": "a",
            "token_ids": [1, 2],
            "key_size": 128,
            "sort_key": "lr",
            "sha256": "0" * 64,
            "public_key": 1,
            "password_length": 8,
            "password_file": "/run/x",
            "auth": False,
            "tags": ["token", "secret"],
            "tok": "word",
            "bos_tokens": [1, 2],
            "tokens_of": ["embedding_128"],
            "key": "m4_hourly_gru_hidden_size_64",
            "username": None,
            "index": ["date", "token"],
            "date": "2026-01-02T03:04:05+00:00",
        },
        "token = last.argmax(0)\nos.environ[PASSWORD] = password\nif token == 3: key=value",
        "loss per token: 2.31, token 5 of 1000, the token embedding_128 is; Predict the next token: `model(x [T, B])`",
        "password required: write KEY=VALUE; commit a1b2c3d4e5f6a7b8a1b2c3d4e5f6a7b8a1b2c3d4 at https://h:8080/a@b",
        "gatelab train data.level=word optim.lr=1e-3 'data.target=[load]'",
        "https://example.org/a@b and 3@home",
        'if not token:\n    continue\nclass Token:\n    """A token."""\nfor tok in tokens[1:]:\n    tok = words[i]',
        "auth:\n  user: me\ndef check(password):\n    'Return whether it fits.'\n    return",
        "python train.py -p8080 --key lr tokens=[the,cat2,embedding_128] wandb login",
        {"tokens": {"train": 929589, "sha": "a1" * 32}, "command": ["train", "-p8080", "--key", "lr"]},
        "def read(tokens: list, token: str, password: str | None = None, *, keys=3)",
        "logger.wandb.api_key=${oc.env:WANDB_API_KEY}",
        {
            "api_key": "${oc.env:A,null}",
            "token": "${oc.env:A,${oc.env:B}}",
            "password": "${oc.decode:${oc.env:P}}",
        },
        "token (str): the token\npassword (optional): of the user",
        "ENV TOKEN word; the password was wrong; setattr(x, 'token', 'word'); get_token('name'); pass 3 of 4",
        ["train", "-p", "8080", "--key", "lr", "-u", "me"],
        ["token", "secret"],
        [["date", "token"], ["password", "text"]],
        "2 passed, pass: 3, compass=4, path=/a/b, author=me, monitor=val/loss",
        "no MASE of 'api_key': every training row repeats the one before; token -> embedding, key -> value",
        {"password": 0.9909, "token": [0.25, 1e-05], "val": {"secret": 3.5}},
        {"target": ["pass", "co2_level"], "channels": ["token", "h2o_temp1"]},
        "src/x.py:1234:name:other and 10:20:30; http -a x; ssh-keygen -t ed25519; sqlplus /nolog",
        "| token | the word |\n|---|---|\n| key | value |",
        "qpsk=3 parola=ciao clave=valor mdp=chain schlüssel=4",
        "date,token\n2024-01-01,the\nuser,token\n3,the",
        "from a import (\n    user,\n    password,\n)\nx, y = f(a, 3)",
        "the user, the password\nare asked for, in this order",
        "user,password\n\n\nsee below, and beside",
        "INSERT INTO t (name, size) VALUES ('joe', 'a1b2c3d4e5')",
        "rsync -a runs/x:y@h; login: me; the user name\nis the last; useradd joe",
        {"columns": ["date", "load"], "data": [["a", "b"]], "rows": [["user", "age"], ["joe", 3]]},
        {
            "type": "token",
            "content": "the",
            "label": "pass",
            "data": "etth1",
            "keys": ["lr", "hidden_size_128"],
        },
        "hidden_size=4 tokens=3 key_size=12 monitor=val/loss keys[0]=lr token_it=3 embedding_de=4 x[0]=y",
        "\\u0041 and \\x41 and &#65; and a\\u00e9b: 3",
        {
            "identity": {"name": "secret", "hash8": "8188bdcf", "seed": 0},
            "data": "password",
            "x": "etth1-small",
        },
        {"sources": {"own/secrets.py": KEY, "secret_names.py": KEY, "password.yaml": KEY}},
        {"columns": ["age", "load"], "units": ["years", KEY]},
        "per token: a line of it, write KEY=VALUE; service key: the first; a share key of 3",
    ],
)
def test_what_is_no_secret_stays(harmless):
    assert without_secrets(harmless) == harmless
    assert first_secret(harmless) is None


def test_our_own_configurations_hold_none():
    for file in CONF_DIR.rglob("*.yaml"):
        text = file.read_text()
        assert without_secrets(text) == text, file
        assert first_secret(OmegaConf.to_container(OmegaConf.load(file))) is None


@pytest.mark.parametrize(
    "name", ["tokens", "tokenizer", "path", "key", "compass", "bypass", "author", "PATH"]
)
def test_common_words_name_no_secret(name):
    assert not secret_name(name)


def test_the_value_of_a_secret_variable_is_masked_wherever_it_is(monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MY_PASS", "BITBUCKET_PAT"):
        monkeypatch.setenv(name, KEY)
        monkeypatch.setenv("SHORT_TOKEN", "word")
        assert without_secrets({"diff": f"+x = '{KEY}' # word"}) == {"diff": "+x = '***' # word"}
        monkeypatch.delenv(name)


def test_a_secret_of_a_variable_is_known_in_every_way_of_writing(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@proxy")
    monkeypatch.setenv("MY_PASSWORD", f'{WORD}/"quoted"\nsecond-line-of-a-key')
    monkeypatch.setenv("SECRETS_DIR", "/home/me/project")
    monkeypatch.setenv("OTHER_PASSWORD", "hunter2")
    given = [
        f"x {KEY} y",
        f"{WORD}%2F%22quoted%22",
        f'{WORD}/\\"quoted\\"',
        "+second-line-of-a-key",
        "/home/me/project/x hunter2",
    ]
    masked = " ".join(without_secrets(given))
    assert "/home/me/project/x" in masked
    for part in (KEY, WORD, "second", "hunter2"):
        assert part not in masked


def test_keys_and_pairs_are_masked_too():
    given = {
        f"https://me:{KEY}@host": 1,
        "env": [{"name": "API_KEY", "value": KEY}, {"name": "epochs", "value": 3}],
    }
    masked = without_secrets(given)
    assert KEY not in str(masked)
    assert masked["env"][1] == given["env"][1]


def test_a_log_file_and_a_traceback_hold_no_secret(tmp_path, capsys, monkeypatch):
    def fail(_options):
        print(f"api_key={KEY}", file=sys.stderr)
        raise RuntimeError(f"login: password={KEY}")

    monkeypatch.setattr("gatelab.cli.doctor.run", fail)
    assert main(["doctor"]) == 1
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"config": {"a": f"db://me:{KEY}@h"}}))

    def train(request, _events):
        print("password:", request["config"]["a"])
        return fail(None)

    monkeypatch.setattr("gatelab.run.frozen_run.die_with_parent", lambda: None)
    assert frozen_run.main([str(request)], train) == 1
    said = "".join(capsys.readouterr())
    assert said.count("RuntimeError: login: password=***") == 2
    assert KEY not in said + "".join(file.read_text() for file in tmp_path.glob("*.jsonl"))


def test_the_working_folder_is_no_secret(monkeypatch):
    monkeypatch.setenv("PWD", "/home/me/project")
    monkeypatch.setenv("OLDPWD", "/home/me/before")
    paths = ["/home/me/project/runs/x", "/home/me/before/runs/x"]
    assert without_secrets(paths) == paths


@pytest.mark.parametrize(
    "unit",
    [
        "a", "a_", "token", "token=[", 'token="', "://", "a://", "--a-", " ", "token ", "a:", "?sig=",
        "-----BEGIN PRIVATE KEY-----", "token=f(", "pass=/", "token: str ", "--token ", "a://b:", "-u a:", "token:\n- ",
        "token:\n ", "echo a | ", "password\n-", "login <<",
        "token = (\n", '"username":"a","key":"', "mysql -p", "tokens=[a,", "oc.env:", "${oc.env:TOKEN,", 'token("',
        "name: token\n", "token (a", "token for ", "eyJaaaaaaaaaa.", "---- BEGIN PRIVATE KEY ----", 'auth("a",', "${",
        "Private-Lines: 1\n", "smb -U a", "%3A%2F%2F",
        "h:5432:a:b:", "password send \"", "| token ", "token of the ", "YWJjZGVmZ2hpams ", "vault write a ",
        "sqlplus a/",
        "htpasswd -b a ", "login(a=", "token\r\n", "a:b:1:1:", "FTP('a',", "net use a \\\\", "jwt.encode(a",
        "\\u0061", "user,password\na,b\n", "user,password,", "<password> ", "ssh a:",
        "insert into a (password) values (a),",
        '"value": "a", "name": "', '"type": "password", ', "login a:", "пароль от ", "&#97;", "user password\na b\n",
        "a,b\n",
        "รหัสผ่าน", "insert into a (a, ", "p a s s ", "password a1b2c3d4e5f6 ", "password = 'a' + ", "password: !a ",
        "PIN a ", "a:b1c2d3e4@",
        "passwords:\n ", "passwords:\n  a: b\n", "passwords = {", "[passwords]\na = b\n", "keys: [",
        "passwords: {a: 1,",
        'mysql", "-p", "', "AUTH a\n", "aws a ", " -u a -p ", "session=a1-", '"--token", ', "login Zq7xP2mN9vKd ",
        "_id",
    ],
)  # fmt: skip
@pytest.mark.quick(15)
@pytest.mark.quick(1, rest="ci")
def test_masking_takes_time_in_proportion_to_the_text(unit):
    short, long = (
        min(_seconds(unit * (length // len(unit))) for _ in range(2)) for length in (5_000, 40_000)
    )
    assert long / short < 30  # 8 where it is linear, 64 where it is quadratic


@pytest.mark.parametrize("names", [["a", "b"], ["user", "password"]])
def test_masking_takes_time_in_proportion_to_the_lists_of_a_mapping(names):
    short, long = (
        min(_seconds({f"k{n}": names for n in range(count)}) for _ in range(2)) for count in (60, 480)
    )
    assert long / short < 30  # 8 where it is linear, 64 where it is quadratic


def _seconds(given):
    import time

    started = time.process_time()
    without_secrets(given)
    return time.process_time() - started


def test_the_record_masks_what_it_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(sys, "argv", ["gatelab", "train", f"+x.url=grpc://me:{WORD}@host:1"])
    run = RunDirectory(tmp_path / "r")
    run.begin({"logger": {"x": {"url": f"https://{KEY}@host", "token": WORD}}}, {"name": "x"})
    run.update(note=f"sent {KEY}")
    run.finish({"outcome": "failed", "error": f"login {KEY} refused"})
    text = "".join(file.read_text() for file in run.path.rglob("*.json"))
    assert KEY not in text
    assert WORD not in text


@pytest.mark.ci
def test_a_whole_run_directory_holds_no_secret(tmp_path):
    repository = tmp_path / "own"
    repository.mkdir()
    (repository / "settings.py").write_text("api_key = None\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    (repository / "settings.py").write_text(f'api_key = "{WORD}-in-a-diff"\n')
    environment = {
        "WANDB_API_KEY": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY[::-1],
        "DATABASE_URL": f"db://me:{WORD}@host",
    }
    small = ["experiment=quickstart_series", "trainer.max_steps=2", "threads=1", "model.hidden_size=4"]
    small += [f"note='secret santa: {MIXED}, PIN 4711'", f"tags=['p@ssword: {MIXED}']"]
    where = ["callbacks=none", f"paths.mirror=file://me:{WORD}@host/x", f"paths.root={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "gatelab", "train", *small, *where],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    found = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert any(file.name == "last.ckpt" for file in found)
    for secret in (KEY, KEY[::-1], WORD, MIXED, "PIN 4711"):
        assert [file for file in found if secret.encode() in file.read_bytes()] == []
    (record,) = (file for file in found if file.name == "run.json")
    assert "settings.py" in record.read_text()  # the difference is of the user's own repository
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def test_a_request_of_a_trial_names_the_variable_and_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SERVICE", WORD)  # its own name tells nothing
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    config = {
        "callbacks": {"n": {"api_key": WORD, "url": f"https://me:{KEY}@host", "list": [{"token": KEY}, 1]}},
        "seed": 3,
    }
    file = tmp_path / "request.json"
    write_request(file, config, Identity("x", "1a2b3c4d", 0))
    text = file.read_text()
    assert WORD not in text
    assert KEY not in text
    assert from_variables(json.loads(text)["config"]) == config
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_error_of_a_command_holds_no_secret(capsys):
    assert main(["train", "experiment=quickstart", f"+logger.x.token={KEY}", f"optim.lr=token={KEY}"]) == 2
    assert main(["eval", f"https://me:{WORD}@host/runs"]) == 2
    said = capsys.readouterr()
    assert KEY not in said.err
    assert WORD not in said.err
    assert "***" in said.err
