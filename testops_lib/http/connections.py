"""What is known of the connections that libcurl keeps for further requests."""

from __future__ import annotations

import select

_MOST = 1_024
_SILENT_CLOSES = 3
"""Kept connections that the server had closed before it is known to close without saying so; from then on what may go
out only once gets a connection of its own."""


class KeptConnections:
    """HTTP/1.1 connections that may be used again, by local port; some may be long closed."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}
        self.spoiled: set[int] = set()
        """Those whose last answer was a server error."""
        self._silent_closes = 0

    def note(self, port: int, descriptor: int, status: int) -> None:
        """The connection has carried a whole answer."""
        if len(self._descriptors) > _MOST:
            self._descriptors.clear()
        self._descriptors[port] = descriptor
        if status >= 500:
            self.spoiled.add(port)
        elif self.spoiled:
            self.spoiled.discard(port)

    def note_silent_close(self) -> None:
        """The server had closed a kept connection without a word."""
        self._silent_closes += 1

    @property
    def server_closes_silently(self) -> bool:
        return self._silent_closes >= _SILENT_CLOSES

    def has_ended(self, port: int) -> bool:
        """Whether the server has closed an idle connection, or spoken into it: there is something to read."""
        descriptor = self._descriptors.get(port)
        if descriptor is None:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))
