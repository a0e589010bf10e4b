"""The command line `testops`."""

from __future__ import annotations

import importlib
import os
import sys

import click

from testops_lib.cli.exit_codes import COULD_NOT_RUN
from testops_lib.cli.output import say
from testops_lib.errors import TestOpsError
from testops_lib.settings import CHECKOUT, read_dotenv

COMMANDS = {
    "try": "commands:try_",
    "generate": "commands:generate",
    "execute": "commands:execute",
    "report": "commands:report",
    "reproduce": "commands:reproduce",
    "shrink": "commands:shrink",
    "diff": "commands:diff",
    "export": "commands:export",
    "trigger": "service:trigger",
    "collect": "service:collect",
    "dead-letters": "service:dead_letters",
    "db": "service:db",
    "topics": "topics:topics",
    "cases": "suite:cases",
    "drift": "suite:drift",
}
"""Name -> module of this package and command."""


class _Commands(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"testops_lib.cli.{module}"), name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 nothing found, 1 findings, 2 could not run.\n\n"
    'Shell completion: eval "$(_TESTOPS_COMPLETE=bash_source testops)" (or zsh_source; fish_source | source).',
)
@click.version_option(package_name="ai-testops", prog_name="testops")
def cli() -> None:
    """Tests HTTP APIs from their OpenAPI documents.

    \b
    Locally, without any server of ours:
      testops try https://api.example.com/openapi.json
    """


def main(command: click.Command = cli) -> None:
    """The console script: errors become a line of where, what and what next, and exit code 2.

    What the checkout's `.env` names counts as the environment, as for `make run`.
    """
    try:
        read_dotenv(CHECKOUT / ".env")
        outcome = command.main(standalone_mode=False)
        sys.exit(outcome if isinstance(outcome, int) else 0)
    except TestOpsError as error:
        say(f"error: {error}", err=True)
    except click.ClickException as error:
        error.show()
    except (click.Abort, KeyboardInterrupt):
        say("stopped", err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(COULD_NOT_RUN)
