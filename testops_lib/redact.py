"""Text, headers and URLs without credentials: masked by known value, by name, and by the shape of well-known keys.

Everything here is linear in the length of the text, whatever the text holds.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote_plus

from testops_lib.model import Pairs

PLACEHOLDER = "[redacted]"

_SHORTEST = 4
"""Known values below this length are not masked: they would blot out half of any text."""

_EXACT = frozenset(
    {
        "authorization",
        "proxyauthorization",
        "cookie",
        "setcookie",
        "auth",
        "xauth",
        "xauthkey",
        "jwt",
        "pwd",
        "passphrase",
        "pin",
        "otp",
        "sid",
        "sessionid",
        "session",
        "sessionkey",
        "phpsessid",
        "jsessionid",
        "connectsid",
        "credentials",
        "credential",
        "signature",
        "accesskey",
        "xaccesskey",
        "sig",
        "ssn",
        "cvv",
        "cvv2",
        "cvc",
        "totp",
        "mnemonic",
    }
)
_CONTAINED = (
    "password",
    "passwd",
    "passcode",
    "secret",
    "apikey",
    "privatekey",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "recoverycode",
    "recoverykey",
    "recoveryphrase",
    "backupcode",
    "seedphrase",
    "securitycode",
    "verificationcode",
    "onetimecode",
    "otpcode",
    "socialsecurity",
    "cardnumber",
)
_ENDINGS = ("token", "sessionid", "accesskey", "accesskeyid", "subscriptionkey", "csrf", "xsrf")
_NOT_SENSITIVE = frozenset(
    {
        "pagetoken",
        "nextpagetoken",
        "previouspagetoken",
        "prevpagetoken",
        "nexttoken",
        "continuationtoken",
        "synctoken",
        "secretary",
        "nextsynctoken",
        "pagingtoken",
    }
)
_KEYS = frozenset({"key", "keys"})
"""Names that hold a credential or a harmless name (`{"key": "PROJ-1"}`): the value decides."""
_LOOKS_GENERATED = re.compile(r"(?=[^0-9]*+[0-9])(?=[^A-Za-z]*+[A-Za-z])[A-Za-z0-9+/=_.~-]{16,}+")
_LONGEST_NAME = 200
_NOT_A_LETTER = re.compile(r"[^a-z0-9]+")

# A key of a JSON object with its colon, also in cut or broken JSON; \" as inside a JSON string that holds JSON.
_MEMBER = re.compile(r'(\\{0,3})"((?:[^"\\\r\n]|\\u[0-9a-fA-F]{4}){1,80})\\{0,3}"\s*+:\s*+')
_SCALAR = re.compile(r"[^\s,}\]\\\"]++")
_BRACKET = re.compile(r'["\[\]{}]')

_NAME = r"[\w.\-\[\]%$]"
_ASSIGNMENT = re.compile(rf"(?<!{_NAME})({_NAME}{{1,80}}+)=([^&\s\"'<>;,\\]++)")
_HEADER_WORDS = ("authorization", "cookie", "api-key", "auth-token")
_HEADER_LINE = re.compile(
    r"(?i)(?<![\w-])((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token|api-key)(\s*+:\s*+)([^\r\n\"'\\]++)"
)
_USER_INFO = re.compile(r"(://)([^/\s@\"'<>?#]{1,2000}+)@")

_SHAPES = tuple(
    (mark, re.compile(pattern))
    for mark, pattern in (
        ("eyJ", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)*+"),
        ("AIza", r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{30,}+"),
        ("sk-", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}+"),
        ("k_", r"(?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{10,}+"),
        ("gh", r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{20,}+"),
        ("github_pat_", r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{20,}+"),
        ("glpat-", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{16,}+"),
        ("xox", r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}+"),
        ("AKIA", r"(?<![A-Za-z0-9])AKIA[A-Z0-9]{16}(?![A-Z0-9])"),
        ("ASIA", r"(?<![A-Za-z0-9])ASIA[A-Z0-9]{16}(?![A-Z0-9])"),
        ("ya29.", r"(?<![A-Za-z0-9])ya29\.[A-Za-z0-9_-]{20,}+"),
        (
            "PRIVATE KEY-----",
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]|-(?!----END))*+(?:-----END[A-Z ]{0,50}-----)?",
        ),
    )
)
"""A text that the key cannot do without, because looking for that costs next to nothing; and the key."""

_SCHEME = re.compile(
    r"(?i)(?<![a-z0-9])(bearer|basic|token)(\s++)((?=[^\s]{0,200}?[0-9._/+=-])[A-Za-z0-9._~+/-]{8,}+=*+)"
)


def sensitive(name: str) -> bool:
    """Whether a header, parameter, field or JSON member of this name holds a credential."""
    return _sensitive(name if len(name) <= _LONGEST_NAME else name[-_LONGEST_NAME:])


@lru_cache(maxsize=4096)
def _sensitive(name: str) -> bool:
    plain = _NOT_A_LETTER.sub("", name.lower())
    if plain in _NOT_SENSITIVE:
        return False
    return plain in _EXACT or plain.endswith(_ENDINGS) or any(word in plain for word in _CONTAINED)


def holds_secret(name: str, value: str) -> bool:
    """Whether a pair of this name and value is a credential."""
    if sensitive(name):
        return True
    return name.lower() in _KEYS and _LOOKS_GENERATED.fullmatch(value[:_LONGEST_NAME]) is not None


class Redactor:
    """Masks the given secrets (4 characters or longer) in plain, base64 (once or twice), hexadecimal, percent, JSON and
    HTML form, also where only some characters are escaped, in small and capital letters, and whatever a name or a
    well-known shape gives away.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        secrets = frozenset(secrets)
        forms = {form.lower() for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        ordered = sorted((f for f in forms if f not in PLACEHOLDER), key=lambda form: (-len(form), form))
        self._forms = [(form, re.compile(re.escape(form), re.IGNORECASE)) for form in ordered]
        plain = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=lambda text: (-len(text), text))
        self._escaped = [re.compile("".join(map(_any_escape, secret)), re.IGNORECASE) for secret in plain]

    def text(self, text: str) -> str:
        """Any text: a body (JSON whole, cut or broken; a form), a message, a log line."""
        text = self._values(text)
        if '"' in text:
            text = _members(text)
        if "=" in text:
            text = _ASSIGNMENT.sub(_masked_assignment, text)
        if ":" in text:
            low = text.lower()
            if any(word in low for word in _HEADER_WORDS):
                text = _HEADER_LINE.sub(rf"\1\2{PLACEHOLDER}", text)
            text = _USER_INFO.sub(rf"\1{PLACEHOLDER}@", text)
        return text

    def known(self, text: str) -> str:
        """A text whose names say nothing (a script): only known values and well-known shapes are masked."""
        return self._values(text)

    def pairs(self, pairs: Pairs) -> Pairs:
        """Headers, cookies or form fields: a sensitive name loses its whole value."""
        return tuple(
            (name, PLACEHOLDER if value and holds_secret(name, value) else self.text(value)) for name, value in pairs
        )

    def url(self, url: str) -> str:
        """A URL: credentials before the host and sensitive query parameters are masked, all else stays."""
        head, mark, query = url.partition("?")
        head = _USER_INFO.sub(rf"\1{PLACEHOLDER}@", self._values(head))
        if not mark:
            return head
        query, hash_mark, fragment = query.partition("#")
        shown = []
        for pair in query.split("&"):
            name, equals, value = pair.partition("=")
            if equals and value and holds_secret(unquote_plus(name), unquote_plus(value)):
                shown.append(f"{name}={PLACEHOLDER}")
            else:
                shown.append(self._values(pair))
        return f"{head}?{'&'.join(shown)}{hash_mark}{self.text(fragment)}"

    def _values(self, text: str) -> str:
        low = text.lower()
        for form, anyhow in self._forms:
            if form in low:
                text = anyhow.sub(PLACEHOLDER, text)
                low = text.lower()
        if any(mark in text for mark in _ESCAPE_MARKS):
            for escaped in self._escaped:
                text = escaped.sub(PLACEHOLDER, text)
            low = text.lower()
        for mark, shape in _SHAPES:
            if mark in text:
                text = shape.sub(PLACEHOLDER, text)
                low = text.lower()
        if "bearer" in low or "basic" in low or "token" in low:
            text = _SCHEME.sub(rf"\1\2{PLACEHOLDER}", text)
        return text


_ESCAPE_MARKS = ("\\u", "\\U", "&#", "%")


def _any_escape(character: str) -> str:
    """A pattern for a character as it is, or as JSON (RFC 8259), HTML or a URL (RFC 3986) may escape it."""
    code, units = ord(character), character.encode("utf-16-be", "surrogatepass").hex()
    json_form = "".join(rf"\\{{1,4}}u{units[at : at + 4]}" for at in range(0, len(units), 4))
    url_form = "".join(f"%(?:25){{0,2}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    return rf"(?:{re.escape(character)}|{json_form}|&#0{{0,6}}{code};?|&#x0{{0,6}}{code:x};?|{url_form})"


def _forms(secret: str) -> set[str]:
    raw = secret.encode("utf-8", "surrogatepass")
    # Header values are bytes: many servers read them as Latin-1, and show other than ASCII as that.
    spellings = {secret, raw.decode("latin-1")}
    forms = set(spellings)
    for spelling in spellings:
        written = {json.dumps(spelling)[1:-1], json.dumps(spelling, ensure_ascii=False)[1:-1]}
        forms |= written | {json.dumps(form)[1:-1] for form in written} | {html.escape(spelling)}
        bytes_ = spelling.encode("utf-8", "surrogatepass")
        escaped = {quote(bytes_, safe=""), quote(bytes_), quote_plus(bytes_)}
        forms |= escaped | {quote(form, safe="") for form in escaped}
    forms.add(raw.hex())
    once = base64.b64encode(raw)
    twice = _base64_forms(once) | _base64_forms(once.rstrip(b"=")) | _base64_forms(base64.urlsafe_b64encode(raw))
    return forms | _base64_forms(raw) | twice


def _base64_forms(raw: bytes) -> set[str]:
    forms: set[str] = set()
    # Inside a longer base64 text the secret starts at one of three places; the characters it shares are left out.
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw).decode().rstrip("=")
        inner = encoded[(lead * 4 + 2) // 3 :]
        if (lead + len(raw)) % 3:
            inner = inner[:-1]
        if len(inner) >= _SHORTEST + 1:
            forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    whole = base64.b64encode(raw).decode()
    return forms | {whole, base64.urlsafe_b64encode(raw).decode(), quote(whole, safe="")}


def _masked_assignment(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if value != PLACEHOLDER and holds_secret(unquote_plus(name), unquote_plus(value)):
        return f"{name}={PLACEHOLDER}"
    return match[0]


def _members(text: str) -> str:
    """`text` with the values of sensitive JSON members masked; strings stay strings, objects and lists go whole."""
    out: list[str] = []
    done = 0
    at = 0
    while match := _MEMBER.search(text, at):
        name = match[2]
        if "\\u" in name:
            name = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), name)
        start = at = match.end()
        if name.lower() in _KEYS:
            generated = _LOOKS_GENERATED.match(text, start + len(match[1]) + 1, start + _LONGEST_NAME)
            if generated is None or text[generated.end() : generated.end() + 1] not in ('"', "\\", ""):
                continue
        elif not sensitive(name):
            continue
        end, shown = _value(text, start, len(match[1]))
        if end > start and shown:
            out += (text[done:start], shown)
            done = end
        at = max(end, start)
    return "".join((*out, text[done:])) if out else text


def _value(text: str, start: int, slashes: int) -> tuple[int, str]:
    """Where the JSON value at `start` ends, and what to show for it ("": as it is)."""
    quote_mark = "\\" * slashes + '"'
    if text.startswith(quote_mark, start):
        inside = start + len(quote_mark)
        end = _end_of_string(text, inside, slashes)
        if text.startswith(quote_mark, end):
            empty = end == inside
            return end + len(quote_mark), "" if empty else f"{quote_mark}{PLACEHOLDER}{quote_mark}"
        return end, f"{quote_mark}{PLACEHOLDER}"
    if text[start : start + 1] in ("{", "["):
        return _end_of_nested(text, start), f"{quote_mark}{PLACEHOLDER}{quote_mark}"
    scalar = _SCALAR.match(text, start)
    if scalar is None or scalar[0] in ("null", "true", "false"):
        return (scalar.end() if scalar else start), ""
    return scalar.end(), f"{quote_mark}{PLACEHOLDER}{quote_mark}"


def _end_of_string(text: str, at: int, slashes: int) -> int:
    """Index of the closing quote (with its backslashes), or the end of the text."""
    while (mark := text.find('"', at)) >= 0:
        before = 0
        while mark - before - 1 >= at and text[mark - before - 1] == "\\":
            before += 1
        closes = before == slashes if slashes else before % 2 == 0
        if closes or (slashes and before < slashes):
            return mark - before if slashes else mark
        at = mark + 1
    return len(text)


def _end_of_nested(text: str, at: int) -> int:
    """Index after the bracket that closes the one at `at`, or the end of the text."""
    depth = 0
    while bracket := _BRACKET.search(text, at):
        at = bracket.end()
        mark = bracket[0]
        if mark == '"':
            at = _end_of_string(text, at, 0) + 1
        elif mark in "[{":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return at
    return len(text)
