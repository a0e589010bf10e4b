"""YAML -> target: the registry of APIs under test, reviewed in git, and authentication files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

import msgspec
import yaml

from testops_lib.errors import TargetError
from testops_lib.http.address import base_url_fault, is_url
from testops_lib.model import (
    CHECKS,
    BasicAuth,
    Count,
    Creation,
    GateRules,
    Identity,
    Invented,
    Login,
    Pairs,
    Policy,
    Status,
    Tls,
    TokenUse,
    Trace,
    Value,
)
from testops_lib.settings import SOURCES

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAX_DEPTH = 100
_CRON = re.compile(
    r"@(?:hourly|daily|midnight|weekly|monthly|quarterly|yearly|annually)"
    r"|(?:[0-9*][0-9*,/-]*\s+){2}[0-9*?L][0-9*?,/L-]*\s+[0-9A-Za-z*][0-9A-Za-z*,/-]*\s+[0-9A-Za-z*?][0-9A-Za-z*?,/#-]*"
)
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class Expected(Value, frozen=True, kw_only=True):
    """Statuses that are by design, though the document does not say so or they are server errors."""

    operation: str
    """A glob over operation keys: `GET /status/*`."""
    statuses: tuple[Status, ...]
    why: str


class Scope(Value, frozen=True, kw_only=True):
    """Which operations are tested: globs over keys (`GET /pets*`) or operation ids."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


MAX_ROUNDS = 3
"""Beyond the first."""


class PropertyBased(Value, frozen=True, kw_only=True):
    """Wishes for the source `property`."""

    examples: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """Most random cases with valid data, and as many with invalid data, of each operation."""
    seed: int = 0
    """Another seed, other cases; the same, the same."""


Money = Annotated[float, msgspec.Meta(ge=0, le=1_000_000_000)]


class Generate(Value, frozen=True, kw_only=True):
    sources: tuple[str, ...] = ("rules",)
    """Names of `SOURCES`; the cases of all are one suite."""
    imports: tuple[str, ...] = ()
    """Files (relative to the target file) for the source `import`: HAR, Postman collection, Arazzo."""
    users: Literal["separate", "shared", "unknown"] = "unknown"
    """Whether what one user makes is hidden from the others. separate: a second user who reaches it is a finding;
    unknown: reading it is advisory; shared: nobody asks."""
    max_cases_per_operation: Count = 0
    max_cases: Count = 0
    """Of the whole suite, the best first; 0: no limit."""
    rounds: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROUNDS)] = 0
    """Further rounds of a run, which know what the API answered in those before. None where a review is asked for: what
    they make runs at once."""
    property: PropertyBased = PropertyBased()
    max_tokens: Count = 0
    """Most tokens, input and output, that language models may take for one run; 0: no limit."""
    max_money: Money = 0
    """Most money for one run, in the currency of the price table; 0: no limit."""
    max_tokens_per_month: Count = 0
    """Of all runs of the target in a calendar month (UTC); 0: no limit."""
    max_money_per_month: Money = 0
    review: Literal["never", "new", "always"] = "never"
    """When a person looks at the cases before they run: never, when there are new or changed ones, in every run."""
    instruction: str = ""
    """What the team asks of the models that write cases; changes none of their rules."""
    promote_after: Count = 0
    """Checks that rest on a guess count for the gate once their case passed in this many runs in a row; 0: never by
    themselves."""


class Notify(Value, frozen=True, kw_only=True):
    webhook: str = ""
    """An address, usually `${NAME}` of the environment."""


class _Described(Value, frozen=True, kw_only=True):
    """What a target file says of a target, and a target is."""

    title: str = ""
    spec: str
    """URL or file (relative to the target file); may hold `${NAME}`."""
    base_url: str = ""
    """May hold `${NAME}`; empty: the document's first server."""
    tls: Tls = Tls()
    """Certificates: absolute paths where the runner is, or `${NAME}`."""
    policy: Policy = Policy()
    gate: GateRules = GateRules()
    schedule: str | None = None
    """Cron expression (UTC) of the nightly run; none: on demand only."""
    values: dict[str, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    """Values by parameter or field name that win over everything else; texts may hold `${NAME}`, but no secret: they
    stand in the cases."""
    expected: tuple[Expected, ...] = ()
    operations: Scope = Scope()
    generate: Generate = Generate()
    notify: Notify = Notify()
    pod: dict[str, Any] = msgspec.field(default_factory=dict)
    """What its runners' pods have that others have not: parts of a pod's manifest."""


class Target(_Described, frozen=True, kw_only=True):
    """An API under test: a spec, a base URL, credentials, a policy, a gate."""

    name: str = ""
    """The file's name without `.yaml`."""
    identities: tuple[Identity, ...] = ()


class RunConf(Value, frozen=True, kw_only=True):
    """What a run is asked to do: the DAG's params."""

    target: str = ""
    """Name of a target file; or, without it, `spec`."""
    spec: str = ""
    base_url: str = ""
    sources: tuple[str, ...] = ()
    """Where the cases come from, such as `rules` and `gemini`; empty: as the target says."""
    operations: tuple[str, ...] = ()
    """Globs over operation keys or ids; empty: as the target says."""
    tags: tuple[str, ...] = ()
    methods: str = ""
    """`safe` or `all`: may narrow the target's policy, never widen it."""
    max_cases: int = 0
    rounds: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROUNDS)] | None = None
    """Further rounds; None: as the target says."""
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of language models, for this run: may narrow what the target says, never widen it; 0: as the target says."""
    max_money: Annotated[float, msgspec.Meta(ge=0)] = 0
    review: Literal["", "never", "new", "always"] = ""
    """May ask for a review more often than the target does, never less often."""
    observe: bool = False
    """Results keep what the answers held, redacted, so that runs can be compared; further rounds need it anyway."""
    allow_private: bool = False
    """With `spec`: loopback and private addresses may be called."""


class ResolvedRun(Value, frozen=True, kw_only=True):
    """What a run does, stored when it is opened: later stages read neither the target file nor the conf again."""

    conf: RunConf = msgspec.field(name="order")
    target: Target
    """As the conf changes it. `spec` and `notify` are as written, `${NAME}` unreplaced; credentials always are."""


class _File(_Described, frozen=True, kw_only=True):
    """A target file as written."""

    auth: list[dict[str, Any]] = msgspec.field(default_factory=list)
    auth_template: dict[str, Any] = msgspec.field(name="authTemplate", default_factory=dict)


def expand(text: str, environ: Mapping[str, str] = os.environ, *, where: str = "") -> str:
    """`text` with each `${NAME}` replaced from the environment.

    Raises:
        TargetError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise TargetError(
                f"{match[0]} is not set in the environment", where=where, next_step=f"export {match[1]}=…"
            )
        return environ[match[1]]

    return _REFERENCE.sub(value, text)


def references(target: Target) -> set[str]:
    """Names of the variables that its users' credentials and its certificates need."""
    return set(_REFERENCE.findall(msgspec.json.encode((target.identities, target.tls)).decode()))


class Credentials(Value, frozen=True, kw_only=True):
    """Users of an API that no target file describes, and the only place where their credentials may go."""

    base_url: str
    identities: tuple[Identity, ...]


def with_references(users: Iterable[Identity], prefix: str) -> tuple[tuple[Identity, ...], dict[str, str]]:
    """The users with `${PREFIX_1}`, … in place of what may be secret, and these names with their values."""
    secrets: dict[str, str] = {}

    def reference(text: str) -> str:
        if not text or _REFERENCE.search(text):
            return text
        secrets[name := f"{prefix}_{len(secrets) + 1}"] = text
        return f"${{{name}}}"

    def pairs(given: Pairs) -> Pairs:
        return tuple((name, reference(value)) for name, value in given)

    def basic(given: BasicAuth | None) -> BasicAuth | None:
        return given and BasicAuth(username=given.username, password=reference(given.password))

    def login(user: Identity) -> Login | None:
        if user.login is None:
            return None
        # A payload with placeholders of a user who is made first is nobody's secret.
        payload = user.login.payload if user.create else reference(user.login.payload)
        return msgspec.structs.replace(
            user.login, payload=payload, headers=pairs(user.login.headers), basic=basic(user.login.basic)
        )

    replaced = tuple(
        msgspec.structs.replace(
            user,
            headers=pairs(user.headers),
            query=pairs(user.query),
            cookies=pairs(user.cookies),
            basic=basic(user.basic),
            login=login(user),
        )
        for user in users
    )
    return replaced, secrets


def all_references(target: Target) -> set[str]:
    """Names of all variables that are replaced in what its file says."""
    replaced = (target.spec, target.base_url, target.values, target.notify.webhook, target.identities, target.tls)
    return set(_REFERENCE.findall(msgspec.json.encode(replaced).decode()))


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > 1_000_000:
            raise TargetError("is larger than 1 MB", where=str(path), next_step="is it the right file?")
        return _parse(path.read_text("utf-8"))
    except OSError as error:
        raise TargetError(error.strerror or "cannot be read", where=str(path), next_step="check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise TargetError(
            f"is no YAML: {getattr(error, 'problem', error)}", where=place, next_step="mend it"
        ) from error


def _parse(text: str) -> Any:
    """What YAML text says, by libyaml, in a tenth of the time of PyYAML's own reader: DAG files read targets.

    It builds values by recursion in C, which ends the process when they are nested too deeply: looked at before.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"more than {_MAX_DEPTH} levels")
    return yaml.load(text, Loader=yaml.CSafeLoader)


def load(path: Path) -> Target:
    """The target that a file describes. Its credentials must be `${NAME}` references, never literals.

    Raises:
        TargetError: the file cannot be read or says what it must not; the message names the place.
    """
    raw = _read(path)
    if not _NAME.fullmatch(path.stem):
        raise TargetError(
            "is no name for a target", where=str(path), next_step="use lower-case letters, digits, - and _: shop.yaml"
        )
    if not isinstance(raw, dict):
        raise TargetError("holds no mapping", where=str(path), next_step="a target file has at least `spec:`")
    try:
        file = msgspec.convert(raw, _File, strict=False)
    except msgspec.ValidationError as error:
        raise TargetError(
            _hint(str(error)), where=str(path), next_step="see docs/targets.md for the keys and their ranges"
        ) from error
    _refuse_unusable(file, str(path))
    document = {"auth": file.auth, "authTemplate": file.auth_template}
    described = {name: getattr(file, name) for name in _Described.__struct_fields__}
    own = {
        "title": file.title or path.stem,
        "spec": _relative_to(path.parent, file.spec),
        "base_url": file.base_url.rstrip("/"),
        "generate": msgspec.structs.replace(
            file.generate, imports=tuple(str(path.parent / each) for each in file.generate.imports)
        ),
    }
    users = identities(document, where=str(path), literal_secrets=False)
    if (users or file.tls.cert) and not file.base_url:
        raise TargetError(
            "has credentials and no `base_url`",
            where=str(path),
            next_step="say where they may be sent: what the document names can change",
        )
    return Target(name=path.stem, identities=users, **{**described, **own})


def _refuse_unusable(file: _File, where: str) -> None:
    """Raises for values of the right type that no run could use, so that a typing error is not found at night."""
    base_url = file.base_url.strip()
    fault = base_url_fault(base_url) if base_url and not _REFERENCE.search(base_url) else ""
    if fault:
        raise TargetError(f"base_url {fault}", where=where, next_step="write http(s)://host[:port][/path]")
    if file.schedule is not None and not _CRON.fullmatch(file.schedule.strip()):
        raise TargetError(
            f"schedule: {file.schedule!r} is no cron expression",
            where=where,
            next_step='write five fields, such as "0 3 * * *" for every night at three (UTC), or @daily',
        )
    for check in file.gate.ignore:
        if check not in CHECKS:
            near = _nearest(check, CHECKS)
            raise TargetError(
                f"gate.ignore: there is no check {check!r}",
                where=where,
                next_step=f"did you mean {near}?" if near else f"there are: {', '.join(sorted(CHECKS))}",
            )
    for source in file.generate.sources:
        if source not in SOURCES:
            raise TargetError(
                f"generate.sources: there is no source {source!r}",
                where=where,
                next_step=f"there are: {', '.join(SOURCES)}",
            )
    for name in ("ca", "cert", "key"):
        text = getattr(file.tls, name)
        if text and not text.startswith(("/", "${")):
            raise TargetError(
                f"tls.{name} is neither an absolute path nor ${{NAME}}",
                where=where,
                next_step="the file is read where the runner is; never write a key into a target file",
            )
    if file.tls.key and not file.tls.cert:
        raise TargetError("tls has a key and no cert", where=where, next_step="give tls.cert, too")
    for host in file.policy.hosts:
        if not _HOST.fullmatch(host):
            raise TargetError(
                f"policy.hosts: {host!r} is no host", where=where, next_step="write example.com or example.com:8443"
            )


def _relative_to(directory: Path, spec: str) -> str:
    if is_url(spec) or spec.startswith(("/", "${")):
        return spec
    return str(directory / spec)


def load_all(directory: Path) -> dict[str, Target]:
    """Every `*.yaml` of the directory by name, sorted.

    Raises:
        TargetError: the directory is missing, or a file is bad (the first one, by name).
    """
    if not directory.is_dir():
        raise TargetError("is no directory", where=str(directory), next_step="set TESTOPS_TARGETS_DIR")
    return {path.stem: load(path) for path in sorted(directory.glob("*.yaml"))}


def find(directory: Path, name: str) -> Target:
    """The target called `name`.

    Raises:
        TargetError: there is no such file; the message offers the nearest name.
    """
    path = directory / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = sorted(each.stem for each in directory.glob("*.yaml"))
        near = _nearest(name, known)
        raise TargetError(
            f"there is no target {name!r}",
            where=str(directory),
            next_step=f"did you mean {near}?" if near else f"there are: {', '.join(known) or 'none'}",
        )
    return load(path)


def _hint(message: str) -> str:
    """A msgspec message, with the nearest valid key for an unknown one."""
    unknown = re.search(r"unknown field `(.+?)`", message)
    if not unknown:
        return message
    known = {
        name
        for kind in (_File, Policy, GateRules, Expected, Scope, Generate, PropertyBased, Notify, Tls, Trace)
        for name in kind.__struct_encode_fields__
    }
    near = _nearest(unknown[1], known)
    return message + (f"; did you mean `{near}`?" if near else "")


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")


# --------------------------------------------------------------------------- authentication


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
    """Where the client's id and secret go: RFC 6749, 2.3.1."""


class _User(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Web Fuzzing Commons' AuthenticationInfo, and below `create_users` what it has no words for."""

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
    """The users of a Web Fuzzing Commons authentication file, which may hold literal secrets: for use at the desk.

    Raises:
        TargetError: the file cannot be read or is not of that form.
    """
    raw = _read(path)
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
    """`entry` with what it leaves out taken from the template, level by level."""
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
    if not literal_secrets and not all(_REFERENCE.search(text) for text in secrets):
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


def _creation(wanted: _CreateUsers, where: str) -> Creation:
    url = wanted.external_endpoint_url or wanted.endpoint
    if not url:
        raise TargetError("names no endpoint", where=f"{where}: createUsers", next_step="give `endpoint: /users`")
    return Creation(
        url=url,
        method=wanted.verb,
        payload=wanted.payload_raw,
        media_type=wanted.content_type,
        invented=tuple(
            Invented(
                place_holder=each.place_holder,
                prefix=each.prefix,
                postfix=each.postfix,
                min_length=each.min_length,
                max_length=each.max_length,
            )
            for each in wanted.generators
        ),
    )


def _invented_in(payload: str, create: Creation) -> bool:
    """The payload names a user who does not exist yet: its password is nobody's secret."""
    return any(each.place_holder in payload for each in create.invented)


def _oauth2(wanted: _OAuth2, where: str) -> Login:
    """The token request of RFC 6749, 4.3 and 4.4."""
    fields: dict[str, str] = {"grant_type": wanted.grant}
    if wanted.grant == "password":
        if not wanted.username or not wanted.password:
            raise TargetError("the password grant needs `username` and `password`", where=f"{where}: oauth2")
        fields |= {"username": wanted.username, "password": wanted.password}
    if wanted.scope:
        fields["scope"] = wanted.scope
    in_header = wanted.client_in == "header" and bool(wanted.client_secret)
    if not in_header:
        fields["client_id"] = wanted.client_id
        if wanted.client_secret:
            fields["client_secret"] = wanted.client_secret
    return Login(
        url=wanted.token_url,
        payload=urlencode(fields, safe="${}"),
        media_type="application/x-www-form-urlencoded",
        basic=BasicAuth(username=wanted.client_id, password=wanted.client_secret) if in_header else None,
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
