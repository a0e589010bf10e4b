"""The address guard: every socket that libcurl opens, redirects and all addresses of a name included, is asked here."""

from __future__ import annotations

import os
import socket
from typing import Any

import pycurl

from testops_lib.http.address import refusal


class AddressGuard:
    """Opens sockets to the addresses that the policy allows. `refused`: why the latest one was not opened."""

    __slots__ = ("_allow_private", "refused")

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self.refused = ""

    def open(self, purpose: int, address: Any) -> Any:
        """Libcurl's `OPENSOCKETFUNCTION`."""
        if address.family not in (socket.AF_INET, socket.AF_INET6):
            self.refused = "not an internet address"
            return pycurl.SOCKET_BAD
        self.refused = refusal(address.addr[0], allow_private=self._allow_private)
        if self.refused:
            return pycurl.SOCKET_BAD
        try:
            return _Descriptor(socket.socket(address.family, address.socktype, address.protocol).detach())
        except OSError:
            return pycurl.SOCKET_BAD


class _Descriptor:
    """What pycurl wants of a new socket: it duplicates `fileno()` and lets go of this."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)
