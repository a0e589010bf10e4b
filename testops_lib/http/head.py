"""The head of requests and answers: header lines as libcurl takes and gives them."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from testops_lib.model import Pairs

_LONGEST_KEPT_LINE = 4_096


def parse_headers(lines: list[bytes]) -> Pairs | None:
    """Names and values of the final response (1xx ones left out) in order, trailers last; None when the head has no
    end.
    """
    pairs: list[tuple[str, str]] = []
    whole = False
    for line in lines:
        parsed = _header(line)
        if type(parsed) is tuple:
            pairs.append(parsed)
        elif parsed == "end":
            whole = True
        elif parsed == "start":
            pairs.clear()
            whole = False
    return tuple(pairs) if whole else None


@lru_cache(maxsize=2048)
def _header(line: bytes) -> tuple[str, str] | Literal["start", "end", "none"]:
    """Name and value; or what else the line is to a head."""
    if len(line) > _LONGEST_KEPT_LINE:
        _header.cache_clear()  # a few odd lines must not keep megabytes alive
    if line.startswith(b"HTTP/"):
        return "start"
    if line in (b"\r\n", b"\n"):
        return "end"
    name, colon, value = line.partition(b":")
    if not colon:
        return "none"
    try:
        return name.decode(), value.strip(b" \t\r\n").decode()
    except UnicodeDecodeError:
        return name.decode("latin-1"), value.strip(b" \t\r\n").decode("latin-1")


@lru_cache(maxsize=1024)
def header_lines(headers: Pairs, has_body: bool) -> list[str | bytes]:
    """The headers as libcurl takes them; those it would add by itself are switched off."""
    lines = [f"{name}: {value}" if value.strip(" \t") else f"{name};" for name, value in headers]
    if has_body:
        present = {name.lower() for name, _ in headers}
        lines += [f"{name}:" for name in ("Expect", "Content-Type") if name.lower() not in present]
    return [line if line.isascii() else line.encode("utf-8", "replace") for line in lines]


def announces_length(lines: list[bytes]) -> bool:
    """Whether a Content-Length stands among the lines so far."""
    return any(line[:15].lower() == b"content-length:" for line in lines)
