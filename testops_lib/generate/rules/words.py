"""Names as words: what `dagRunId`, `dag_run_id` and `/dag-runs/{id}` have in common."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

IDENTIFYING: Final = frozenset(
    {"id", "key", "name", "slug", "uuid", "guid", "code", "number", "no", "ref", "identifier", "pk", "sku", "handle"}
)
"""Last words by which a thing is named: `{pool_name}`, `{order_id}`."""

REFERRING: Final = frozenset({"id", "ids", "uuid", "uuids", "guid", "guids"})
"""Last words of a field that points at another thing: `product_id`, `categoryIds`."""

NOT_STORING: Final = frozenset(
    "login signin authenticate token tokens oauth auth search query session sessions find lookup validate".split()
)
"""Words of operations that take data without keeping it under the names it holds."""

_ACTIONS: Final = frozenset({"create", "add", "new", "register", "signup", "insert", "save", "list", "all", "search"})
_SINGULAR_S: Final = frozenset(
    "alias atlas canvas bias gas lens bus status bonus campus virus census corpus news series".split()
)

_QUOTED: Final = re.compile(r"""(['"`])([A-Za-z0-9_.:+-]{1,40})\1""")
_VERSION: Final = re.compile(r"v\d+(\.\d+)*(alpha\d*|beta\d*)?$")
_SPLIT: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@lru_cache(maxsize=8192)
def words(name: str) -> tuple[str, ...]:
    """The lower-case words of a name: `dagRunID` -> dag, run, id."""
    return tuple(word.lower() for word in _SPLIT.findall(name))


@lru_cache(maxsize=8192)
def offered(description: str) -> tuple[str, ...]:
    """The words that a text quotes, when it quotes several: `one of 'asc' and 'desc'`. What is allowed, in prose."""
    found = tuple(dict.fromkeys(word for _, word in _QUOTED.findall(description[:2000])))
    return found if len(found) > 1 else ()


@lru_cache(maxsize=8192)
def plain(name: str) -> str:
    """The words run together: equal for `dagRunId` and `dag_run_id`."""
    return "".join(words(name))


@lru_cache(maxsize=8192)
def singular(word: str) -> str:
    """A good guess at the singular of an English plural."""
    if word in _SINGULAR_S:
        return word
    if word.endswith("es") and word[:-2] in _SINGULAR_S:
        return word[:-2]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def noun(name: str) -> str:
    """The thing a segment or property speaks of: `dagRuns` -> dagrun, `categories` -> category."""
    found = words(name)
    return "".join((*found[:-1], singular(found[-1]))) if found else ""


def segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def is_static(segment: str) -> bool:
    return "{" not in segment


def collection_noun(path: str) -> str:
    """The thing that `/api/v1/orders`, `/orders/{id}` and `/orders/create` are about; "" when nothing tells."""
    for segment in reversed(segments(path)):
        if is_static(segment) and segment.lower() not in _ACTIONS and not _VERSION.match(segment.lower()):
            return noun(segment)
    return ""


def base_collection(path: str) -> str:
    """`/orders/create` and `/users/v1/register` without the trailing action and version segments."""
    parts = segments(path)
    while len(parts) > 1 and (parts[-1].lower() in _ACTIONS or _VERSION.match(parts[-1].lower())):
        parts.pop()
    return "/" + "/".join(parts)
