"""Values inside JSON documents: selected by RFC 9535 queries, compared by JSON's own rules."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jsonpath_rfc9535 as jsonpath
from jsonpath_rfc9535.segments import JSONPathChildSegment
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

from testops_lib.errors import CaseError


def select(path: str, document: Any) -> list[Any]:
    """The values that an RFC 9535 query selects, in document order.

    Raises:
        CaseError: the query is not well-formed.
    """
    if (steps := _singular(path)) is not None:
        for step in steps:
            if isinstance(step, str):
                if not isinstance(document, dict) or step not in document:
                    return []
            elif not isinstance(document, list) or not -len(document) <= step < len(document):
                return []
            document = document[step]
        return [document]
    try:
        return [node.value for node in _query(path).find(document)]
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise CaseError(f"the JSONPath could not be applied: {error}", where=repr(path)) from error


def equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: numbers by value, but true is not 1, and object members in any order."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


@lru_cache(maxsize=4096)
def _query(path: str) -> jsonpath.JSONPathQuery:
    try:
        return jsonpath.compile(path)
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise CaseError(
            f"not a JSONPath (RFC 9535): {error}", where=repr(path), next_step="a query looks like $.items[0].id"
        ) from error


@lru_cache(maxsize=4096)
def _singular(path: str) -> tuple[str | int, ...] | None:
    """The names and indexes of a singular query (RFC 9535, section 2.3.5.1); None when it may select several nodes.

    Most queries are singular, and following them by hand is many times faster than evaluating them.
    """
    query = _query(path)
    steps: list[str | int] = []
    for segment in query.segments:
        if not isinstance(segment, JSONPathChildSegment) or len(segment.selectors) != 1:
            return None
        match segment.selectors[0]:
            case NameSelector(name=name):
                steps.append(name)
            case IndexSelector(index=index):
                steps.append(index)
            case _:
                return None
    return tuple(steps)
