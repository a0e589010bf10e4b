"""A failed case as one shell script: all steps with their captures, credentials as variables, cleanup included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import structs

from testops_lib.export.text import HIDDEN, TOKEN, comment, places
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    BytesBody,
    Capture,
    Case,
    FormBody,
    Identity,
    JsonBody,
    MultipartBody,
    Request,
    Step,
    TextBody,
)
from testops_lib.placeholder import VARIABLE, encode, fill, fill_text

LONGEST: Final = 60_000
"""Characters of a script; a longer one is left to `testops reproduce`."""

_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK: Final = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_WHOLE_LEAF: Final = re.compile(f'"{_OPEN}([^{_CLOSE}"]*){_CLOSE}"')
_PUBLIC: Final = frozenset({"accept", "accept-language", "content-type", "origin", "prefer", "referer", "user-agent"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_LONG_ARGUMENT: Final = 100_000
_RESERVED: Final = frozenset({"BASE_URL", "PATH", "IFS", "HOME", "PWD", "tmp", "code", "unique"})

_PYTHON: Final = """\
import json, sys, urllib.parse
what, form, keys = sys.argv[1], sys.argv[2], sys.argv[3]
if what == "text":
    values = [keys]
elif what == "status":
    values = [int(open(sys.argv[4] + "/status").read())]
elif what == "header":
    lines = open(sys.argv[4] + "/head", encoding="utf-8", errors="surrogateescape").read().splitlines()
    values = [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].lower() == keys.lower()]
else:
    values = [json.load(open(sys.argv[4] + "/body", encoding="utf-8"))]
    for key in json.loads(keys):
        inner = []
        for value in values:
            if key is None:
                inner += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
            elif isinstance(value, dict) and key in value or isinstance(value, list) and key in range(len(value)):
                inner.append(value[key])
        values = inner
if not values:
    sys.exit(1)
write = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
text = values[0] if isinstance(values[0], str) else write(values[0])
if form == "json":
    text = write(values[0])
elif form == "inside":
    text = write(text)[1:-1]
elif form == "url":
    text = urllib.parse.quote(text, safe="")
elif form == "form":
    text = urllib.parse.quote_plus(text)
sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
"""
"""The script's use of python3: writes a value of the answer, or a text, as its place in a request needs it."""


def recipe(
    case: Case, base_url: str, identities: Sequence[Identity] = (), *, failing: int | None = None, wrong: str = ""
) -> str:
    """A POSIX shell script that needs curl and python3; "" when it would be longer than `LONGEST`.

    It sends the steps up to the `failing` one (None: all) with a `unique` of its own and prints each answer; then the
    cleanup steps whose values it has. Secrets are variables that it asks for: `${NAME}` of an identity as `$NAME`, a
    literal value as `$TOKEN`.

    Args:
        case: as it was executed.
        base_url: where; the variable BASE_URL goes before it.
        identities: of the plan, the first is the default.
        failing: index of the step that failed.
        wrong: what was wrong there, printed after the answer.
    """
    return _Script(case, base_url, identities).written(failing, wrong)


def public(identities: Iterable[Identity]) -> tuple[Identity, ...]:
    """The identities as far as a script needs them: a literal credential is a reference `${NAME}`, logins are empty."""
    public_identities = []
    for number, identity in enumerate(identities):
        suffix = _suffix(identity) if number else ""
        parts = {
            place: tuple((name, _reference(name, value, suffix)) for name, value in getattr(identity, place))
            for place in ("headers", "query", "cookies")
        }
        basic = identity.basic
        if basic is not None:
            basic = structs.replace(basic, password=_reference("password", basic.password, suffix))
        login = identity.login
        if login is not None:
            login = structs.replace(login, payload="", headers=(), basic=None)
        public_identities.append(structs.replace(identity, basic=basic, login=login, create=None, **parts))
    return tuple(public_identities)


def _reference(name: str, value: str, suffix: str) -> str:
    if name.lower() in _PUBLIC or VARIABLE.search(value):
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme}{space}${{{_variable(name, suffix)}}}" if space else f"${{{_variable(name, suffix)}}}"


def _variable(name: str, suffix: str) -> str:
    variable = "TOKEN" if name.lower() == "authorization" else re.sub(r"[^A-Z0-9_]", "_", name.upper())
    return (f"V_{variable}" if variable[:1].isdigit() or variable in _RESERVED else variable) + suffix


def _suffix(identity: Identity) -> str:
    return "_" + re.sub(r"[^A-Z0-9_]", "_", identity.name.upper())


class _Script:
    """Writes the script."""

    def __init__(self, case: Case, base_url: str, identities: Sequence[Identity]) -> None:
        self._case, self._base_url, self._identities = case, base_url.rstrip("/"), identities
        self._names: dict[str, str] = {"unique": "unique"}
        """Name in the case -> shell variable."""
        self._secrets: dict[str, str] = {}
        """Shell variable -> what to set it to."""
        self._as_json = {
            name
            for step in (*case.steps, *case.cleanup)
            if isinstance(step.request.body, JsonBody)
            for name in _leaves(step.request.body)
        }

    def written(self, failing: int | None, wrong: str) -> str:
        steps = self._case.steps if failing is None else self._case.steps[: failing + 1]
        lines: list[str] = []
        for number, step in enumerate(steps, 1):
            lines += ["", f"echo {_quoted(f'== {number}. {_title(step)}')}", self._send(step)]
            if number - 1 == failing and wrong:
                lines.append(f"echo {_quoted(f'== wrong: {comment(wrong)}')}")
            passed = number - 1 != failing
            lines += [self._capture(capture, required=passed and not capture.optional) for capture in step.captures]
        cleanup: list[str] = []
        for step in self._case.cleanup:
            taken = [self._names[name] for name in _used(step.request, self._names) if name != "unique"]
            guard = " && ".join(f'[ -n "${{{name}-}}" ]' for name in taken) or "true"
            cleanup += [f"  if {guard}; then", f"    echo {_quoted(f'== cleanup. {_title(step)}')}"]
            cleanup += [f"    {self._send(step)}"]
            cleanup += [f"    {self._capture(capture, required=False)}" for capture in step.captures]
            cleanup += ["  fi"]
        text = "\n".join([*self._head(wrong), *self._cleanup(cleanup), *lines]) + "\n"
        return text if len(text) <= LONGEST else ""

    def _head(self, wrong: str) -> list[str]:
        lines = ["#!/bin/sh"]
        if wrong:
            lines.append(f"# {comment(wrong)}")
        lines += [f"# case {comment(self._case.id)}: {comment(self._case.name)}", "# needs curl and python3"]
        lines += ["# BASE_URL: another server; CURL_OPTIONS: more options, such as -k or --cacert FILE", "set -u"]
        lines.append(f"BASE_URL=${{BASE_URL:-{_quoted(self._base_url)}}}")
        for name, hint in self._secrets.items():
            lines.append(f"{name}=${{{name}:-}}  # {hint}")
            lines.append(f'[ -n "${name}" ] || {{ echo {_quoted(f"set {name}: {hint}")} >&2; exit 2; }}')
        return [
            *lines,
            "unique=$(python3 -c 'import secrets; print(secrets.token_hex(6))')",
            "tmp=$(mktemp -d)",
            f"cat >\"$tmp/value.py\" <<'END'\n{_PYTHON}END",
            'value() { python3 "$tmp/value.py" "$1" "$2" "$3" "$tmp" 2>/dev/null; }',
            "send() {",
            '  rm -f "$tmp/head" "$tmp/body"',
            '  curl ${CURL_OPTIONS-} -sS -g --path-as-is --max-time 60 -H Expect: -D "$tmp/head" -o "$tmp/body" \\',
            '    -w \'%{http_code} %{time_total}\' "$@" >"$tmp/said"',
            "  code=$?",
            '  [ ! -f "$tmp/head" ] || cat "$tmp/head"; [ ! -f "$tmp/body" ] || cat "$tmp/body"; echo',
            '  read -r status took <"$tmp/said"; echo "$status" >"$tmp/status"',
            '  echo "== answered $status after $took s"; [ $code -eq 0 ] || echo "== curl ended with $code"',
            "}",
        ]

    def _cleanup(self, lines: list[str]) -> list[str]:
        return ["finish() {", "  trap - EXIT", *lines, '  rm -rf "$tmp"', "}", "trap finish EXIT"]

    # ------------------------------------------------------------------- one step

    def _send(self, step: Step) -> str:
        request = step.request
        words = ["--head"] if request.method == "HEAD" else [] if request.method == "GET" else ["-X", request.method]
        words = [word if TOKEN.fullmatch(word) else _quoted(word) for word in words]
        url = '"$BASE_URL"' + self._text(request.path, "url", _escaped_path)
        added = self._credentials(step)
        query_names = {name for name, _ in request.query}
        pairs = [
            (self._text(name, "url", _encoded), self._text(value, "url", _encoded)) for name, value in request.query
        ]
        pairs += [
            (_quoted(_encoded(name)), f'"$(value text url {value})"')
            for name, value in added.query
            if name not in query_names
        ]
        for number, (name, value) in enumerate(pairs):
            url += ("'&'" if number or "?" in request.path else "'?'") + f"{name}={value}"
        header_names = {name.lower() for name, _ in request.headers}
        headers = [(name, self._text(value, "text")) for name, value in request.headers if TOKEN.fullmatch(name)]
        headers += [(name, value) for name, value in added.headers if name.lower() not in header_names]
        cookie_names = {name for name, _ in request.cookies}
        cookies = [f"{_quoted(name)}={self._text(value, 'text')}" for name, value in request.cookies]
        cookies += [
            f"{_quoted(name)}={value}" if name else value for name, value in added.cookies if name not in cookie_names
        ]
        if cookies:
            headers.append(("Cookie", "'; '".join(cookies)))
        before, body, media_type = self._body(request)
        if media_type is not None and "content-type" not in header_names:
            words += ["-H", _quoted(f"Content-Type: {media_type}" if media_type else "Content-Type:")]
        for name, value in headers:
            words += ["-H", f"{_quoted(name + ': ')}{value}" if value not in ("''", "") else _quoted(f"{name};")]
        return " ".join([*before, "send", *words, *added.options, *body, url])

    def _body(self, request: Request) -> tuple[list[str], list[str], str | None]:
        """What feeds curl, its options, and the media type (None: curl's own)."""
        body = request.body
        if body is None:
            return ([], ["--data-raw", "''"], "") if request.method in _WITH_BODY else ([], [], None)
        if isinstance(body, MultipartBody):
            return self._parts(body)
        if isinstance(body, BytesBody):
            return [f"printf '%b' {_octal(body.data)} |"], ["--data-binary", "@-"], body.media_type
        if isinstance(body, JsonBody):
            text = encode(fill(body.value, self._marks())).decode("utf-8", "surrogatepass")
            text = _WHOLE_LEAF.sub(lambda mark: f"{_OPEN}{mark[1]}:json{_CLOSE}", text)
            word, media_type = self._marked(text, "inside"), body.media_type
        elif isinstance(body, TextBody):
            text, media_type = body.text, body.media_type
            if HIDDEN.search(text):
                data = _octal(text.encode("utf-8", "surrogatepass"))
                return [f"printf '%b' {data} |"], ["--data-binary", "@-"], media_type
            word = _quoted(text)
        else:
            assert isinstance(body, FormBody)
            pairs = [tuple(self._text(part, "form", _form_encoded) for part in pair) for pair in body.fields]
            word = "'&'".join("=".join(pair) for pair in pairs)
            text, media_type = word, "application/x-www-form-urlencoded"
        if len(text) > _LONG_ARGUMENT:
            return [f"printf '%s' {word} |"], ["--data-binary", "@-"], media_type
        return [], ["--data-raw", word or "''"], media_type

    def _parts(self, body: MultipartBody) -> tuple[list[str], list[str], None]:
        before, options = [], []
        for number, part in enumerate(body.parts):
            before.append(f"printf '%b' {_octal(part.data)} >\"$tmp/part{number}\";")
            more = f";type={part.media_type}" if part.media_type else ""
            name = part.name.replace("\\", "\\\\").replace('"', '\\"')
            if part.filename:
                shown = part.filename.replace("\\", "\\\\").replace('"', '\\"')
                more += f';filename="{shown}"'
            sign = "@" if part.filename else "<"
            options += ["-F", f'{_quoted(f"{name}={sign}")}"$tmp/part{number}"{_quoted(more) if more else ""}']
        return before, options, None

    def _capture(self, capture: Capture, *, required: bool) -> str:
        variable = self._variable(capture.name)
        what, keys = capture.source, capture.path
        if capture.source == "body":
            path = _keys(capture.path)
            if path is None:
                return f"{variable}=${{{variable}:-}}  # set it by hand: {comment(capture.path)}"
            keys = json.dumps(path)
        take = f"{variable}=$(value {what} text {_quoted(keys)})"
        if capture.name in self._as_json:
            take += f" && {variable}_json=$(value {what} json {_quoted(keys)})"
        report = f'echo {_quoted(f"== {comment(capture.name)} is")}" ${variable}"'
        missing = _quoted(f"== no {comment(capture.name)} in the answer")
        return f"if {take}; then {report}; else {variable}=; echo {missing}; {'exit 1; ' if required else ''}fi"

    def _variable(self, name: str) -> str:
        if name not in self._names:
            plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
            plain = f"v_{plain}" if plain[:1].isdigit() or plain in _RESERVED or plain.upper() == plain else plain
            taken = set(self._names.values())
            while plain in taken or f"{plain}_json" in taken:
                plain += "_"
            self._names[name] = plain
        return self._names[name]

    # ------------------------------------------------------------------- words of the shell

    def _marks(self) -> dict[str, str]:
        return {name: f"{_OPEN}{variable}{_CLOSE}" for name, variable in self._names.items()}

    def _text(self, text: str, form: str, write: Callable[[str], str] = str) -> str:
        """A word that holds the text with the values of captures in it, literal parts written by `write`."""
        return self._marked(fill_text(text, self._marks()), form, write)

    def _marked(self, text: str, form: str, write: Callable[[str], str] = str) -> str:
        parts = _MARK.split(text)
        words = []
        for number, part in enumerate(parts):
            if number % 2:
                variable, _, wanted = part.partition(":")
                if wanted == "json":
                    words.append(f'"${variable}_json"' if variable != "unique" else '"\\"$unique\\""')
                elif form == "text" or variable == "unique":
                    words.append(f'"${variable}"')
                else:
                    words.append(f'"$(value text {form} "${variable}")"')
            elif part:
                words.append(_quoted(write(part)))
        return "".join(words) or "''"

    # ------------------------------------------------------------------- credentials

    def _credentials(self, step: Step) -> _Credentials:
        """What the step's identity adds."""
        added = _Credentials()
        if step.identity == NO_CREDENTIALS:
            return added
        invalid = step.identity == INVALID_CREDENTIALS
        chosen = [identity for identity in self._identities if invalid or step.identity in ("", identity.name)]
        if not chosen:
            added.headers += [("Authorization", "'Bearer invalid'")] if invalid else []
            return added
        identity = chosen[0]
        suffix = "" if identity is self._identities[0] else _suffix(identity)
        for place, pairs in (
            (added.headers, identity.headers),
            (added.query, identity.query),
            (added.cookies, identity.cookies),
        ):
            place += [(name, self._secret(name, value, suffix, invalid)) for name, value in pairs]
        if identity.basic is not None:
            user = self._filled("user", identity.basic.username)
            password = "invalid" if invalid else self._secret("password", identity.basic.password, suffix, False)
            added.options += ["-u", f"{user}:{password}"]
        if (login := identity.login) is not None:
            where = comment(f"{login.method} {login.url}")
            if login.token is not None:
                value = "invalid" if invalid else f'"$TOKEN{suffix}"'
                if not invalid:
                    self._secrets[f"TOKEN{suffix}"] = f"the token that {where} gives"
                before, _, after = login.token.send_template.partition("{token}")
                word = f"{_quoted(before) if before else ''}{value}{_quoted(after) if after else ''}"
                (added.headers if login.token.send_in == "header" else added.query).append(
                    (login.token.send_name, word)
                )
            if login.expect_cookies and not invalid:
                self._secrets[f"COOKIE{suffix}"] = f"the cookies that {where} sets, as name=value"
                added.cookies.append(("", f'"$COOKIE{suffix}"'))
        return added

    def _filled(self, name: str, value: str) -> str:
        """A text whose `${NAME}` references are variables of the script."""
        words = []
        for number, part in enumerate(VARIABLE.split(value)):
            if number % 2:
                self._secrets[part] = f"as where the tests ran, for {_plain(name)}"
                words.append(f'"${part}"')
            elif part:
                words.append(_quoted(part))
        return "".join(words) or "''"

    def _secret(self, name: str, value: str, suffix: str, invalid: bool) -> str:
        """A value of an identity: references as variables, a literal one as a variable of its own."""
        scheme, space, rest = value.partition(" ")
        if name.lower() in _PUBLIC:
            return _quoted(value)
        if invalid:
            return _quoted(f"{scheme} invalid" if space else "invalid")
        if VARIABLE.search(value):
            return self._filled(name, value)
        variable = _variable(name, suffix)
        if space and rest:
            self._secrets[variable] = f"what follows {_plain(name)}: {_plain(scheme)}"
            return f'{_quoted(scheme + " ")}"${variable}"'
        self._secrets[variable] = f"the value of {_plain(name)}"
        return f'"${variable}"'


class _Credentials:
    """What an identity adds to a request: names and words of the shell; options of curl."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.query: list[tuple[str, str]] = []
        self.cookies: list[tuple[str, str]] = []
        """An empty name: the word holds whole cookies."""
        self.options: list[str] = []


def _title(step: Step) -> str:
    caller = f" as {step.identity}" if step.identity else ""
    return comment(f"{step.operation}{caller}")


def _leaves(body: JsonBody) -> set[str]:
    """Names that are a string leaf by themselves: their values keep their types."""
    names: set[str] = set()
    waiting = [body.value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str) and value[:1] == "{" and value[-1:] == "}":
            names.add(value[1:-1])
    return names


def _used(request: Request, names: Iterable[str]) -> list[str]:
    text = msgspec.json.encode(request).decode("utf-8", "replace")
    return [name for name in names if f"{{{name}}}" in text]


def _keys(path: str) -> list[str | int | None] | None:
    """Members and indexes of a path, None for `[*]`; None as a whole where a short script cannot follow it."""
    keys: list[str | int | None] = []
    for number, part in enumerate(re.split(r"\[\*\]|\.\*", path.removeprefix("$"))):
        members = places(f"${part}")
        if members is None:
            return None
        keys += ([None] if number else []) + list(members)
    return keys


def _escaped_path(text: str) -> str:
    return re.sub(r"[^\x21-\x22\x24-\x7e]+", lambda match: _encoded(match[0]), text)


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _form_encoded(text: str) -> str:
    return quote_plus(text.encode("utf-8", "surrogatepass"))


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ._-]", "?", text)[:80]


def _octal(data: bytes) -> str:
    """The bytes as the argument of `printf '%b'`."""
    out = []
    for byte in data:
        char = chr(byte)
        out.append(char if " " <= char <= "~" and char not in "'\\" else "\\n" if char == "\n" else f"\\0{byte:03o}")
    return "'" + "".join(out) + "'"


def _quoted(text: str) -> str:
    """One word of the shell; what is not to be seen, or would move the cursor, by `printf`."""
    text = text.replace("\0", "")
    if HIDDEN.search(text):
        return f"\"$(printf '%b' {_octal(text.encode('utf-8', 'surrogatepass'))})\""
    if re.fullmatch(r"[A-Za-z0-9_./:@%+=,-]+", text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"
