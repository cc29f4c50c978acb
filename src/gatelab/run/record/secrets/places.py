"""Secrets in a text that are known by their place: in a URL, after an option of a client, in a call, in a file's line.

Every pattern takes time linear in the text: none looks further than `FURTHEST` characters for its end.
"""

from __future__ import annotations

import re

from gatelab.run.record.secrets.names import ODD, RANDOM

FURTHEST = 500

_CLIENTS = {
    r"mysql(?:dump|admin|import|show|check|slap|sh|pump)?|mariadb(?:-\w{1,20})?|mycli|7z[azr]?|rar|unrar": r"-p",
    r"(?:docker|podman|az|buildah|skopeo|nerdctl|oras|crane|helm)[ \t]+(?:(?:registry|auth)[ \t]+)?login": (
        r"-p[ \t]{1,9}"
    ),
    r"mongo\w{0,10}|twine|ncftp\w{0,9}|rdesktop|snowsql|cqlsh|impala-shell|cadaver": r"-p[ \t]{1,9}",
    r"redis-cli|valkey-cli": r"-a[ \t]{1,9}",
    r"ldap\w{1,10}": r"-w[ \t]{0,9}",
    r"zip|unzip|zipcloak|sqlcmd|bcp|[oit]sql|ipmitool|mosquitto_\w{3}": r"-P[ \t]{0,9}",
    r"ssh-keygen": r"-[NP][ \t]{1,9}",
    r"openssl": r"(?:-k[ \t]{1,9}|-pass\w{0,3}[ \t]{1,9}pass:)",
    r"smb\w{1,10}|rpcclient": r"(?:-U|--user=?)[ \t]{0,9}[^\s%]{1,100}%",
    r"lftp": r"-u[ \t]{1,9}[^\s,]{1,100},",
    r"https?|xh": (
        r"(?:(?:-a|--auth)(?:=|[ \t]){1,9}['\"]?[^\s:'\"]{1,100}:|-A[ \t]{1,9}bearer[ \t]{1,9}(?:-a|--auth)[ \t]{1,9})"
    ),
    r"[wx]freerdp": r"/p:",
    r"(?:nuget|choco|gem)[ \t]+push": r"(?:-k|--key)[ \t]+",
    r"user(?:add|mod)": r"-p[ \t]{1,9}",
    r"snmp\w{1,12}": r"-A[ \t]{1,9}",
    r"snmp[a-z]{1,12}": r"-X[ \t]{1,9}",
}
"""Commands that take a password, and what stands before it."""
_AFTER_WORDS = (
    r"\bnet[ \t]+use[ \t]+[^\s'\"]{1,99}[ \t]+\\\\[^\s'\"]{1,200}[ \t]+(?![/*])",
    r"\bhtpasswd[ \t]+-\w{0,9}b\w{0,9}[ \t]+(?:[^\s'\"]{1,200}[ \t]+(?=\S+[ \t]+\S))?[^\s'\"]{1,200}[ \t]+",
    r"\bhttp-basic\.[^\s'\"]{1,99}[ \t]+[^\s'\"]{1,99}[ \t]+",  # poetry
    r"\bnet[ \t]+user[ \t]+[^\s'\"]{1,99}[ \t]+(?![/*])",
    r"\brclone[ \t]+obscure[ \t]+",
    r"\bwpa_passphrase[ \t]+[^\s'\"]{1,99}[ \t]+",
    r"\bmc[ \t]+(?:alias[ \t]+set|config[ \t]+host[ \t]+add)(?:[ \t]+[^\s'\"]{1,200}){3}[ \t]+",
    r"\brabbitmqctl[ \t]+(?:add_user|change_password)[ \t]+[^\s'\"]{1,99}[ \t]+",
    r"\bset-initial-password[ \t]+",
    r"\b(?:aws|poetry|composer|npm|yarn|pnpm|pip|rclone|nmcli)(?:[ \t]+[^\s'\"]{1,200}){1,6}?[ \t]+[^\s'\"]{0,60}"
    r"(?:password|pass|secret|token|_key)[^\s'\"]{0,60}[ \t]+(?!-)",
    r"--from-literal[ =][\w.-]{1,100}=",
)
"""Commands and the words after them, of which the next is the secret."""
_READING = (
    r"\bsudo[ \t]+-S\b",
    r"\bchpasswd\b",
    "--password-stdin",
    "--with-token",
    "--key-file=-",
    r"\bpass[ \t]+insert\b",
    r"\bcryptsetup\b",
    r"\bkeyring[ \t]+set\b",
)
_READERS = rf"(?:{'|'.join(_READING)}|\blogin\b)"
"""How commands look that read a password from their input."""
_GAP = r"(?:[ \t]|[\"'],[ \t]{0,2}[\"'])"
"""Between two words of a command, which may be a list in a text."""
_QUOTE = r"\\?[\"']"
_TEXT = r"[rbfu]{0,2}[\"']"
_ARGUMENT = r"[\"'][^\"'\n]{0,100}[\"'],\s{0,9}"
_WORD = r"[^\s'\";|]+"
_COMMANDS = (
    # a user, and at once the password; no port
    (
        r"[ \t](?-i:-[a-z]?[un](?::|[ \t]){1,9}(?![^\s'\"]*\.py)[^\s'\"-][^\s'\"]{0,60}[ \t]+-[a-z]?p"
        r"|-U[ \t]{1,9}[^\s'\"]{1,60}[ \t]+-P)"
        r"(?::|[ \t]){1,9}['\"]?",
        r"(?![\d:]+(?:[\s'\"]|$))[^\s'\";|]+",
    ),
    (
        r"(?:[ \t]-[a-z]{0,4}u|--user|--proxy-user)(?:=|[ \t]){0,9}['\"]?[^\s:'\"/]{1,100}:",
        r"(?!//)[^\s'\":]+",
    ),
    (r"(?:[ \t]-E|--cert)(?:=|[ \t]){1,9}[^\s:'\"]{1,100}:", r"[^\s'\"]+"),  # curl
    (r"\bsshpass[ \t]+-p[ \t]*['\"]?", r"(?!,)[^\s'\"]+"),
    *(
        (rf"(?<![\w.-])(?:{command})\b[^\n|;]{{0,200}}?[ \t](?-i:{flag})['\"]?", rf"(?![-,]){_WORD}")
        for command, flag in _CLIENTS.items()
    ),
    *((words, _WORD) for words in _AFTER_WORDS),
    (
        r"(?<![\w.-])(?:sqlplus|impdp|expdp|sqlldr)\b[^\n|;]{0,200}?[ \t][\w$]{1,40}/",
        r"[^\s/@'\"]+(?=[@\s'\"]|$)",
    ),
    # each NAME=VALUE of the line
    (
        r"\b(?:vault[ \t]+(?:kv[ \t]+)?(?:put|write|patch)[ \t]+[^\s'\"]{1,200}"
        r"|(?:fly(?:ctl)?|wrangler|doppler|supabase)[ \t]+secrets?[ \t]+(?:set|put))[ \t]+",
        r"[^\n]+",
    ),
    (
        r"\b(?:wandb|hf|huggingface-cli|npm|vault|neptune|comet|cargo)[ \t]+(?:auth[ \t]+)?login[ \t]+"
        r"(?:--?\w+[ \t]+){0,3}",
        rf"(?:{RANDOM}|{ODD})",
    ),
    # redis
    (
        r"(?:(?m:^)|\b(?:redis|valkey|keydb)-cli\b[^\n|;]{0,200}?[ \t])[>\[\"' \t]{0,9}(?-i:AUTH[ \t]+(?![A-Z]+\b))"
        r"(?:[^\s'\"]{1,100}[ \t]+)?",
        r"(?!required|failed)[^\s'\"]+(?=[\"'\] \t]{0,9}(?:\n|$))",
    ),
)
"""Commands up to the secret, and the secret; words lie apart by spaces, or stand in quotes as those of a list do."""

PLACES = tuple(
    re.compile(rf"(?P<kept>{before})(?:{secret})", re.IGNORECASE)
    for before, secret in (
        *((words.replace(r"[ \t]", _GAP), value) for words, value in _COMMANDS),
        # user and password in a URL; not a port
        (
            r"\b[a-z][a-z0-9+.-]{0,30}://",
            rf"(?:[^\s/@'\":]{{0,{FURTHEST}}}:(?!\d{{1,5}}(?:[/?]|$))[^\s'\"]{{0,{FURTHEST}}}|[^\s/@'\"]{{1,{FURTHEST}}})(?=@)",
        ),
        (
            r"[?&#;](?:sig|key|code|signature|awsaccesskeyid|x-(?:amz|goog)-(?:signature|credential))=",
            r"[^\s&'\"#]+",
        ),
        (
            r"(?:token|key|secret|password|passwd|pwd|auth|sig|signature)(?:%22)?%3[AD](?:%20|\+)?(?:%22)?",
            r"[^\s&'\"%]+",
        ),
        (r"%3A%2F%2F[^\s%/'\"]{0,200}%3A", rf"[^\s&'\"]{{1,{FURTHEST}}}?(?=%40)"),
        (r"\bhttps?://[^\s/'\"]{1,200}/t/", r"[A-Za-z0-9-]{16,}(?=/)"),  # a conda channel
        (
            r"authorization\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?"
            r"(?:basic|bearer|negotiate|ntlm|hawk|token|apikey|key|aws4-[\w-]+)[ \t]+",
            r"[^'\n]+?(?=\\?\"[ \t]*[,})\]\n]|['\n]|$)",
        ),
        (r"authorization:[ \t]*digest[ \t]+", r"[^'\n]+"),
        (r"\b(?:set-)?cookie:[ \t]*", r"[^'\"\n]+"),
        (r"\bbearer[ \t]{1,20}", r"[A-Za-z0-9+/=._~-]{8,}"),
        # user and password before a host
        (
            r"(?<![\w/.-])[\w.-]{1,60}[:/]",
            r"(?=[A-Za-z_-]{0,60}\d)(?=[\d_-]{0,60}[A-Za-z])[A-Za-z0-9_-]{8,100}"
            r"(?=@(?!sha\d)[A-Za-z][\w.-]{0,99}[:/(])",
        ),
        (
            r"\b(?:passcode|(?-i:PIN|OTP|2FA|MFA))s?\b[^\w\n]{0,3}(?:[A-Za-z]{1,10}\W){0,3}\n?[ \t]{0,9}",
            r"\d{4,12}(?!\w|\.\d)",
        ),
        (r"\b(?:ssh|scp|sftp|rsync)\b[^\n|;]{0,200}?[ \t'\"][\w.-]{1,60}:", r"[^\s'\"@/]+(?=@[\w.-])"),
        (r"\blogin:?[ \t]+[\w.@-]{1,60}:", ODD),
        (r"<[\w:.-]{0,40}(?:password|passwd|secret|api[-_]?key)\w{0,10}>\s{1,80}", r"[^\s<>]+(?=\s{1,80}</)"),
        # an answer to a prompt: expect's `send "K\r"`, pexpect's `sendline("K")`
        (
            r"\b(?:password|passphrase|assword|passcode|otp)\b[^\n]{0,100}\n?[^\n]{0,60}?\bsend(?:line)?\b"
            rf"[ \t]*(?:--[ \t]*)?\(?[ \t]*{_TEXT}",
            r"[^\"'\n\\]+",
        ),
        (
            r"\bidentified[ \t]+(?:with[ \t]+\S{1,60}[ \t]+)?by[ \t]+['\"]|\bpassword[ \t]+(?=')'"
            r"|\bConvertTo-SecureString[ \t]+['\"]",
            r"[^'\"\n]+",
        ),
        (r"\b\w{0,20}auth\w{0,20}\(\s{0,9}[\"'][^\"'\n]{0,100}[\"'],\s{0,9}[\"']", r"[^\"'\n]+"),
        (r"\blogin\(\s{0,9}(?:\w{1,20}=)?[\"']", RANDOM),
        (
            rf"\blogin\(\s{{0,9}}{_ARGUMENT}{_TEXT}|\blogin\([^()\n]{{0,100}}?\b(?:key|token)={_TEXT}",
            r"[^\"'\n]+",
        ),
        (
            rf"\b(?:pymysql|MySQLdb|mysql\.connector|psycopg2?|pyodbc|oracledb|cx_Oracle|FTP)\w{{0,9}}(?:\.\w{{1,20}})?"
            rf"\(\s{{0,9}}(?:{_ARGUMENT}){{2}}{_TEXT}",
            r"[^\"'\n]+",
        ),
        (
            rf"\bFernet\(\s{{0,9}}{_TEXT}|\bhmac\.new\(\s{{0,9}}{_TEXT}"
            rf"|\bjwt\.(?:en|de)code\([^,\n]{{1,200}},\s{{0,9}}{_TEXT}",
            r"[^\"'\n]+",
        ),
        (rf"\bcomet_ml\.(?:init|start|login)\(\s{{0,9}}{_TEXT}", RANDOM),
        (
            rf"\bfs\.azure\.(?:account\.key|sas)\.[^\s'\"=,]{{1,200}}(?:{_QUOTE})?[ \t]*[,=:\s][ \t]*(?:{_QUOTE})?",
            r"[^\s'\"]+",
        ),
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
        (r"(?<![^\s'\"])-p", rf"(?={RANDOM})[A-Za-z0-9+=_~-]{{16,}}"),
        # echo K | docker login --password-stdin, and <<< K behind it
        (
            r"\b(?:echo|printf)[ \t]+(?:-\w+[ \t]+|['\"]?%s\S{0,3}[ \t]+)?['\"]?",
            rf"[^\s'\"|]{{4,{FURTHEST}}}(?=['\"]?[ \t]*\|[^\n|;]{{0,200}}?{_READERS})",
        ),
        (rf"{_READERS}[^\n|;]{{0,99}}<<(?:<[ \t]*|-?[ \t]*['\"]?\w+['\"]?\n)['\"]?", r"[^\s'\"]{4,}"),
        (r"\blogin[ \t]+\S{1,200}[ \t\n+-]+password[ \t]+", r"\S+"),  # .netrc
        (
            r"\b(?:discord(?:app)?\.com/api/webhooks/\d{1,25}|outlook\.office(?:365)?\.com/webhook\w*)/",
            r"[^\s'\"]+",
        ),
        (r"\bhooks\.slack\.com/services/", r"[A-Za-z0-9/_-]{8,}"),
        # a line of .pgpass: host, port, database, user, password
        (
            r"(?m:^)[ +-]?(?:\*|[\w.-]{1,200}):(?:\*|[1-9]\d{3,4}):(?:\*|[\w$-]{1,64}):(?:\*|[\w$-]{1,64}):",
            r"[^\s:][^\s]*(?=\s|$)",
        ),
        # a line for newusers: a password where /etc/passwd has an x
        (
            r"(?m:^)[ +-]?[a-z_][\w-]{0,30}:(?![x*!]?:)",
            r"[^:\s]+(?=:\d{1,9}:\d{1,9}:[^:\n]{0,99}:/[^:\n]{0,99}:)",
        ),
    )
)
"""What stands before a secret and is kept, and the secret."""
