"""`{name}` in the strings of a case: the one substitution, wherever a case is judged, sent or checked.

It is applied once: what was put in is never looked at again, so that an answer that holds `{token}` stays that text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

PATTERN: Final = re.compile(r"\{([^{}\s\"]{1,200})\}")
"""A placeholder; group 1 is its name."""

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A reference to a variable of the environment, in target files and identities; group 1 is its name."""


def names(text: str) -> list[str]:
    """The names that stand in braces in `text`, in order."""
    return PATTERN.findall(text) if "{" in text else []


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """A JSON value with each `{name}` of `values` replaced in its string leaves; names of members stay as they are.

    A string that is just `{name}` takes the value with its type. Names that `values` lacks stay as they are.
    """
    if isinstance(value, str):
        if "{" not in value:
            return value
        if value[:1] == "{" and value[-1:] == "}" and value[1:-1] in values:
            return values[value[1:-1]]
        return fill_text(value, values)
    if isinstance(value, dict):
        return {name: fill(item, values) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, values) for item in value]
    return value


def fill_text(text: str, values: Mapping[str, Any], write: Callable[[str], str] = str) -> str:
    """A text with each `{name}` of `values` replaced by its value as text, which `write` encodes for its place."""
    if "{" not in text:
        return text
    return PATTERN.sub(lambda match: write(as_text(values[match[1]])) if match[1] in values else match[0], text)


def as_text(value: Any) -> str:
    """A value inside a longer string: strings as they are, anything else as compact JSON."""
    return value if isinstance(value, str) else encode(value).decode("utf-8", "surrogatepass")


def encode(value: Any) -> bytes:
    """Compact JSON; lone surrogates as `\\uXXXX`, which no other encoder writes."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, msgspec.MsgspecError):
        return json.dumps(value, separators=(",", ":"), default=str).encode()
