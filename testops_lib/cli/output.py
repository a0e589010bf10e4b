"""What commands print and write for people."""

from __future__ import annotations

from typing import Final

import click

from testops_lib.text import printable

FINDINGS_FILE: Final = "findings.jsonl"
"""Beside a report: its findings with their cases, for `testops reproduce`."""


def say(text: object, *, err: bool = False) -> None:
    """Prints lines for people. Documents and answers wrote parts of them: nothing in these acts on the terminal or a CI
    server.
    """
    click.echo(printable(str(text)), err=err)
