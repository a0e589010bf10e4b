"""The command line `testops`."""

from __future__ import annotations

import os
import sys

import click

from testops_lib.cli.desk import diff, execute, export, generate, report, shrink, try_
from testops_lib.cli.service import collect, db, dead_letters, stack, trigger
from testops_lib.cli.suite import cases, drift
from testops_lib.errors import TestOpsError

COULD_NOT_RUN = 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 nothing found, 1 findings, 2 could not run.",
)
@click.version_option(package_name="ai-testops", prog_name="testops")
def cli() -> None:
    """Tests HTTP APIs from their OpenAPI documents.

    \b
    At the desk, without any server:
      testops try https://api.example.com/openapi.json
    """


for command in (
    try_,
    generate,
    execute,
    report,
    shrink,
    diff,
    export,
    trigger,
    collect,
    dead_letters,
    db,
    stack,
    cases,
    drift,
):
    cli.add_command(command)


def main() -> None:
    """The console script: errors become a line of where, what and what next, and exit code 2."""
    try:
        outcome = cli.main(standalone_mode=False)
        sys.exit(outcome if isinstance(outcome, int) else 0)
    except TestOpsError as error:
        click.echo(f"error: {error}", err=True)
    except click.ClickException as error:
        error.show()
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(COULD_NOT_RUN)
