from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.http.address import refusal

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "2002:a9fe:a9fe::",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "255.255.255.255",
    "0.1.2.3",
    "::ffff:0.0.0.0",
]
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "198.18.0.1",
    "240.0.0.1",
    "192.0.2.1",
    "2001:db8::1",
    "fec0::1",
    "::127.0.0.1",
]
PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_no_host_addresses_are_refused_always(address: str) -> None:
    assert "never allowed" in refusal(address, allow_private=True)
    assert "never allowed" in refusal(address, allow_private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_permission(address: str) -> None:
    assert refusal(address, allow_private=True) == ""
    assert address in refusal(address, allow_private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert refusal(address, allow_private=False) == refusal(address, allow_private=True) == ""


@pytest.mark.parametrize("text", ["localhost", "", "1.2.3", "0x7f.1", "127.1", "[::1]"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "is not an IP address" in refusal(text, allow_private=True)


@given(st.ip_addresses())
def test_permission_never_takes_away(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if refusal(str(address), allow_private=True):
        assert refusal(str(address), allow_private=False)


@given(st.ip_addresses(v=4), st.booleans())
def test_ipv4_inside_ipv6_is_judged_as_ipv4(address: ipaddress.IPv4Address, allow: bool) -> None:
    plain = refusal(str(address), allow_private=allow)
    for wrapped in (f"::ffff:{address}", str(ipaddress.IPv6Address(0x64FF9B << 96 | int(address)))):
        assert bool(refusal(wrapped, allow_private=allow)) == bool(plain)
