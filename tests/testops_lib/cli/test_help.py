"""Help pages: each command has one, with an example, and none imports what only the work needs."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from testops_lib.cli import COMMANDS, cli
from tests.paths import ROOT

HEAVY = (
    *("pycurl", "jsonschema_rs", "jsonpath_rfc9535", "regex", "yaml", "confluent_kafka", "psycopg", "sqlalchemy"),
    *("requests", "rich", "jinja2", "asyncio", "testops_lib.run", "testops_lib.execute", "testops_lib.generate"),
    *("testops_lib.report", "testops_lib.spec", "testops_lib.store", "testops_lib.bus", "testops_lib.verdict"),
)

SCRIPT = """
import atexit, json, sys
from testops_lib.cli import main
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules))))
sys.argv = ["testops", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("command", [[], ["try"], ["execute"], ["reproduce"], ["cases"], ["cases", "shrink"]])
def test_a_help_page_imports_nothing_heavy(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert done.returncode == 0 and "Usage: " in done.stdout, done.stderr
    imported = json.loads(done.stdout.rpartition("\n\n")[2])
    assert "click" in imported
    assert [name for name in imported if f"{name}.".startswith(tuple(f"{heavy}." for heavy in HEAVY))] == []


def pages() -> list[list[str]]:
    """Every command that does something, by its words."""
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    return [
        [name, *more]
        for name, command in commands.items()
        for more in ([[sub] for sub in command.commands] if isinstance(command, click.Group) else [[]])
    ]


@pytest.mark.parametrize("words", pages(), ids=" ".join)
def test_each_command_has_a_help_page_with_an_example_of_itself(words: list[str]) -> None:
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0
    assert f"testops {' '.join(words)}" in done.output.partition("Example")[2]
