"""The handles of one policy: how they connect, what they trust and show, and how a request is loaded into one."""

from __future__ import annotations

from typing import Any

import pycurl

from testops_lib.http.connections import KeptConnections
from testops_lib.http.guard import AddressGuard
from testops_lib.http.head import header_lines
from testops_lib.http.request import PreparedRequest
from testops_lib.http.tls import Material
from testops_lib.http.transfer import Transfer
from testops_lib.model import Policy

_MAX_IDLE_S = 1
"""A kept connection idle for longer is not used again: servers close theirs after 2 s (gunicorn) or 5 s (uvicorn,
Node), and a request that crosses with the close looks like a crash."""


class Handles:
    """Transfers that are free, and new ones where none is.

    With a `proxy` the proxy resolves names, so the address guard cannot see them: it is for operators to set, and
    nothing is taken from the environment's proxy variables.
    own: the origin, with a slash at its end, that the client certificate is shown to; "" for every one.
    """

    def __init__(
        self, policy: Policy, *, ca_file: str = "", proxy: str = "", certificates: Material | None = None, own: str = ""
    ) -> None:
        self._policy, self._ca_file, self._proxy = policy, ca_file, proxy
        self._certificates, self._own = certificates or Material(), own
        self._free: list[Transfer] = []
        self._free_certified: list[Transfer] = []
        """Those that show the client certificate: libcurl cannot be told to forget it."""
        self.connections = KeptConnections()
        self.decodes = True
        """False: the target has named a Content-Encoding that does not exist; no coding is asked for any more."""

    def take(self, prepared: PreparedRequest) -> Transfer:
        """A free transfer, or a new one, that shows the client certificate where the request may."""
        if not self._certificates.cert or prepared.anonymous or not prepared.url.startswith(self._own):
            return self._free.pop() if self._free else self._new()
        return self._free_certified.pop() if self._free_certified else self._new_certified()

    def give_back(self, transfer: Transfer) -> None:
        """The transfer is free again, after a whole answer."""
        transfer.lines.clear()
        transfer.body.clear()
        (self._free_certified if transfer.shows_certificate else self._free).append(transfer)

    def close(self) -> None:
        """Closes those that are free."""
        for transfer in (*self._free, *self._free_certified):
            transfer.easy.close()
        self._free.clear()
        self._free_certified.clear()

    def load(self, transfer: Transfer, prepared: PreparedRequest, timeout_s: float) -> None:
        """Sets the handle to the request; what it is set to already costs nothing.

        Raises:
            pycurl.error: libcurl refuses a part of the request.
        """
        setopt = transfer.easy.setopt
        if self._proxy:
            setopt(pycurl.URL, prepared.url)
        else:  # libcurl would write `%2e` as `%2E`; the request target it takes as it is
            if transfer.base and prepared.url.startswith(transfer.base):
                target = prepared.url[len(transfer.base) - 1 :]
            else:
                transfer.base, target = _split(prepared.url)
                setopt(pycurl.URL, transfer.base)
            setopt(pycurl.REQUEST_TARGET, target)
        if not self.decodes and not transfer.undecoded:
            setopt(pycurl.ACCEPT_ENCODING, None)
            transfer.undecoded = True
        if prepared.body is not None:
            setopt(pycurl.NOBODY, 0)
            setopt(pycurl.POST, 1)
            setopt(pycurl.POSTFIELDS, prepared.body)
            setopt(pycurl.CUSTOMREQUEST, prepared.method)
            transfer.bodiless_method = ""
        elif transfer.bodiless_method != prepared.method:
            if prepared.method == "HEAD":
                setopt(pycurl.NOBODY, 1)
            else:
                setopt(pycurl.HTTPGET, 1)
            setopt(pycurl.CUSTOMREQUEST, prepared.method)
            transfer.bodiless_method = prepared.method
        lines = header_lines(prepared.headers, prepared.body is not None)
        if lines is not transfer.header_lines:
            setopt(pycurl.HTTPHEADER, lines)
            transfer.header_lines = lines
        timeout_ms = max(1, int(timeout_s * 1000))
        if timeout_ms != transfer.timeout_ms:
            setopt(pycurl.TIMEOUT_MS, timeout_ms)
            transfer.timeout_ms = timeout_ms
        if transfer.fresh or not transfer.default_reuse:
            setopt(pycurl.FRESH_CONNECT, int(transfer.fresh))
            setopt(pycurl.FORBID_REUSE, int(prepared.isolated))
            transfer.default_reuse = not transfer.fresh

    def _new(self) -> Transfer:
        guard = None if self._proxy else AddressGuard(allow_private=self._policy.allow_private)
        transfer = Transfer(self.connections, guard)
        setopt = transfer.easy.setopt
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.PATH_AS_IS, 1)
        setopt(pycurl.PROXY, self._proxy)
        setopt(pycurl.NOPROXY, "")
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        setopt(pycurl.USERAGENT, "")
        setopt(pycurl.MAXAGE_CONN, _MAX_IDLE_S)
        setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        setopt(pycurl.ACCEPT_ENCODING, "" if self.decodes else None)  # "": all that it can decode
        transfer.undecoded = not self.decodes
        if not self._policy.verify_tls:
            setopt(pycurl.SSL_VERIFYPEER, 0)
            setopt(pycurl.SSL_VERIFYHOST, 0)
        elif authorities := self._certificates.ca or self._ca_file:
            _set_pem(setopt, pycurl.CAINFO, pycurl.CAINFO_BLOB, authorities)
        return transfer

    def _new_certified(self) -> Transfer:
        transfer = self._new()
        transfer.shows_certificate = True
        setopt = transfer.easy.setopt
        setopt(pycurl.KEYPASSWD, "")  # else OpenSSL would ask the terminal
        _set_pem(setopt, pycurl.SSLCERT, pycurl.SSLCERT_BLOB, self._certificates.cert)
        if self._certificates.key:
            _set_pem(setopt, pycurl.SSLKEY, pycurl.SSLKEY_BLOB, self._certificates.key)
        return transfer


def _set_pem(setopt: Any, by_path: int, by_text: int, material: str | bytes) -> None:
    setopt(by_text if isinstance(material, bytes) else by_path, material)


def _split(url: str) -> tuple[str, str]:
    """`http://host:port/` and the request target."""
    start = url.find("/", len("https://"))
    query = url.find("?", len("https://"), start) if start >= 0 else url.find("?")
    if query >= 0:
        return f"{url[:query]}/", f"/{url[query:]}"
    if start < 0:
        return f"{url}/", "/"
    return url[: start + 1], url[start:]
