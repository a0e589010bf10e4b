"""The body of one answer, decoded once for all the checks that look at it."""

from __future__ import annotations

from typing import Any

from testops_lib.http.body import NOTHING, Unreadable, decode, why_unreadable

_UNREAD = object()


class Body:
    """A body that is decoded when a check first asks for it."""

    __slots__ = ("_data", "_document", "_unreadable")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._document: Any = _UNREAD
        self._unreadable: Unreadable | None = None

    def document(self) -> Any:
        """The JSON value, or `NOTHING` when the body cannot be read."""
        if self._document is _UNREAD:
            self._document = decode(self._data)
        return self._document

    @property
    def unreadable(self) -> Unreadable:
        """Why there is no document."""
        if self._unreadable is None:
            self._unreadable = why_unreadable(self._data)
        return self._unreadable

    def disputed(self) -> bool:
        """Whether the body is JSON by its grammar though we cannot read it: other readers may well."""
        return self.document() is NOTHING and self.unreadable.is_json
