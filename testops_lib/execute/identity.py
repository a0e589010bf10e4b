"""Who a step speaks as: credentials from the environment, logins done once, tokens and cookies put in place."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urljoin

import msgspec
from msgspec import Struct, structs

from testops_lib.errors import CaseError, TargetError
from testops_lib.execute.prepare import add_query, refuse_header
from testops_lib.http.answer import Answer
from testops_lib.http.failure import TransportFailure
from testops_lib.http.request import PreparedRequest
from testops_lib.http.url import allowed, escape_target, origin
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    BasicAuth,
    Creation,
    Identity,
    Invented,
    Login,
    Pairs,
    Plan,
    Request,
)
from testops_lib.placeholder import VARIABLE
from testops_lib.redact import sensitive

LOGIN_AGAIN_S = 30
"""A session that a 401 has put in doubt is renewed at most this often; so is a login that failed."""

_TOKEN_MARGIN_S = 10

_PUBLIC_HEADERS = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-type",
        "origin",
        "prefer",
        "referer",
        "user-agent",
        "x-requested-with",
    }
)
"""Literal values of these are no secrets; masking `application/json` wherever it stands would blot out the reports."""

Send = Callable[[PreparedRequest], Awaitable[Answer | TransportFailure]]


class Credentials(Struct, frozen=True, kw_only=True):
    """What an identity adds to a request."""

    headers: Pairs = ()
    query: Pairs = ()
    cookies: Pairs = ()
    session: int = 0
    """Number of the login they come from; 0: no login."""


class LoginError(Exception):
    """A login did not give what it should; the case that needed it is errored."""


NOTHING = Credentials()


class _Session:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.credentials: Credentials | None = None
        self.number = 0
        self.ends_at = float("inf")
        """When the token is too old to be sent."""
        self.tried_at = float("-inf")
        self.error = ""
        self.invented: dict[str, str] = {}
        """Placeholder -> text, of a user who has been created."""


class Identities:
    """The plan's identities at work. `secrets` grows with every value read from the environment or a login."""

    def __init__(self, plan: Plan, environ: Mapping[str, str], *, seed: str) -> None:
        self._plan, self._environ = plan, environ
        self._base = origin(plan.base_url)
        self._by_name = {identity.name: identity for identity in reversed(plan.identities)}
        self._default = plan.identities[0] if plan.identities else None
        self._static: dict[str, Credentials] = {}
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._fake = f"invalid-{hashlib.sha256(seed.encode()).hexdigest()[:24]}"
        self._invalid: Credentials | None = None
        self.secrets: set[str] = set()

    async def credentials(self, name: str, send: Send, *, session_of: str = "") -> Credentials:
        """What to send as `name`, logging in first where that is due.

        session_of: a key under which the session is kept apart (a case that ends its session must not end the others').

        Raises:
            TargetError: a `${NAME}` is not in the environment, or the login URL is outside the policy.
            CaseError: there is no such identity.
            LoginError: the login failed.
        """
        ready = self.ready(name, session_of=session_of)
        if ready is not None:
            return ready
        identity = self._by_name[name] if name else self._default
        assert identity is not None and identity.login is not None
        session = self._sessions.setdefault((identity.name, session_of), _Session())
        async with session.lock:
            ready = self.ready(name, session_of=session_of)
            return ready if ready is not None else await self._log_in(identity, identity.login, session, send)

    def ready(self, name: str, *, session_of: str = "") -> Credentials | None:
        """What to send as `name`; None when a login is due first. Raises what `credentials` does but for the login."""
        if name == NO_CREDENTIALS:
            return NOTHING
        if name == INVALID_CREDENTIALS:
            if self._invalid is None:
                self._invalid = self._made_invalid()
            return self._invalid
        identity = self._by_name.get(name) if name else self._default
        if identity is None:
            if name:
                raise CaseError(f"unknown identity {name!r}")
            return NOTHING
        if identity.login is None:
            static = self._static.get(identity.name)
            return static if static is not None else self._resolved(identity)
        session = self._sessions.get((identity.name, session_of))
        return session.credentials if session is not None and time.monotonic() < session.ends_at else None

    def named(self, name: str) -> str:
        """The identity that a step's `identity` means."""
        return name or (self._default.name if self._default is not None else "")

    async def renewed(
        self, name: str, used: Credentials, send: Send, *, session_of: str = "", at_once: bool = False
    ) -> Credentials | None:
        """Other credentials after a 401 answered to `used`, or None when there is nothing new to try.

        at_once: even if the login was only a moment ago.
        """
        identity = self._by_name.get(name) if name else self._default
        if not used.session or identity is None or identity.login is None:
            return None
        session = self._sessions[identity.name, session_of]
        async with session.lock:
            if session.number == used.session:
                if not at_once and time.monotonic() - session.tried_at < LOGIN_AGAIN_S:
                    return None
                try:
                    await self._log_in(identity, identity.login, session, send)
                except LoginError:
                    return None
            return session.credentials

    def _resolved(self, identity: Identity) -> Credentials:
        headers = self._pairs(identity, identity.headers)
        if identity.basic is not None:
            headers = (*headers, self._basic(identity, identity.basic))
        credentials = Credentials(
            headers=headers,
            query=self._pairs(identity, identity.query),
            cookies=self._pairs(identity, identity.cookies),
        )
        for name, value in credentials.headers:
            refuse_header(name, value)
            self._learn_header(name, value)
        for _, value in (*credentials.query, *credentials.cookies):
            self.secrets.add(value)
        self._static[identity.name] = credentials
        return credentials

    def _basic(self, identity: Identity, basic: BasicAuth, escape: Callable[[str], str] = str) -> tuple[str, str]:
        username, password = (self._filled(identity, text) for text in (basic.username, basic.password))
        self.secrets.add(password)
        username, password = escape(username), escape(password)
        return "Authorization", f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"

    def _learn_header(self, name: str, value: str) -> None:
        if name.lower() in _PUBLIC_HEADERS:
            return
        self.secrets.add(value)
        scheme, _, rest = value.partition(" ")
        if rest:
            self.secrets.add(rest.strip())
        if scheme.lower() == "basic":
            self._learn_basic(rest)
        if name.lower() == "cookie":
            self.secrets.update(pair.partition("=")[2].strip() for pair in value.split(";"))

    def _learn_payload(self, payload: str, media_type: str) -> None:
        """The literal passwords of a login; those of the environment are known already."""
        if "urlencoded" in media_type:
            self.secrets.update(value for name, value in parse_qsl(payload) if _secret_member(name))
            return
        try:
            waiting: list[Any] = [msgspec.json.decode(payload)]
        except (msgspec.DecodeError, RecursionError):
            return
        while waiting:
            member = waiting.pop()
            if isinstance(member, dict):
                for name, value in member.items():
                    if isinstance(value, str | int) and _secret_member(name):
                        self.secrets.add(str(value))
                    else:
                        waiting.append(value)
            elif isinstance(member, list):
                waiting += member

    def _learn_basic(self, encoded: str) -> None:
        try:
            user_and_password = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        self.secrets.add(user_and_password.partition(":")[2])

    def _pairs(self, identity: Identity, pairs: Pairs) -> Pairs:
        return tuple((name, self._filled(identity, value)) for name, value in pairs)

    def _filled(self, identity: Identity, text: str, escape: Callable[[str], str] = str) -> str:
        def value(match: re.Match[str]) -> str:
            text_of_variable = self._environ.get(match[1])
            if text_of_variable is None:
                raise TargetError(
                    f"environment variable {match[1]} is not set",
                    where=f"target {self._plan.target}, identity {identity.name!r}",
                    next_step=f"set {match[1]} where the tests run, or take the reference out of the identity",
                )
            self.secrets.add(text_of_variable)
            return escape(text_of_variable)

        return VARIABLE.sub(value, text)

    async def _log_in(self, identity: Identity, login: Login, session: _Session, send: Send) -> Credentials:
        if session.error and time.monotonic() - session.tried_at < LOGIN_AGAIN_S:
            raise LoginError(session.error)
        session.tried_at = time.monotonic()
        if identity.create is not None and not session.invented:
            try:
                session.invented = await self._create(identity, identity.create, send)
            except LoginError as error:
                session.error = str(error)
                raise
        answer = await send(self._login_request(identity, login, session.invented))
        try:
            credentials = self._taken(identity, login, answer, session.number + 1)
        except LoginError as error:
            if isinstance(answer, TransportFailure) and answer.kind == "stopped":
                session.tried_at = float("-inf")
            session.error = str(error)
            raise
        session.error = ""
        session.number += 1
        session.credentials = credentials
        assert isinstance(answer, Answer)
        session.ends_at = time.monotonic() + _lifetime_s(login, answer)
        return credentials

    async def _create(self, identity: Identity, create: Creation, send: Send) -> dict[str, str]:
        """Makes the user; gives the texts that were invented for it."""
        invented = {text.place_holder: _invent(text) for text in create.invented}
        as_login = Login(url=create.url, method=create.method, payload=create.payload, media_type=create.media_type)
        answer = await send(self._login_request(identity, as_login, invented))
        if isinstance(answer, TransportFailure):
            raise LoginError(f"the user could not be created: identity {identity.name}: {answer.reason}")
        if answer.status >= 400:
            raise LoginError(f"the user could not be created: identity {identity.name}: answered {answer.status}")
        return invented

    def _login_request(self, identity: Identity, login: Login, invented: Mapping[str, str]) -> PreparedRequest:
        url = escape_target(urljoin(f"{self._base}/", self._filled(identity, login.url)))
        where = f"target {self._plan.target}, identity {identity.name!r}"
        if not allowed(origin(url), self._base, self._plan.policy.hosts):
            raise TargetError(
                f"the login URL is on {origin(url)}, not on the target",
                where=where,
                next_step=f"add {origin(url).host}:{origin(url).port} to the policy's hosts",
            )
        escape: Callable[[str], str] = str
        if "json" in login.media_type.lower():
            escape = _in_json
        elif "urlencoded" in login.media_type.lower():
            escape = quote_plus
        payload = self._filled(identity, login.payload, escape)
        for place_holder, text in invented.items():
            payload = payload.replace(place_holder, escape(text))
        self._learn_payload(payload, login.media_type.lower())
        headers = [*self._pairs(identity, login.headers)]
        if login.basic is not None:
            headers.append(self._basic(identity, login.basic, quote_plus))
        for name, value in headers:
            self._learn_header(name, value)
        names = {name.lower() for name, _ in headers}
        if payload and login.media_type and "content-type" not in names:
            headers.append(("Content-Type", login.media_type))
        if "accept" not in names:
            headers.append(("Accept", "*/*"))
        try:
            for name, value in headers:
                refuse_header(name, value)
        except CaseError as error:
            raise TargetError(f"login {error}", where=where, next_step="correct the login's headers") from error
        body = payload.encode() if payload or login.method not in ("GET", "HEAD") else None
        return PreparedRequest(method=login.method, url=url, headers=tuple(headers), body=body)

    def _taken(self, identity: Identity, login: Login, answer: Answer | TransportFailure, number: int) -> Credentials:
        static = self._resolved(identity)
        if isinstance(answer, TransportFailure):
            raise LoginError(f"login failed: identity {identity.name}: {answer.reason}")
        if answer.status >= 400:
            raise LoginError(f"login failed: identity {identity.name}: answered {answer.status}")
        headers, query, cookies = static.headers, static.query, static.cookies
        if login.token is not None:
            token = _token(login, answer)
            if not token:
                raise LoginError(
                    f"login failed: identity {identity.name}: no token at {login.token.extract_from}"
                    f" {login.token.selector}"
                )
            sent = login.token.send_template.replace("{token}", token)
            self.secrets.update((token, sent))
            if login.token.send_in == "header":
                try:
                    refuse_header(login.token.send_name, sent)
                except CaseError as error:
                    raise LoginError(f"login failed: identity {identity.name}: the token is unusable") from error
                headers = (*headers, (login.token.send_name, sent))
            else:
                query = (*query, (login.token.send_name, sent))
        if login.expect_cookies:
            set_cookies = _cookies(answer)
            if not set_cookies:
                raise LoginError(f"login failed: identity {identity.name}: no cookie was set")
            self.secrets.update(value for _, value in set_cookies)
            cookies = (*cookies, *set_cookies)
        return Credentials(headers=headers, query=query, cookies=cookies, session=number)

    def _made_invalid(self) -> Credentials:
        identity, fake = self._default, self._fake
        if identity is None:
            return Credentials(headers=(("Authorization", f"Bearer {fake}"),))
        headers = [(name, self._fake_value(value)) for name, value in identity.headers]
        if identity.basic is not None:
            headers.append(("Authorization", self._fake_value("Basic ")))
        query = [(name, fake) for name, _ in identity.query]
        cookies = [(name, fake) for name, _ in identity.cookies]
        if identity.login is not None:
            token = identity.login.token
            if token is not None:
                sent = (token.send_name, token.send_template.replace("{token}", fake))
                (headers if token.send_in == "header" else query).append(sent)
            session = self._sessions.get((identity.name, ""))
            if identity.login.expect_cookies and session is not None and session.credentials is not None:
                cookies = [(name, fake) for name, _ in session.credentials.cookies]
        return Credentials(headers=tuple(headers), query=tuple(query), cookies=tuple(cookies))

    def _fake_value(self, value: str) -> str:
        literal = VARIABLE.sub(lambda m: self._environ.get(m[1], ""), value)
        scheme, space, _ = literal.partition(" ")
        if scheme.lower() == "basic":
            return f"{scheme} {base64.b64encode(f'invalid:{self._fake}'.encode()).decode()}"
        return f"{scheme} {self._fake}" if space else self._fake


def apply(prepared: PreparedRequest, credentials: Credentials, request: Request) -> PreparedRequest:
    """`prepared` with the credentials added; what the request itself names (header, query, cookie) is left as it is."""
    headers, url = prepared.headers, prepared.url
    if credentials.headers:
        named = {name.lower() for name, _ in request.headers}
        added = tuple(pair for pair in credentials.headers if pair[0].lower() not in named)
        kept = headers
        if added:
            replaced = {name.lower() for name, _ in added}
            kept = tuple(pair for pair in headers if pair[0].lower() not in replaced)
        headers = (*added, *kept)
    if credentials.cookies:
        own_names = {name for name, _ in request.cookies}
        extra = "; ".join(f"{name}={value}" for name, value in credentials.cookies if name not in own_names)
        if extra:
            refuse_header("Cookie", extra)
            index = next((i for i, (name, _) in enumerate(headers) if name == "Cookie"), -1) if request.cookies else -1
            if index < 0:
                headers = (*headers, ("Cookie", extra))
            else:
                headers = (*headers[:index], ("Cookie", f"{headers[index][1]}; {extra}"), *headers[index + 1 :])
    if credentials.query:
        named = {name for name, _ in request.query}
        url = add_query(url, (pair for pair in credentials.query if pair[0] not in named))
    if headers is prepared.headers and url is prepared.url:
        return prepared
    return structs.replace(prepared, headers=headers, url=url)


def overridden(credentials: Credentials, request: Request) -> bool:
    """The request itself names one of the credentials: what it is answered says nothing of the session."""
    if not (request.headers or request.query or request.cookies):
        return False
    headers = {name.lower() for name, _ in request.headers}
    query = {name for name, _ in request.query}
    cookies = {name for name, _ in request.cookies}
    return (
        any(name.lower() in headers for name, _ in credentials.headers)
        or any(name in query for name, _ in credentials.query)
        or any(name in cookies for name, _ in credentials.cookies)
    )


def _secret_member(name: str) -> bool:
    return sensitive(name) or name.lower() in ("pass", "passcode", "pw")


def _in_json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _token(login: Login, answer: Answer) -> str:
    assert login.token is not None
    if login.token.extract_from == "header":
        wanted = login.token.selector.lower()
        return next((value for name, value in answer.headers if name.lower() == wanted), "")
    if login.token.extract_from == "cookie":
        return dict(_cookies(answer)).get(login.token.selector, "")
    return _pointed(answer, login.token.selector)


def _invent(wanted: Invented) -> str:
    """A text that nobody has used: runners start beside each other."""
    around = len(wanted.prefix) + len(wanted.postfix)
    room = max(wanted.max_length - around, 4) if wanted.max_length else 12
    length = max(min(room, 12), wanted.min_length - around)
    return wanted.prefix + secrets.token_hex((length + 1) // 2)[:length] + wanted.postfix


def _lifetime_s(login: Login, answer: Answer) -> float:
    """How long the token may be sent: a little less than it lives, so that none ends on its way."""
    said = _pointed(answer, login.token.lifetime) if login.token is not None and login.token.lifetime else ""
    if not said.isascii() or not said.isdigit() or len(said) > 12:
        return float("inf")
    return max(int(said) - _TOKEN_MARGIN_S, int(said) / 2)


def _pointed(answer: Answer, pointer: str) -> str:
    """The text or number that a JSON Pointer finds in the body, as text; "" when there is none."""
    try:
        value: Any = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    for key in pointer.removeprefix("/").split("/") if pointer not in ("", "/") else ():
        key = key.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return ""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _cookies(answer: Answer) -> Pairs:
    cookies: dict[str, str] = {}
    for name, value in answer.headers:
        if name.lower() == "set-cookie":
            key, equals, text = value.partition(";")[0].partition("=")
            if equals and key.strip():
                cookies[key.strip()] = text.strip()
    return tuple(cookies.items())
