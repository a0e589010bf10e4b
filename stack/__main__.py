"""The local servers from the command line: `python -m stack`; `make run` calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from testops_lib.cli import main
from testops_lib.cli.options import BaseUrl


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """The local servers: PostgreSQL, Apache Kafka, Airflow, the sample APIs. State lives in .testops/."""


@cli.command(epilog="\b\nExamples:\n  python -m stack run --once\n  python -m stack run --target airflow\n")
@click.option("--target", default="", help="A target file's name. Default: shop.")
@click.option("--spec", default="", metavar="SPEC", help="Any OpenAPI document instead: URL or file.")
@click.option("--base-url", type=BaseUrl(), default="", help="Where that API answers.")
@click.option("-H", "--header", "headers", multiple=True, metavar="HEADER", help="With --spec: sent with each request.")
@click.option(
    "-Q", "--query", "queries", multiple=True, metavar="NAME=VALUE", help="With --spec: the same in the query."
)
@click.option(
    "--auth",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --spec: Web Fuzzing Commons authentication file: users, logins.",
)
@click.option("--once", is_flag=True, help="End after the report with the gate's verdict as exit code.")
def run(**options: Any) -> int:
    """Start everything, test one target, show the report, serve until Ctrl-C. This is `make run`.

    TESTOPS_LAUNCHER=fleet has the batches executed by runners that stand.
    """
    from stack.run import run as run_stack
    from testops_lib.cli.sending import identities

    target = options.pop("target") or ("" if options["spec"] else "shop")
    users = identities({name: options.pop(name) for name in ("auth", "headers", "queries")})
    return run_stack(target=target, identities=users, **options)


@cli.command(epilog="\b\nExample:\n  python -m stack services --address 10.244.0.1 --admit 10.244.0.0/24\n")
@click.option("--address", required=True, help="The address under which pods reach this machine's 127.0.0.1.")
@click.option("--admit", multiple=True, metavar="NETWORK", help="Network of the pods, which PostgreSQL admits.")
@click.option("--defects", default="all", show_default=True, help="Seeded defects of the shop: all, none, or ids.")
def services(address: str, admit: tuple[str, ...], defects: str) -> None:
    """PostgreSQL, Kafka and the shop for an Airflow on a Kubernetes of this machine, until Ctrl-C.

    Their addresses and passwords are written to .testops/services/environment, for a shell.
    """
    from stack.services import serve

    serve(address=address, admit=admit, defects=defects)


@cli.command()
def clean() -> None:
    """End leftover servers of an earlier `stack run`, by their recorded process ids."""
    from stack.run import clean as clean_stack

    clean_stack()


if __name__ == "__main__":
    main(cli)
