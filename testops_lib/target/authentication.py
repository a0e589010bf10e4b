"""Web Fuzzing Commons authentication documents -> users of the API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

import msgspec

from testops_lib.errors import TargetError
from testops_lib.model import BasicAuth, Creation, Identity, Invented, Login, Pairs, TokenUse
from testops_lib.target.document import read_yaml
from testops_lib.target.references import has_reference


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    value: str


class _Token(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    extract_from: str
    extract_selector: str
    send_in: str
    send_name: str
    send_template: str = "{token}"


class _UserPassword(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    username: str
    password: str
    username_field: str
    password_field: str


class _LoginEndpoint(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    endpoint: str = ""
    external_endpoint_url: str = msgspec.field(default="", name="externalEndpointURL")
    payload_raw: str = ""
    payload_user_pwd: _UserPassword | None = None
    headers: list[_Header] = msgspec.field(default_factory=list)
    verb: str = "POST"
    content_type: str = ""
    token: _Token | None = None
    expect_cookies: bool = False


class _Generator(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    place_holder: Annotated[str, msgspec.Meta(min_length=1)]
    min_length: Annotated[int, msgspec.Meta(ge=0, le=200)] = 0
    max_length: Annotated[int, msgspec.Meta(ge=0, le=200)] = 0
    prefix: str = ""
    postfix: str = ""


class _CreateUsers(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    payload_raw: str
    generators: list[_Generator]
    endpoint: str = ""
    external_endpoint_url: str = msgspec.field(default="", name="externalEndpointURL")
    verb: str = "POST"
    content_type: str = "application/json"


class _ApiKey(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    name: str
    value: str
    where: Literal["header", "query", "cookie"] = msgspec.field(default="header", name="in")


class _Basic(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    username: str
    password: str


class _OAuth2(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    token_url: str
    client_id: str
    client_secret: str = ""
    grant: Literal["client_credentials", "password"] = "client_credentials"
    username: str = ""
    password: str = ""
    scope: str = ""
    client_in: Literal["header", "body"] = "header"
    """Where the client's id and secret are sent: RFC 6749, 2.3.1."""


class _User(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """AuthenticationInfo of Web Fuzzing Commons; the fields below `create_users` are our additions."""

    name: str
    require_mock_handling: bool = False
    fixed_headers: list[_Header] = msgspec.field(default_factory=list)
    login_endpoint_auth: _LoginEndpoint | None = None
    create_users: _CreateUsers | None = None
    api_key: _ApiKey | None = None
    basic: _Basic | None = None
    spare: bool = False
    bearer: str = ""
    oauth2: _OAuth2 | None = None


def load_auth(path: Path) -> tuple[Identity, ...]:
    """The users of a Web Fuzzing Commons authentication file, which may hold literal secrets: for local runs.

    Raises:
        TargetError: the file cannot be read or is not of that form.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict) or "auth" not in raw:
        raise TargetError(
            "has no `auth` list", where=str(path), next_step="see the Web Fuzzing Commons authentication schema"
        )
    return identities(raw, where=str(path), literal_secrets=True)


def identities(document: Mapping[str, Any], *, where: str, literal_secrets: bool) -> tuple[Identity, ...]:
    """The users of a Web Fuzzing Commons authentication document (`auth`, `authTemplate`), in order.

    Raises:
        TargetError: an entry is not of that form, two share a name, or holds a literal secret that is not allowed.
    """
    template = document.get("authTemplate") or {}
    users: list[Identity] = []
    for position, entry in enumerate(document.get("auth") or ()):
        place = f"{where}: auth[{position}]"
        try:
            user = msgspec.convert(_merged(template, entry), _User)
        except msgspec.ValidationError as error:
            raise TargetError(str(error), where=place, next_step="see docs/targets.md, Credentials") from error
        users.append(_identity(user, place, literal_secrets))
    names = [user.name for user in users]
    if len(set(names)) < len(names) or set(names) & {"", "none", "invalid"}:
        raise TargetError(
            "names must be unique and not `none` or `invalid`", where=f"{where}: auth", next_step="rename"
        )
    return tuple(users)


def _merged(template: Any, entry: Any) -> Any:
    """`entry`, completed from the template level by level."""
    if isinstance(template, dict) and isinstance(entry, dict):
        merged = {key: _merged(template.get(key), value) for key, value in entry.items()}
        return {**template, **merged}
    return entry


def _identity(user: _User, where: str, literal_secrets: bool) -> Identity:
    headers: Pairs = tuple((header.name, header.value) for header in user.fixed_headers)
    login = _login(user.login_endpoint_auth, where) if user.login_endpoint_auth else None
    secrets = [value for _, value in headers] + [value for _, value in (login.headers if login else ())]
    create = _creation(user.create_users, where) if user.create_users else None
    if create and login is None:
        raise TargetError("creates a user who never logs in", where=where, next_step="add `loginEndpointAuth`")
    invented = login is not None and create is not None and _invented_in(login.payload, create)
    if login and login.payload and not invented:
        secrets.append(login.payload)
    if user.oauth2:
        if login:
            raise TargetError("has two logins", where=where, next_step="keep one of `loginEndpointAuth` and `oauth2`")
        login = _oauth2(user.oauth2, where)
        secrets += filter(None, (user.oauth2.client_secret, user.oauth2.password))
    if user.bearer:
        headers = (*headers, ("Authorization", f"Bearer {user.bearer}"))
        secrets.append(user.bearer)
    basic = BasicAuth(username=user.basic.username, password=user.basic.password) if user.basic else None
    if user.basic:
        secrets.append(user.basic.password)
    places: dict[str, Pairs] = {"header": headers}
    if user.api_key:
        key = user.api_key
        places[key.where] = (*places.get(key.where, ()), (key.name, key.value))
        secrets.append(key.value)
    if not literal_secrets and not all(has_reference(text) for text in secrets):
        raise TargetError(
            "holds a literal credential",
            where=where,
            next_step="write ${NAME} and put the secret into the environment variable NAME",
        )
    return Identity(
        name=user.name,
        headers=places["header"],
        query=places.get("query", ()),
        cookies=places.get("cookie", ()),
        basic=basic,
        login=login,
        create=create,
        spare=user.spare,
    )


def _creation(users: _CreateUsers, where: str) -> Creation:
    url = users.external_endpoint_url or users.endpoint
    if not url:
        raise TargetError("names no endpoint", where=f"{where}: createUsers", next_step="give `endpoint: /users`")
    return Creation(
        url=url,
        method=users.verb,
        payload=users.payload_raw,
        media_type=users.content_type,
        invented=tuple(
            Invented(
                place_holder=generator.place_holder,
                prefix=generator.prefix,
                postfix=generator.postfix,
                min_length=generator.min_length,
                max_length=generator.max_length,
            )
            for generator in users.generators
        ),
    )


def _invented_in(payload: str, create: Creation) -> bool:
    """Whether the payload is of a user who does not exist yet, so that its password is no secret."""
    return any(value.place_holder in payload for value in create.invented)


def _oauth2(grant: _OAuth2, where: str) -> Login:
    """The token request of RFC 6749, 4.3 and 4.4."""
    fields: dict[str, str] = {"grant_type": grant.grant}
    if grant.grant == "password":
        if not grant.username or not grant.password:
            raise TargetError("the password grant needs `username` and `password`", where=f"{where}: oauth2")
        fields |= {"username": grant.username, "password": grant.password}
    if grant.scope:
        fields["scope"] = grant.scope
    in_header = grant.client_in == "header" and bool(grant.client_secret)
    if not in_header:
        fields["client_id"] = grant.client_id
        if grant.client_secret:
            fields["client_secret"] = grant.client_secret
    return Login(
        url=grant.token_url,
        payload=urlencode(fields, safe="${}"),
        media_type="application/x-www-form-urlencoded",
        basic=BasicAuth(username=grant.client_id, password=grant.client_secret) if in_header else None,
        token=TokenUse(
            extract_from="body",
            selector="/access_token",
            send_in="header",
            send_name="Authorization",
            send_template="Bearer {token}",
            lifetime="/expires_in",
        ),
    )


def _login(endpoint: _LoginEndpoint, where: str) -> Login:
    url = endpoint.external_endpoint_url or endpoint.endpoint
    if not url or (endpoint.external_endpoint_url and urlsplit(url).scheme not in ("http", "https")):
        raise TargetError("the login has no usable endpoint", where=where, next_step="give `endpoint: /login`")
    payload, media = endpoint.payload_raw, endpoint.content_type or "application/json"
    if endpoint.payload_user_pwd:
        pair = endpoint.payload_user_pwd
        fields = {pair.username_field: pair.username, pair.password_field: pair.password}
        payload = urlencode(fields, safe="${}") if "form" in media else msgspec.json.encode(fields).decode()
    token = endpoint.token
    if token is None and not endpoint.expect_cookies:
        raise TargetError("the login says neither `token` nor `expectCookies`", where=where, next_step="add one")
    try:
        use = token and msgspec.convert(
            {
                "extract_from": token.extract_from,
                "selector": token.extract_selector,
                "send_in": token.send_in,
                "send_name": token.send_name,
                "send_template": token.send_template,
            },
            TokenUse,
        )
    except msgspec.ValidationError as error:
        raise TargetError(str(error), where=f"{where}: token", next_step="see docs/targets.md, Credentials") from error
    return Login(
        url=url,
        method=endpoint.verb,
        payload=payload,
        media_type=media,
        headers=tuple((header.name, header.value) for header in endpoint.headers),
        token=use or None,
        expect_cookies=endpoint.expect_cookies,
    )
