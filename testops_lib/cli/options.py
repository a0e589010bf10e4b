"""Types of options that several commands have."""

from __future__ import annotations

from urllib.parse import urlsplit

import click


class BaseUrl(click.ParamType[str]):
    """An absolute http(s) URL without credentials: what is refused is never printed."""

    name = "URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        url = value.strip()
        if not url:
            return ""
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            self.fail("is no URL. Write http://host[:port][/path].", param, ctx)
        if "@" in parts.netloc:
            self.fail(
                "must not hold a user or a password. Give them by -H 'Authorization: Basic …' or --auth FILE.",
                param,
                ctx,
            )
        if parts.scheme.lower() not in ("http", "https") or not host:
            self.fail("is no http(s) URL with a host. Write http://host[:port][/path].", param, ctx)
        return url.rstrip("/")
