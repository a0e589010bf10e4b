"""Names in texts that stand for what an earlier step captured: `{id}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def uncaptured_names(text: str, captured: frozenset[str]) -> Iterator[str]:
    """Names in the text that no earlier step captures."""
    return (name for name in PLACEHOLDER.findall(text) if name != "unique" and name not in captured)


def uncaptured_names_in(value: Any, captured: frozenset[str]) -> Iterator[str]:
    """As `uncaptured_names`, for all texts of a JSON value."""
    return (name for text in _strings(value) for name in uncaptured_names(text, captured))


def has_captured(text: str, captured: frozenset[str]) -> bool:
    """Whether the text holds a captured value."""
    return any(name in captured for name in PLACEHOLDER.findall(text))


def has_captured_in(value: Any, captured: frozenset[str]) -> bool:
    """As `has_captured`, for all texts of a JSON value."""
    return any(has_captured(text, captured) for text in _strings(value))


def _strings(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            pending += [*node.keys(), *node.values()]
        elif isinstance(node, list):
            pending += node
