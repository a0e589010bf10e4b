"""What TLS connections trust and show: files or texts named by a target or options, read when used, never stored."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from testops_lib.errors import TargetError
from testops_lib.model import Tls
from testops_lib.placeholder import VARIABLE

_PEM: Final = "-----BEGIN "


class Material(Struct, frozen=True, kw_only=True):
    """Paths, or the PEM texts themselves as bytes; "" where there is none."""

    ca: str | bytes = ""
    cert: str | bytes = ""
    key: str | bytes = ""

    def without_client(self) -> Material:
        """What is trusted alone: for servers other than the API's."""
        return Material(ca=self.ca)

    def __repr__(self) -> str:
        """Without the values: they may be secrets."""
        return "Material(…)"


def read(tls: Tls, environ: Mapping[str, str], *, where: str) -> Material:
    """What the plan names, `${NAME}` replaced; a certificate without a key has it in the same file.

    Raises:
        TargetError: a variable is not set, a file cannot be read, or certificate and key are unusable.
    """
    ca, cert, key = (_value(text, name, environ, where) for name, text in _parts(tls))
    if key and not cert:
        raise TargetError("has a key and no certificate", where=f"{where}: tls", next_step="give `cert` too")
    key = key or cert
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca:
            context.load_verify_locations(
                cafile=ca if isinstance(ca, str) else None, cadata=ca.decode() if isinstance(ca, bytes) else None
            )
        if isinstance(cert, str) and isinstance(key, str) and cert:
            context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise TargetError(
            f"the certificates cannot be used: {reason}",
            where=f"{where}: tls",
            next_step="give PEM files that belong together, the key without a password",
        ) from error
    return Material(ca=ca, cert=cert, key=key)


def _parts(tls: Tls) -> tuple[tuple[str, str], ...]:
    return ("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)


def _value(text: str, name: str, environ: Mapping[str, str], where: str) -> str | bytes:
    def replaced(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise TargetError(
                f"{match[0]} is not set in the environment",
                where=f"{where}: tls.{name}",
                next_step=f"set {match[1]} where the tests run: a path, or the PEM text itself",
            )
        return environ[match[1]]

    value = VARIABLE.sub(replaced, text)
    if _PEM in value:
        return value.encode()
    if value and not Path(value).is_file():
        raise TargetError(
            "is no file", where=f"{where}: tls.{name}", next_step="give a path that exists where the tests run"
        )
    return value


def ca_file(environ: Mapping[str, str]) -> str:
    """The certificate bundle to trust: `SSL_CERT_FILE`, else the system's, else certifi's, else libcurl's own ("")."""
    named = environ.get("SSL_CERT_FILE", "")
    if named:
        return named
    system = ssl.get_default_verify_paths().cafile
    if system:
        return system
    try:
        import certifi
    except ImportError:
        return ""
    return certifi.where()
