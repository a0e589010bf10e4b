"""Which network addresses may be called: decided on the resolved address, never on a name."""

from __future__ import annotations

import ipaddress

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def refusal(address: str, *, allow_private: bool) -> str:
    """Why `address` (an IP literal) must not be called, or "" when it may be.

    Link-local (the clouds' metadata services), multicast and unspecified addresses are refused always; loopback,
    private, shared and other non-global ranges unless `allow_private`. IPv4 inside IPv6 is judged as IPv4.
    """
    try:
        ip: _Address = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return f"{address!r} is not an IP address"
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        nat64 = ipaddress.ip_network("64:ff9b::/96")
        if inner is None and ip in nat64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    if ip.is_link_local or str(ip) in {"fd00:ec2::254", "100.100.100.200", "192.0.0.192"}:
        return f"{address} is a link-local or metadata address: never allowed"
    if ip.is_multicast or ip.is_unspecified:
        return f"{address} is no host address: never allowed"
    if not allow_private and not ip.is_global:
        return f"{address} is a loopback or private address and the target's policy does not allow those"
    return ""
