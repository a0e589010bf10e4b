"""What commands print for people."""

from __future__ import annotations

import click

from testops_lib.text import printable


def say(text: object, *, err: bool = False) -> None:
    """Prints lines for people. Documents and answers wrote parts of them: nothing in these acts on the terminal or a CI
    server.
    """
    click.echo(printable(str(text)), err=err)
