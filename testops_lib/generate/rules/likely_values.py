"""What a name or a format is likely to mean: values that most servers accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BY_FORMAT: Final[Mapping[str, tuple[str, ...]]] = {
    "date": ("2024-05-17", "2025-06-18"),
    "date-time": ("2024-05-17T12:30:00Z", "2025-06-18T13:45:00Z"),
    "time": ("12:30:00Z", "13:45:00Z"),
    "duration": ("P1D", "PT1H"),
    "email": ("test@example.com", "other@example.com"),
    "idn-email": ("test@example.com", "other@example.com"),
    "hostname": ("example.com", "example.org"),
    "idn-hostname": ("example.com", "example.org"),
    "ipv4": ("192.0.2.1", "192.0.2.2"),
    "ip": ("192.0.2.1", "192.0.2.2"),
    "ipv6": ("2001:db8::1", "2001:db8::2"),
    "uri": ("https://example.com/a", "https://example.com/b"),
    "iri": ("https://example.com/a", "https://example.com/b"),
    "url": ("https://example.com/a", "https://example.com/b"),
    "uri-reference": ("/a", "/b"),
    "uri-template": ("/a/{b}", "/b"),
    "uuid": ("b5b6d8f0-3c1e-4a6b-9c55-0d5f4a0e7b11", "5d3f9a52-7c44-4b8e-8f0e-6a1c2b3d4e5f"),
    "byte": ("dGVzdA==", "b3RoZXI="),
    "binary": ("test", "other"),
    "password": ("Pa55-word!x", "0ther-Pa55!x"),
    "json-pointer": ("/a", "/b"),
    "regex": ("a+", "b+"),
    "int32": ("1", "2"),
    "int64": ("1", "2"),
    "uint32": ("1", "2"),
    "uint64": ("1", "2"),
    "float": ("1.5", "2.5"),
    "double": ("1.5", "2.5"),
    "decimal": ("1.50", "2.50"),
    "phone": ("+4915112345678", "+4915112345679"),
}


TEXTS_BY_NAME: Final[tuple[tuple[frozenset[str], tuple[str, ...], bool], ...]] = tuple(
    (frozenset(names.split()), values, sure)
    for names, values, sure in (
        ("email mail", ("test@example.com", "other@example.com"), True),
        ("phone mobile fax telephone tel msisdn", ("+4915112345678", "+4915112345679"), True),
        ("currency", ("EUR", "USD"), False),
        ("country nationality", ("DE", "US"), False),
        ("language lang locale", ("en", "de"), False),
        ("timezone tz", ("UTC", "Europe/Berlin"), False),
        ("url uri website homepage href link webhook", ("https://example.com/a", "https://example.com/b"), True),
        ("image avatar photo picture logo icon", ("https://example.com/a.png", "https://example.com/b.jpg"), True),
        ("city town", ("Berlin", "Hamburg"), True),
        ("street address", ("1 Main Street", "2 Side Street"), True),
        ("zip postal postcode", ("10115", "20095"), True),
        ("password passwd pwd passphrase", ("Pa55-word!x", "0ther-Pa55!x"), True),
        ("date day birthday dob", ("2024-05-17", "2025-06-18"), False),
        ("time timestamp at", ("2024-05-17T12:30:00Z", "2025-06-18T13:45:00Z"), False),
        ("color colour", ("#336699", "#996633"), False),
        ("ip", ("192.0.2.1", "192.0.2.2"), False),
        ("host hostname domain", ("example.com", "example.org"), False),
        ("gender sex", ("female", "male"), False),
        ("version", ("1.0.0", "1.1.0"), False),
        ("iban", ("DE89370400440532013000", "GB82WEST12345698765432"), False),
        ("isbn", ("9783161484100", "9780306406157"), False),
        ("cron schedule", ("0 0 * * *", "0 1 * * *"), False),
        ("first given firstname", ("Ada", "Grace"), True),
        ("last family surname lastname", ("Lovelace", "Hopper"), True),
        ("codes statuscode", ("200", "201"), False),
        ("mime", ("text/plain", "application/json"), False),
        ("codes statuscode statuscodes", ("200", "201"), False),
        ("latitude lat", ("52.52", "48.14"), False),
        ("longitude lng lon", ("13.40", "11.58"), False),
    )
)
"""Words of a name -> values, and whether nothing but the document's own rules could refuse them."""


UNIQUE_NAMES: Final = frozenset(
    "name username login nickname nick handle email mail sku slug code title label key isbn serial identifier alias "
    "subject reference idempotency".split()
)


SHARED_NAMES: Final = frozenset("first last family given sort order country currency language file zip postal".split())


CLOSED_VOCABULARIES: Final = frozenset(
    "code type kind status state role unit region zone format mode level scope category filter sort order orderby "
    "query expression path cursor token after before field fields include expand view algorithm schema class namespace "
    "secret signature hash digest range encoding charset protocol engine driver provider".split()
)
"""A free string by the schema, but the server is likely to know only some of them."""


LIKELY_TEXTS: Final = (
    "test",
    "abc",
    "Test",
    "ABC",
    "a",
    "A",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "123456",
    "AB",
    "EUR",
    "ab12",
    "AB12",
    "AB-1234",
    "ABC-1234",
    "ABC-123",
    "a-b",
    "a_b",
    "a1",
    "A1",
    "1.0.0",
    "v1",
    "v1.0.0",
    "12:30",
    "12:30:00",
    "2024-05-17",
    "2024-05",
    "en",
    "en-US",
    "DE",
    "#336699",
    "336699",
    "test@example.com",
    "+4915112345678",
    "0151-123456",
    "555-1234",
    "https://example.com/",
    "/a",
    "a/b",
    "192.0.2.1",
    "10115",
    "10.50",
    "0",
    "0.5",
    "true",
    "deadbeef",
    "b5b6d8f0-3c1e-4a6b-9c55-0d5f4a0e7b11",
    "+1-555-0100",
    "555-555-0100",
    "1h",
    "1d",
    "10s",
)


NUMBERS_BY_NAME: Final[tuple[tuple[frozenset[str], tuple[float, ...]], ...]] = tuple(
    (frozenset(names.split()), values)
    for names, values in (
        ("price amount cost total fee balance salary rate", (10.5, 12.25, 10, 12)),
        ("year", (2024, 2025)),
        ("month day hour", (5, 6)),
        ("code", (200, 201)),
        ("port", (8080, 8081)),
        ("latitude lat", (52.5, 48.25)),
        ("longitude lng lon", (13.5, 11.25)),
        ("age", (30, 31)),
        ("page", (1, 2)),
        ("offset skip", (0, 1)),
        ("limit size", (10, 5)),
        ("quantity count stock", (3, 4)),
        ("rating score stars", (3, 4)),
        ("percent percentage discount", (10, 15)),
    )
)
