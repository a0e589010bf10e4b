"""Limits on the size of documents and on the time that reading them takes."""

from __future__ import annotations

import time

from testops_lib.errors import SpecError
from testops_lib.spec.operation import SpecValue


class Limits(SpecValue, frozen=True, kw_only=True):
    """Limits for reading a document; exceeding one raises `SpecError`.

    The defaults keep any document, hostile ones too, under 20 s of processor time and 500 MB of memory on one
    ordinary core, and leave room for the largest public ones (GitHub: 11 MB, 1,100 operations).
    """

    max_bytes: int = 40_000_000
    """Size of one document, after decompression."""
    max_total_bytes: int = 50_000_000
    """Size of all documents together: the first and those it refers to."""
    max_documents: int = 100
    """Number of documents read."""
    max_values: int = 1_500_000
    """Objects, arrays and members of all documents together; YAML aliases count as what they stand for."""
    max_schemas: int = 500_000
    """Schemas and subschemas of all definitions and operations; what is used at several places counts once."""
    max_parts: int = 500_000
    """Parameters and responses of all operations, references followed."""
    max_resolved_bytes: int = 200_000_000
    """All operations as JSON, references followed but for those of schemas."""
    max_depth: int = 150
    """Nesting of objects and arrays."""
    max_operations: int = 20_000
    max_expansion: int = 20_000
    """Subschemas that one value meets at one place when `$ref`, `allOf`, `anyOf`, … are followed. A schema above it
    would keep a validator busy for ever; it is taken as `true`, with a warning."""
    max_warnings: int = 100
    """Warnings kept; one more tells how many were left out."""
    fetch_seconds: float = 10
    """For one request, connecting and reading together; also for reading a pipe."""
    seconds: float = 18
    """For everything."""
    max_redirects: int = 5


class Deadline:
    """When loading gives up, and how much it has read so far."""

    def __init__(self, seconds: float, where: str) -> None:
        self._seconds, self._where = seconds, where
        self._end = time.monotonic() + seconds
        self.values = 0
        """Values of all documents parsed so far."""

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Returns while there is time.

        Raises:
            SpecError: the time is over.
        """
        if time.monotonic() > self._end:
            raise SpecError(
                f"the document could not be read within {self._seconds:g} s",
                where=self._where,
                next_step="make the document smaller, or raise the limit `seconds`",
            )


class Notes:
    """Warnings in the order met: each once, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most, self._left_out = most, 0
        self._seen: dict[str, None] = {}

    def add(self, place: str, what: str) -> None:
        text = f"{place}: {what}"
        if text in self._seen:
            return
        if len(self._seen) >= self._most:
            self._left_out += 1
        else:
            self._seen[text] = None

    def all(self) -> tuple[str, ...]:
        more = (f"{self._left_out} more warnings are left out",) if self._left_out else ()
        return (*self._seen, *more)
