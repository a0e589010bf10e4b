"""Content type, headers and body of an answer against what the document says of its status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

from testops_lib.http.answer import Answer, header_values, media_type
from testops_lib.http.body import NOTHING
from testops_lib.model import (
    Basis,
    Check,
    ContentTypeConformance,
    ResponseContract,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
)
from testops_lib.verdict.body import Body
from testops_lib.verdict.documented import Documented, fits, is_json
from testops_lib.verdict.mismatch import LONGEST_QUOTE, Mismatch

CONFORMANCE: tuple[type[Check], ...] = (
    ContentTypeConformance,
    ResponseSchemaConformance,
    ResponseHeadersConformance,
)

COMPONENT = "component "
"""How the cause begins when a body breaks a schema that operations share."""

_MOST_SCHEMA_ERRORS = 8
"""Schema errors reported of one body."""

_NAMING_RULES = ("required", "additionalProperties", "unevaluatedProperties")

_NO_BODY_STATUSES = (204, 205, 304)


def contract_mismatches(
    checks: Mapping[type[Check], Check],
    answer: Answer,
    documented: Documented,
    response: ResponseContract,
    body: Body,
    *,
    head: bool,
    readable: bool,
) -> list[tuple[Check, Mismatch, Basis | None]]:
    """How content type, headers and body break the contract, in this order; with a basis where it is not the check's.

    Args:
        head: the answer is to a HEAD request.
        readable: the body is whole and decoded.
    """
    mismatches: list[tuple[Check, Mismatch, Basis | None]] = []
    type_check, body_check, header_check = map(checks.get, CONFORMANCE)
    if head or answer.status in _NO_BODY_STATUSES or not answer.body:
        type_check = body_check = None
    media = media_type(answer.headers) if type_check or body_check else ""
    content = response.content
    if type_check and content and media not in content and not _fits_any(content, media, strict=True):
        alike = _fits_any(content, media)
        if not alike:
            body_check = None
        expected, observed = ", ".join(content), media or "missing"
        mismatch = Mismatch(f"content type {observed}, documented: {expected}", f"{observed} for {expected}")
        mismatches.append((type_check, mismatch, "guess" if alike else None))
    if header_check and response.headers:
        mismatches += [(header_check, mismatch, None) for mismatch in _headers(documented, response, answer)]
    if body_check and readable:
        basis: Basis | None = None
        try:
            broken = list(_body(documented, response, media, answer.status, body))
            if broken and body.disputed():
                basis = "guess"
        except ValueError:  # the validator follows 255 levels
            broken = [Mismatch("the body is JSON of more levels than validators take", f"{answer.status} levels")]
            basis = "guess"
        mismatches += [(body_check, mismatch, basis) for mismatch in broken]
    return mismatches


def _fits_any(content: Iterable[str], media: str, *, strict: bool = False) -> bool:
    return any(fits(documented_type, media, strict=strict) for documented_type in content)


def _headers(documented: Documented, response: ResponseContract, answer: Answer) -> Iterable[Mismatch]:
    for name, contract in response.headers.items():
        lower = name.lower()
        values = header_values(answer.headers, lower)
        if not values:
            if contract.required:
                yield Mismatch(f"response header {name} is missing", f"{answer.status} {lower} missing")
            continue
        validator = documented.validator("header", name, contract.schema)
        if validator and not any(map(validator.is_valid, _header_readings(values))):
            yield Mismatch(
                f"response header {name}: {', '.join(values)[:LONGEST_QUOTE]!r} does not fit its schema",
                f"{answer.status} {lower} schema",
            )


def _header_readings(values: list[str]) -> Iterable[Any]:
    """The readings of a header's text that its schema may mean: as a number, a boolean, a list, or as it stands."""
    text = ", ".join(values)
    yield text
    try:
        number = float(text)
        yield int(text) if text.lstrip("+-").isdigit() else number
    except (ValueError, OverflowError):
        pass
    if text.lower() in ("true", "false"):
        yield text.lower() == "true"
    yield [part.strip() for part in text.split(",")]


def _body(
    documented: Documented, response: ResponseContract, media: str, status: int, body: Body
) -> Iterable[Mismatch]:
    content = response.content
    documented_type = media
    if media not in content or len(content) > 1:
        documented_type = next((name for name in content if fits(name, media)), "")
    if not documented_type or not is_json(media):
        return ()
    document = body.document()
    if document is NOTHING:
        return [Mismatch(body.unreadable.message, f"{status} {body.unreadable.cause}")]
    validator = documented.validator("body", documented_type, content[documented_type].schema)
    if validator is None or validator.is_valid(document):
        return ()
    return _schema_errors(validator, document, status)


def _schema_errors(validator: jsonschema_rs.Draft202012Validator, document: Any, status: int) -> Iterable[Mismatch]:
    """One mismatch for each cause: items of a list that break one rule alike are one."""
    causes = set()
    for error in validator.iter_errors(document):
        place = "/" + "/".join("*" if isinstance(part, int) else part for part in error.instance_path)
        rule = str(error.schema_path[-1]) if error.schema_path else "false"
        component = (
            "/".join(str(part) for part in error.schema_path[1:-1]) if error.schema_path[:1] == ["$defs"] else ""
        )
        message = error.message[:LONGEST_QUOTE]
        cause = f"{COMPONENT}{component} {rule}" if component else f"{status} {place} {rule}"
        # These messages name members, which the place does not; that of a schema `false` quotes the value instead.
        if rule in _NAMING_RULES and error.kind.name != "falseSchema":
            cause += " " + message
        if cause not in causes:
            causes.add(cause)
            yield Mismatch(f"body at {place}: {message}", cause)
        if len(causes) >= _MOST_SCHEMA_ERRORS:
            return
