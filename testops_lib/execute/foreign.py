"""Resources that the run did not make are protected: the last check before a request goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from testops_lib.execute.created import CreatedResources, names, path_of, values
from testops_lib.http.request import PreparedRequest
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    SAFE_METHODS,
    Case,
    Contract,
    Identity,
    Maker,
    Ownership,
    Plan,
    Step,
)
from testops_lib.unused_ids import is_unused

WITHHELD: Final = "withheld"
"""Begins the reason of a case whose request was not sent."""

_NOTHING: Final = Ownership()


class ForeignGuard:
    """Says of each request whether the target's policy lets it go out."""

    def __init__(self, plan: Plan, contracts: Mapping[str, Contract], base_url: str) -> None:
        self._foreign, self._values_of_target = plan.policy.foreign, plan.given
        self._identities: dict[str, Identity] = {identity.name: identity for identity in reversed(plan.identities)}
        if plan.identities:
            self._identities[""] = plan.identities[0]
        self._contracts, self._base_url = contracts, base_url
        makers_of: dict[str, set[Maker]] = {}
        for contract in contracts.values():
            for makers in contract.ownership.things.values() if contract.ownership is not None else ():
                for maker in makers:
                    makers_of.setdefault(maker.operation, set()).add(maker)
        self._selectors = {key: frozenset(makers) for key, makers in makers_of.items()}

    def created(self) -> CreatedResources:
        """An empty record of what a case makes."""
        return CreatedResources(self._contracts, self._selectors, self._base_url)

    def refusal(self, case: Case, step: Step, prepared: PreparedRequest, created: CreatedResources, token: str) -> str:
        """Why the request must not be sent; "" when it may be."""
        contract = self._contracts.get(step.operation)
        ownership = contract.ownership if contract is not None else None
        if ownership is not None and ownership.account and self._loses(case, step, ownership):
            return f"{WITHHELD}: {step.operation} would change who asks, and that user may not be lost"
        binds = self._foreign == "never" or (self._foreign == "read" and prepared.method not in SAFE_METHODS)
        if not binds or self._concerns_own(step, prepared, ownership, created, token):
            return ""
        return f"{WITHHELD}: {step.operation} names what this case did not make (policy.foreign: {self._foreign})"

    def _loses(self, case: Case, step: Step, ownership: Ownership) -> bool:
        if step.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS):
            return False
        identity = self._identities.get(step.identity)
        if identity is None:
            return ownership.account == "account"
        if not case.last:
            return True
        lost = identity.create is not None or identity.spare
        return not lost and (ownership.account == "account" or identity.login is None)

    def _concerns_own(
        self, step: Step, prepared: PreparedRequest, ownership: Ownership | None, created: CreatedResources, token: str
    ) -> bool:
        method, template = prepared.method, step.operation.partition(" ")[2]
        path = path_of(prepared.url, self._base_url)
        sent = values(template, path)
        if sent is None:
            return method in SAFE_METHODS  # another path than the operation's: nothing tells whose it is
        rules = ownership if ownership is not None else _NOTHING
        whole_collection = rules.collection and method in ("DELETE", "PUT", "PATCH")
        if whole_collection and not step.operation.startswith(f"{method} "):
            return False  # no document offers it, so nothing tells what it would do
        ids = [name for name in names(template) if ownership is None or f"path/{name}" in rules.things]
        if ids:
            return self._below_own(ids, sent, template, method, ownership, created, token)
        if rules.things:
            return self._named_own(rules, prepared, created, token)
        return not whole_collection

    def _below_own(
        self,
        ids: list[str],
        sent: Mapping[str, str],
        template: str,
        method: str,
        ownership: Ownership | None,
        created: CreatedResources,
        token: str,
    ) -> bool:
        """The nearest ids decide: what lies below a resource of the case is the case's own."""
        for name in reversed(ids):
            last = name == ids[-1]
            whose = created.owns(ownership, f"path/{name}", sent[name], _filled(template, name, sent))
            if whose == "below":
                return True
            if whose == "elsewhere":
                continue
            if is_unused(sent[name], token):
                if last and method == "PUT":
                    continue  # what PUT makes, it makes below the ids before
                return True
            collection = ownership is not None and ownership.collection
            if sent[name] in self._values_of_target.get(name, ()) and (not last or (method == "POST" and collection)):
                return True
            return False
        return True

    def _named_own(
        self, ownership: Ownership, prepared: PreparedRequest, created: CreatedResources, token: str
    ) -> bool:
        """Ids in query and body."""
        sent = [(place, value) for place in ownership.things for value in _values_at(place, prepared)]
        if not sent:
            return prepared.method != "DELETE"
        return all(created.owns(ownership, place, value) or is_unused(value, token) for place, value in sent)


def _filled(template: str, until: str, sent: Mapping[str, str]) -> str:
    """The path before a parameter, with what was sent, decoded."""
    before = template[: template.index("{" + until + "}")].rstrip("/")
    for name, value in sent.items():
        before = before.replace("{" + name + "}", value)
    return before


def _values_at(place: str, prepared: PreparedRequest) -> Iterable[str]:
    where, _, name = place.partition("/")
    if where == "query":
        return [value for key, value in parse_qsl(urlsplit(prepared.url).query, keep_blank_values=True) if key == name]
    member: Any = None
    try:
        document = msgspec.json.decode(prepared.body or b"null")
        member = document.get(name) if isinstance(document, dict) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = (prepared.body or b"").decode("utf-8", "replace")
        return [value for key, value in parse_qsl(text) if key == name]
    items = member if isinstance(member, list) else [member]
    return [str(item) for item in items if isinstance(item, str | int) and not isinstance(item, bool)]
