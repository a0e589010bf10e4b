"""Types of options that several commands have."""

from __future__ import annotations

import click

from testops_lib.http.address import base_url_fault


class BaseUrl(click.ParamType[str]):
    """An absolute http(s) URL without credentials: what is refused is never printed."""

    name = "URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        url = value.strip()
        if not url:
            return ""
        fault = base_url_fault(url)
        if fault:
            self.fail(f"it {fault}. Write http://host[:port][/path]; credentials go to -H or --auth FILE.", param, ctx)
        return url.rstrip("/")
