"""What names a place on the network, and which addresses may be called: decided on resolved ones, never on a name."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)


def is_url(source: str) -> bool:
    """Whether a document is named by an http(s) URL; everything else names a file."""
    return source[:8].lower().startswith(("http://", "https://"))


def base_url_fault(url: str) -> str:
    """Why `url` cannot be a base URL, in words that follow "it", or "" when it can. Never quotes the URL: what is
    refused may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if "@" in parts.netloc:
        return "holds a user or a password"
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == 0:
        return "is no http(s) URL with a host"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "has a query or a fragment"
    if any(character <= " " for character in url):
        return "holds a space or a control character"
    return ""


def refusal(address: str, *, allow_private: bool) -> str:
    """Why `address` (an IP literal) must not be called, or "" when it may be.

    Link-local (the clouds' metadata services), multicast, broadcast and unspecified addresses are refused always;
    loopback, private, shared and other non-global ranges unless `allow_private`. IPv4 inside IPv6 (mapped,
    compatible, 6to4, Teredo, NAT64) is judged as IPv4.
    """
    try:
        ip: _Address = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return f"{address!r} is not an IP address"
    if isinstance(ip, ipaddress.IPv6Address):
        ip = _inner(ip) or ip
    if ip.is_link_local or ip in _METADATA:
        return f"{address} is a link-local or metadata address: never allowed"
    if ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255" or ip in _THIS_NETWORK:
        return f"{address} is no host address: never allowed"
    inside = not ip.is_global or (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local)
    if inside and not allow_private:
        return f"{address} is a loopback or private address and the target's policy does not allow those"
    return ""


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to `ip` end up at, if it is such a one."""
    embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if embedded is None and (any(ip in network for network in _NAT64) or (ip in _COMPATIBLE and int(ip) > 0xFFFF)):
        embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return embedded
