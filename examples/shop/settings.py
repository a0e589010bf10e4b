"""Environment -> one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GUEST = ("guest", "guest-guest")
"""User name and password that are always open: the document's own example."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    token: str
    """Service token of a customer."""
    admin_token: str
    """Service token of the staff; it may do what a customer may, too."""
    username: str = ""
    password: str = ""
    """A staff login for `POST /sessions`, when both are given."""
    defects: str = "all"
    """`all`, `none`, or ids separated by commas."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings of `SHOP_TOKEN`, `SHOP_ADMIN_TOKEN`, `SHOP_USERNAME`, `SHOP_PASSWORD` and `SHOP_DEFECTS`.

    Raises:
        SystemExit: a token is not set, or both are the same; the message says which and what to do.
    """
    tokens = environment.get("SHOP_TOKEN", ""), environment.get("SHOP_ADMIN_TOKEN", "")
    missing = [name for name, value in zip(("SHOP_TOKEN", "SHOP_ADMIN_TOKEN"), tokens, strict=True) if not value]
    if missing:
        raise SystemExit(
            f"shop: {' and '.join(missing)} not set\n"
            "  -> give each a random value, for example: export SHOP_TOKEN=$(openssl rand -hex 16)"
        )
    if tokens[0] == tokens[1]:
        raise SystemExit("shop: SHOP_TOKEN and SHOP_ADMIN_TOKEN are the same\n  -> give each its own random value")
    return Settings(
        token=tokens[0],
        admin_token=tokens[1],
        username=environment.get("SHOP_USERNAME", ""),
        password=environment.get("SHOP_PASSWORD", ""),
        defects=environment.get("SHOP_DEFECTS", "") or "all",
    )
