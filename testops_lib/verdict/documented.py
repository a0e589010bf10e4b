"""What the document promises of one status of an operation, with its schemas compiled once."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from testops_lib.model import Contract, ResponseContract

_Validator = jsonschema_rs.Draft202012Validator


class Documented:
    """What a contract says of one status of an operation."""

    __slots__ = ("_validators", "accepted", "contract", "listed", "response")

    def __init__(self, contract: Contract | None, status: int) -> None:
        self.contract = contract
        self.response = response_for(contract, status) if contract else None
        self.listed = contract is not None and bool({str(status), f"{status // 100}XX"} & contract.responses.keys())
        """The document lists the status itself, or its range; `default` does not list it."""
        self.accepted = contract is not None and status in contract.accepted_statuses
        self._validators: dict[tuple[str, str], _Validator | None] = {}
        """By `body` and documented media type, or `header` and name."""

    def validator(self, part: str, name: str, schema: Any) -> _Validator | None:
        """The compiled schema of a part; None when anything is valid there."""
        key = part, name
        if key not in self._validators:
            try:
                self._validators[key] = None if schema is None or schema is True else compile_schema(schema)
            except ValueError:
                self._validators[key] = None
        return self._validators[key]


def response_for(contract: Contract, status: int) -> ResponseContract | None:
    """The documented response of a status: exact, then its range (`4XX`), then `default`."""
    responses = contract.responses
    return responses.get(str(status)) or responses.get(f"{status // 100}XX") or responses.get("default")


def compile_schema(schema: Any) -> _Validator:
    """A validator that asserts formats and fetches nothing.

    Raises:
        ValueError: the schema cannot be compiled (jsonschema_rs.ValidationError is one).
    """
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, retriever=_refuse)


def is_json(media: str) -> bool:
    """`application/json`, `text/json` and every `+json` type."""
    return media in ("application/json", "text/json") or media.endswith("+json")


def fits(documented: str, actual: str, *, strict: bool = False) -> bool:
    """Whether a media type is one that a documented type or range (`*/*`, `text/*`) means.

    A JSON type with a name of its own (`application/problem+json`) can be read as the documented `application/json`;
    with `strict` it is another type all the same.
    """
    if documented == actual:
        return True
    documented = documented.split(";", 1)[0].strip().lower()
    if documented in (actual, "*/*", "*"):
        return True
    head, _, tail = documented.partition("/")
    if tail == "*":
        return actual.partition("/")[0] == head
    return not strict and documented == "application/json" and actual.endswith("+json")


def _refuse(uri: str) -> Any:
    raise ValueError(f"a contract refers to {uri}, outside itself")
