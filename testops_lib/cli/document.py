"""Reads the OpenAPI document that a command names, with the headers that are meant for its own server."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from testops_lib import spec as specs
from testops_lib.errors import DocumentRefusedError, SettingsError
from testops_lib.http import tls
from testops_lib.http.address import is_url
from testops_lib.http.url import origin_of
from testops_lib.model import Tls
from testops_lib.spec.operation import Spec

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def load_document(spec: str, base_url: str, options: Mapping[str, Any]) -> Spec:
    """The document at a URL or a path.

    Credentials of the API (`-H`) go to the document's server only where it is the API's own, by `--base-url`.

    Raises:
        SpecError: the document cannot be read; where its server wants credentials, the next step says how to give them.
        SettingsError: a header is none.
    """
    headers = pairs(options["spec_headers"], "--spec-header")
    api_headers = pairs(options.get("headers") or (), "-H")
    is_own_server = bool(base_url) and is_url(spec) and origin_of(spec) == origin_of(base_url)
    withheld = [] if is_own_server else [name for name, _ in api_headers]
    if is_own_server:
        headers = [*api_headers, *headers]
    named = Tls(ca=options.get("cacert") or "", cert=options.get("cert") or "", key=options.get("key") or "")
    certificates = tls.read(named, os.environ, where="the options")
    if not is_own_server:
        certificates = certificates.without_client()
    try:
        return specs.load(spec, headers=dict(headers), certificates=certificates)
    except DocumentRefusedError as error:
        next_step = "give its server's credentials: --spec-header 'Authorization: …'"
        if withheld:
            next_step = f"-H {', '.join(withheld)} was withheld, because it is meant for the API: {next_step}"
        raise DocumentRefusedError(error.what, where=error.where, next_step=next_step) from error


def pairs(lines: Sequence[str], option: str) -> list[tuple[str, str]]:
    """Names and values of header lines.

    Raises:
        SettingsError: a line is no header; its value is not quoted, it may be a credential.
    """
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name.strip()):
            raise SettingsError(
                f"{name!r} is no header", where=option, next_step=f"write {option} 'Authorization: Bearer …'"
            )
        headers.append((name.strip(), value.strip()))
    return headers
