"""Text from outside, made safe to show: nothing in it acts on a terminal, a page or a CI server."""

from __future__ import annotations

import re

# As texts: `re` compiles them at the first use and keeps them. The ranges take milliseconds, and errors, which every
# parse of a DAG file imports, stand on this module.
_HIDDEN = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
"""Controls (terminal escape sequences begin with one), direction changes, invisible characters, lone surrogates."""

_ILLEGAL_XML = "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""What XML 1.0 (section 2.2) has no way to write."""

_CI_COMMAND = r"(?m)^([^\S\n]*):(?=:)|#(?=#(?:\[|vso\[|teamcity\[))"
"""What GitHub (`::error::`, `##[error]`), Azure (`##vso[`) and TeamCity (`##teamcity[`) obey in a log."""


def visible(text: str) -> str:
    """Text in which nothing acts: controls and invisible characters are written as `\\x1b` or `\\u202e`.

    Line feeds and tabs stay, carriage returns before line feeds go.
    """
    return re.sub(_HIDDEN, _escaped, text.replace("\r\n", "\n"))


def printable(text: str) -> str:
    """Visible text for a terminal or a log, in which no line gives a CI server an order (`\\x3a:error::`)."""
    return re.sub(_CI_COMMAND, _command_escaped, visible(text))


def one_line(text: str, limit: int = 200) -> str:
    """Printable text on one line of at most `limit` characters."""
    line = " ".join(printable(text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def xml_text(text: str) -> str:
    """Visible text without the characters that XML cannot hold."""
    return re.sub(_ILLEGAL_XML, "", visible(text))


def _command_escaped(match: re.Match[str]) -> str:
    return "\\x23" if match[1] is None else f"{match[1]}\\x3a"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65_536 else f"\\U{code:08x}"


def plural(number: int, noun: str) -> str:
    """`1 case`, `1,000 cases`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
