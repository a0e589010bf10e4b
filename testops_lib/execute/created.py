"""The resources that a case has made: which ids are its own, and what it would leave behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from testops_lib.errors import CaseError
from testops_lib.http.answer import Answer
from testops_lib.http.request import PreparedRequest
from testops_lib.http.url import escape_target
from testops_lib.model import Contract, Left, Maker, Ownership, Removal, Request, Step
from testops_lib.verdict.json_values import select

NO_DELETE: Final = "no DELETE documented"
_UNKNOWN_ID: Final = "its id is not known"
_IDS: Final = ("id", "_id", "uuid")
_ENVELOPES: Final = ("data", "result", "item", "resource", "metadata")
_GONE: Final = frozenset({404, 410})
_UNSAFE_MAKING: Final = frozenset({"POST", "PUT", "PATCH"})
_RANDOM: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=.*\d)[\w-]{20,}", re.ASCII)


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    """What a path must match as a whole, a group for each parameter; the last one may take several segments."""
    parts = [escape_target(part) for part in re.split(r"\{[^{}]*\}", template.partition("?")[0])]
    groups = ["([^/]+)"] * (len(parts) - 1)
    if groups and not parts[-1]:
        groups[-1] = "(.+)"
    return re.compile("".join(re.escape(part) + group for part, group in zip(parts, [*groups, ""], strict=True)))


@lru_cache(maxsize=4096)
def names(template: str) -> tuple[str, ...]:
    """The parameters of a path template, in order."""
    return tuple(re.findall(r"\{([^{}]*)\}", template))


def values(template: str, path: str) -> dict[str, str] | None:
    """Parameter -> what stands in its place in a path as sent, decoded; None: the path does not match."""
    if path == template and "{" not in template:
        return {}
    match = _pattern(template).fullmatch(path)
    if match is None:
        return None
    return {
        name: unquote(value) if "%" in value else value
        for name, value in zip(names(template), match.groups(), strict=True)
    }


def path_of(url: str, base_url: str) -> str:
    """The path below the base URL, as sent."""
    return url[len(base_url) :].partition("?")[0]


@dataclass(kw_only=True)
class CreatedResource:
    """A resource that a request of the case made."""

    operation: str
    identity: str
    path: str
    """Its path, decoded; "" when unknown."""
    removal: Removal | None
    request: Request | None = None
    """Deletes it."""
    gone: bool = False
    why: str = ""


class CreatedResources:
    """The resources that one case has made so far.

    selectors: operation -> where the ids of what it makes stand.
    """

    __slots__ = ("_base_url", "_contracts", "_ids", "_loose", "_paths", "_resources", "_selectors")

    def __init__(
        self, contracts: Mapping[str, Contract], selectors: Mapping[str, frozenset[Maker]], base_url: str
    ) -> None:
        self._contracts, self._selectors, self._base_url = contracts, selectors, base_url
        self._ids: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        self._paths: set[str] = set()
        self._loose: set[str] = set()
        self._resources: list[CreatedResource] = []

    def note(self, step: Step, prepared: PreparedRequest, answer: Answer) -> None:
        """Notes what an answered request made or deleted."""
        if prepared.method != "DELETE" and prepared.method not in _UNSAFE_MAKING:
            return
        template = step.operation.partition(" ")[2]
        path = path_of(prepared.url, self._base_url)
        decoded = unquote(path).rstrip("/")
        if prepared.method == "DELETE" and (200 <= answer.status < 300 or answer.status in _GONE):
            for resource in self._resources:
                resource.gone = resource.gone or (resource.path != "" and f"{resource.path}/".startswith(f"{decoded}/"))
        if prepared.method == "DELETE" or not 200 <= answer.status < 300:
            return
        contract = self._contracts.get(step.operation)
        ownership = contract.ownership if contract is not None else None
        if ownership is None:
            self._loose |= _scalars(_json(answer.body))
        sent = values(template, path)
        if sent is None or not step.operation.startswith(f"{prepared.method} "):
            return
        exchange_ids = _ExchangeIds(sent, prepared, answer)
        for maker in self._selectors.get(step.operation, ()):
            if identifier := exchange_ids.at(maker):
                self._ids.setdefault((maker.operation, maker.source, maker.path), []).append((identifier, decoded))
        located = self._located(answer) if answer.status == 201 else ""
        if located:
            self._paths.add(located)
        if prepared.method == "PUT" and answer.status == 201:
            self._paths.add(decoded)
        if _makes(prepared.method, answer.status, ownership):
            removal = ownership.removal if ownership is not None else None
            if prepared.method == "PUT":
                located = decoded
            self._resources.append(self._resource(step, exchange_ids, removal, located))

    def _located(self, answer: Answer) -> str:
        """The decoded path below the base URL that a header Location names (RFC 9110, 10.2.2), or ""."""
        location = next((value for name, value in answer.headers if name.lower() == "location"), "")
        base = urlsplit(self._base_url).path
        path = urlsplit(location).path if location else ""
        return unquote(path[len(base) :]).rstrip("/") if path.startswith(f"{base}/") else ""

    def _resource(
        self, step: Step, exchange_ids: _ExchangeIds, removal: Removal | None, located: str
    ) -> CreatedResource:
        identity = step.identity if step.identity not in ("none", "invalid") else ""
        resource = CreatedResource(operation=step.operation, identity=identity, path=located, removal=removal)
        if removal is None:
            resource.why = NO_DELETE
            return resource
        identifier = exchange_ids.at(removal.maker)
        template = removal.operation.partition(" ")[2]
        wanted = names(template)
        if not identifier or len(wanted) > len(exchange_ids.sent) + 1:
            resource.why = _UNKNOWN_ID
            return resource
        ids = [*list(exchange_ids.sent.values())[: len(wanted) - 1], identifier]
        filled = template
        plain = template
        for name, value in zip(wanted, ids, strict=True):
            filled = filled.replace("{" + name + "}", quote(value, safe=""))
            plain = plain.replace("{" + name + "}", value)
        resource.path = plain.rstrip("/")
        if removal.maker.source == "answer":
            self._paths.add(resource.path)
        resource.request = Request(method="DELETE", path=filled)
        return resource

    def owns(self, ownership: Ownership | None, place: str, value: str, prefix: str = "") -> str:
        """Whether the case made the resource whose id stands at a place of a request: `below` the very path before it,
        `elsewhere`, or "" (it did not).
        """
        if ownership is None:
            return "below" if value in self._loose else ""
        if f"{prefix}/{value}" in self._paths:
            return "below"
        whose = ""
        for maker in ownership.things.get(place, ()):
            for identifier, path in self._ids.get((maker.operation, maker.source, maker.path), ()):
                if identifier != value:
                    continue
                if maker.below and _nested(path, prefix):
                    return "below"
                if not maker.below and (maker.certain or _RANDOM.fullmatch(value)):
                    whose = "elsewhere"
        return whose

    def left(self) -> list[CreatedResource]:
        """What is still there, the latest first."""
        if not self._resources:
            return []
        return [resource for resource in reversed(self._resources) if not resource.gone]

    def report(self) -> tuple[Left, ...]:
        """What is left behind, by operation and reason."""
        if not self._resources:
            return ()
        counts: dict[tuple[str, str], int] = {}
        for resource in self.left():
            key = resource.operation, resource.why
            counts[key] = counts.get(key, 0) + 1
        return tuple(Left(operation=key, why=why, count=count) for (key, why), count in sorted(counts.items()))


def _nested(path: str, other: str) -> bool:
    """Either path lies below the other, or is it: `/users/register` and `/users`, `/users` and `/users/v1`."""
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


def _makes(method: str, status: int, ownership: Ownership | None) -> bool:
    """201 says so; other successes only where the document shows what becomes of it."""
    if status == 201:
        return True
    return method == "POST" and ownership is not None and (ownership.makes or ownership.removal is not None)


class _ExchangeIds:
    """Finds ids in one exchange; the bodies are decoded once, when first asked for."""

    def __init__(self, sent: dict[str, str], prepared: PreparedRequest, answer: Answer) -> None:
        self.sent, self._wire, self._answer = sent, prepared, answer
        self._documents: dict[str, Any] = {}

    def _document(self, which: str) -> Any:
        if which not in self._documents:
            self._documents[which] = _json(self._answer.body if which == "body" else self._wire.body or b"")
        return self._documents[which]

    def at(self, maker: Maker) -> str:
        """The id as text, or ""."""
        value: Any = None
        match maker.source:
            case "path":
                value = self.sent.get(maker.path)
            case "header":
                wanted = maker.path.lower()
                value = next((text for name, text in self._answer.headers if name.lower() == wanted), None)
            case "request":
                document = self._document("request")
                value = document.get(maker.path) if isinstance(document, dict) else None
            case "answer":
                return self._named(maker.path) if self._answer.status == 201 else ""
            case _:
                try:
                    value = next(iter(select(maker.path, self._document("body"))), None)
                except CaseError:
                    return ""
        return _as_id(value)

    def _named(self, parameter: str) -> str:
        """The id of the resource that an answer describes, at its root or in its envelope."""
        document = self._document("body")
        for _ in range(2):
            members = document if isinstance(document, dict) else {}
            identifier = next((_as_id(members[name]) for name in (parameter, *_IDS) if _as_id(members.get(name))), "")
            if identifier:
                return identifier
            document = next((members[name] for name in _ENVELOPES if isinstance(members.get(name), dict)), None)
        return ""


def _as_id(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _scalars(document: Any) -> set[str]:
    """The ids and texts at the root of a document, and one level below."""
    members = document.values() if isinstance(document, dict) else ()
    inner = [item for member in members if isinstance(member, dict) for item in member.values()]
    return {text for member in (*members, *inner) if (text := _as_id(member))}
