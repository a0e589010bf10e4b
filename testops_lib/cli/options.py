"""Types of options, and groups of options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from testops_lib.http.address import base_url_fault
from testops_lib.settings import SOURCES

EXPORT_FORMATS = ("curl", "pytest", "hurl", "k6", "postman", "arazzo", "har")


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


spec_header_option = click.option(
    "--spec-header",
    "spec_headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Sent when the OpenAPI document is fetched, and nowhere else; repeatable. -H goes there only where the "
    "document lies on the origin that --base-url names.",
)


def spec_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--operations",
                "-o",
                multiple=True,
                metavar="GLOB",
                help="Only operations that match, e.g. 'GET /pets*'; repeatable.",
            ),
            spec_header_option,
            click.option("--tag", multiple=True, help="Only operations with this tag; repeatable."),
            click.option("--safe", is_flag=True, help="Only GET, HEAD and OPTIONS."),
            click.option(
                "--source",
                "sources",
                multiple=True,
                type=click.Choice(SOURCES),
                default=("rules",),
                show_default=True,
                help="Where cases come from; repeatable: --source rules --source gemini (needs GEMINI_API_KEY).",
            ),
            click.option(
                "--import",
                "imports",
                multiple=True,
                type=click.Path(exists=True, dir_okay=False),
                metavar="FILE",
                help="A HAR recording, Postman collection or Arazzo description; repeatable; adds the source import.",
            ),
            click.option("--max-cases", type=click.IntRange(0), default=0, help="The best cases up to this number."),
            click.option(
                "--examples",
                type=click.IntRange(1, 1000),
                default=10,
                show_default=True,
                help="Source property: random cases with valid data for each operation, and with invalid data.",
            ),
            click.option("--seed", type=int, default=0, help="Source property: another seed, other cases."),
            click.option(
                "--max-tokens",
                type=click.IntRange(0),
                default=0,
                help="Most tokens that language models may take. 0: no limit.",
            ),
            click.option(
                "--max-money",
                type=click.FloatRange(0),
                default=0,
                help="Most money for language models, in the currency of the prices. 0: no limit.",
            ),
        )
    ):
        command = option(command)
    return command


def send_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--header",
                "-H",
                "headers",
                multiple=True,
                metavar="'NAME: VALUE'",
                help="Sent with every request; repeatable. Kept out of every report.",
            ),
            click.option(
                "--user",
                "-u",
                metavar="USER:PASSWORD",
                help="HTTP Basic credentials, as curl has it; asks for a password that is left out.",
            ),
            click.option(
                "--query",
                "-Q",
                "queries",
                multiple=True,
                metavar="NAME=VALUE",
                help="A credential in the query of every request; repeatable. Kept out of every report.",
            ),
            click.option(
                "--auth",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="Web Fuzzing Commons authentication file: users, logins.",
            ),
            click.option(
                "--max-requests",
                type=click.IntRange(0),
                default=0,
                help="Most requests to the API, exactly: cases, cleanup, repeats, redirects, logins, probes all count, "
                "fetching SPEC does not. 0: no limit.",
            ),
            click.option(
                "--max-time",
                type=click.FloatRange(0),
                default=0,
                metavar="SECONDS",
                help="Start nothing after this time. 0: no limit.",
            ),
            click.option(
                "--max-response-ms",
                type=click.IntRange(0),
                default=0,
                help="Slower answers to valid requests are findings. 0: any.",
            ),
            click.option(
                "--concurrency",
                type=click.IntRange(1, 256),
                default=8,
                show_default=True,
                help="Cases at the same time.",
            ),
            click.option(
                "--rate",
                type=click.FloatRange(0),
                default=0,
                metavar="PER_SECOND",
                help="Most requests a second. 0: no limit.",
            ),
            click.option(
                "--foreign",
                type=click.Choice(("never", "read", "write")),
                default="read",
                show_default=True,
                help="What may be done to things that a case did not make: nothing, read them, change and delete them.",
            ),
            click.option("--insecure", is_flag=True, help="Do not verify TLS certificates."),
            click.option(
                "--cacert",
                type=click.Path(exists=True, dir_okay=False, resolve_path=True),
                help="Authorities to trust (PEM) in place of the system's, for SPEC as well.",
            ),
            click.option(
                "--cert",
                type=click.Path(exists=True, dir_okay=False, resolve_path=True),
                help="Client certificate (PEM), shown to the API's own origin.",
            ),
            click.option(
                "--key",
                type=click.Path(exists=True, dir_okay=False, resolve_path=True),
                help="Its key (PEM, no password). Default: in the file of --cert.",
            ),
            click.option(
                "--proxy",
                default="",
                metavar="URL",
                help="HTTP proxy for every request to the API. The environment's proxy variables are not used.",
            ),
        )
    ):
        command = option(command)
    return command
