"""Recorded calls, in order -> proposed cases: each call with exactly the earlier calls that it needs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from testops_lib.redact import PLACEHOLDER as REDACTED
from testops_lib.redact import Redactor, holds_secret
from testops_lib.spec.operation import Operation, Spec

MAX_CALLS = 5_000
MAX_STEPS = 11
"""Of a case; one less than the validator allows, so that a cleanup fits."""

INVENTED_SECRET = "Aa1!{unique}"
"""Stands in a case where a recording held a secret."""

SECRETS_LEFT_OUT = "{} recorded secrets were left out or replaced: a request that needs one is refused"

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a file holds."""

    form: str
    """har, postman, arazzo."""
    proposals: tuple[dict[str, Any], ...]
    """Raw, for `Validator.check`; not judged yet."""
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Call:
    """One recorded request; `{name}` replaces a value that an earlier call captured."""

    name: str
    operation: Operation
    path: dict[str, str]
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    cookies: list[tuple[str, str]] = field(default_factory=list)
    media_type: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    """`body_json`, `body_text` or `form`, as a proposed step has it."""
    expect: list[dict[str, Any]] = field(default_factory=list)
    captures: dict[str, str] = field(default_factory=dict)
    """Name -> RFC 9535 query."""
    succeeded: bool = True

    def names(self) -> set[str]:
        """Names of captures that the call needs from earlier ones."""
        texts = [*self.path.values(), *(value for _, value in (*self.query, *self.headers, *self.cookies))]
        return {name for text in (*texts, *leaves(self.body)) for name in PLACEHOLDER.findall(text)}


class Router:
    """Finds the operation that a URL calls."""

    def __init__(self, spec: Spec, base_url: str = "") -> None:
        self.by_id = {operation.operation_id: operation for operation in spec.operations if operation.operation_id}
        self.by_key = {operation.key: operation for operation in spec.operations}
        self.credentials = frozenset(
            (scheme.where, scheme.name.lower()) for scheme in spec.security_schemes.values() if scheme.name
        )
        """Place and name (lower case) of what the document's security schemes send."""
        bases = (base_url, *spec.servers)
        self._bases = sorted({urlsplit(base).path.rstrip("/") for base in bases} | {""}, key=len, reverse=True)
        self._routes = [
            (operation, re.compile("".join(_pattern(part) for part in re.split(r"(\{[^{}]+\})", operation.path))))
            for operation in sorted(spec.operations, key=lambda route: (route.path.count("{"), -len(route.path)))
        ]

    def route(self, method: str, url: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation and its path parameters, decoded; None: the document has none for it."""
        path = urlsplit(url).path or "/"
        for base in self._bases:
            if not path.startswith(f"{base}/"):
                continue
            for operation, pattern in self._routes:
                found = pattern.fullmatch(path[len(base) :]) if operation.method == method.upper() else None
                if found:
                    names = re.findall(r"\{([^{}]+)\}", operation.path)
                    return operation, dict(zip(names, map(unquote, found.groups()), strict=True))
        return None


def _pattern(part: str) -> str:
    return "([^/]+)" if part.startswith("{") and part.endswith("}") else re.escape(part)


def leaves(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys left out."""
    waiting = [value]
    for node in waiting:
        if isinstance(node, dict):
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node
        elif isinstance(node, str):
            yield node


def documented(operation: Operation, where: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those pairs that are parameters of the operation and hold no credential, by their name or their value's shape."""
    names = {
        parameter.name.lower() if where == "header" else parameter.name
        for parameter in operation.parameters
        if parameter.where == where
    }
    redactor = Redactor()
    return [
        (name, value)
        for name, value in pairs
        if redactor.pairs(((name, value),)) == ((name, value),)
        and ((name.lower() if where == "header" else name) in names or name.split("[", 1)[0] in names)
    ]


def without_secrets(call: Call, credentials: Collection[tuple[str, str]]) -> int:
    """Removes recorded credentials from a call and returns their number.

    Parameters that a security scheme names go. Secret members of a body get invented values: then the recorded
    outcome is not expected any more, because a login with another password fails.
    """
    count = 0
    for where, pairs in (("query", call.query), ("header", call.headers), ("cookie", call.cookies)):
        kept = [(name, value) for name, value in pairs if (where, name.lower()) not in credentials]
        count += len(pairs) - len(kept)
        pairs[:] = kept
    in_body = 0
    text = call.body.get("body_json")
    if isinstance(text, str):
        try:
            text = json.loads(text)
        except (ValueError, RecursionError):
            call.body, text = {"body_text": Redactor().text(text)}, None
    if text is not None:
        value, in_body = _invented(text)
        call.body = {"body_json": value}
    elif "body_text" in call.body:
        shown = Redactor().text(call.body["body_text"])
        in_body = shown.count(REDACTED) - call.body["body_text"].count(REDACTED)
        call.body = {"body_text": shown}
    elif "form" in call.body:
        fields = [_invented({field["name"]: field["value"]}) for field in call.body["form"]]
        in_body = sum(number for _, number in fields)
        call.body = {"form": [{"name": name, "value": value} for pair, _ in fields for name, value in pair.items()]}
    if in_body:
        call.expect, call.succeeded = [], False
    return count + in_body


def _invented(value: Any) -> tuple[Any, int]:
    """The JSON value with an invented one for each secret text or number, and how many these were."""
    if isinstance(value, list):
        items = [_invented(item) for item in value]
        return [item for item, _ in items], sum(number for _, number in items)
    if isinstance(value, dict):
        members, count = {}, 0
        for name, member in value.items():
            scalar = isinstance(member, str | int) and not isinstance(member, bool) and member != ""
            if scalar and holds_secret(str(name), str(member)) and not PLACEHOLDER.fullmatch(str(member)):
                members[name], count = INVENTED_SECRET, count + 1
            else:
                members[name], inner = _invented(member)
                count += inner
        return members, count
    if isinstance(value, str) and (shown := Redactor().text(value)) != value:
        return shown, 1
    return value, 0


def body_of(media_type: str, text: str, form: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The body as a proposed step has it; credentials in a form are the validator's to refuse."""
    if form:
        return {"form": [{"name": name, "value": value} for name, value in form]}
    if not text:
        return {}
    plain = media_type.split(";", 1)[0].strip().lower()
    if plain == "application/json" or plain.endswith("+json"):
        return {"body_json": text}
    return {"body_text": text}


def proposals(calls: Sequence[Call]) -> Iterator[dict[str, Any]]:
    """A case for each call: before it those that capture what it needs, then those that delete what these created."""
    producers: dict[str, int] = {}
    for index, call in enumerate(calls):
        needed = _needed(call, calls, producers)
        if needed is not None and len(needed) < MAX_STEPS:
            yield _proposal(call, [calls[number] for number in needed], _removals(calls, index, needed))
        producers.update(dict.fromkeys(call.captures, index))


def _needed(call: Call, calls: Sequence[Call], producers: Mapping[str, int]) -> list[int] | None:
    """Indexes of the calls that must come before, ascending; None: no call captures a name."""
    indexes: set[int] = set()
    waiting = [call]
    for waiting_call in waiting:
        for name in waiting_call.names() - {"unique"}:
            if name not in producers:
                return None
            if producers[name] not in indexes:
                indexes.add(producers[name])
                waiting.append(calls[producers[name]])
    return sorted(indexes)


def _removals(calls: Sequence[Call], index: int, needed: Sequence[int]) -> list[Call]:
    """Later DELETE calls of what the needed calls and the call itself created, the newest first."""
    made = [
        name
        for number in (*needed, index)
        if calls[number].operation.method == "POST"
        for name in calls[number].captures
    ]
    removals = [
        call
        for call in calls[index + 1 : index + 200]
        if call.operation.method == "DELETE" and call.names() and call.names() <= set(made)
    ]
    unique = {call.operation.key: call for call in removals}
    return list(reversed(unique.values()))[:1]


def _proposal(call: Call, before: Sequence[Call], after: Sequence[Call]) -> dict[str, Any]:
    return {
        "name": call.name[:200],
        "intent": "positive" if call.succeeded else "boundary",
        "operation": call.operation.key,
        "steps": [*(_step(earlier) for earlier in before), _step(call)],
        "cleanup": [_step(later, bare=True) for later in after],
    }


def _step(call: Call, *, bare: bool = False) -> dict[str, Any]:
    step: dict[str, Any] = {
        "operation": call.operation.key,
        "path_params": call.path,
        "query": [{"name": name, "value": value} for name, value in call.query],
        "headers": [{"name": name, "value": value} for name, value in call.headers],
        "cookies": [{"name": name, "value": value} for name, value in call.cookies],
        **call.body,
    }
    if call.media_type and call.body:
        step["media_type"] = call.media_type
    if not bare:
        step["expect"] = call.expect
        step["captures"] = [{"name": name, "source": "body", "path": path} for name, path in call.captures.items()]
    return step
