"""Text from outside does nothing where it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.errors import SpecError
from testops_lib.text import one_line, printable, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\x07\x9bb\u202ec\ud800", "a\\x07\\x9bb\\u202ec\\ud800"),
        ("::error::stop", "\\x3a:error::stop"),
        ("ok\n  ::set-output name=a::b", "ok\n  \\x3a:set-output name=a::b"),
        ("a ##[error]b ##vso[task] ##teamcity[x]", "a \\x23#[error]b \\x23#vso[task] \\x23#teamcity[x]"),
        ("[::1] a::b ## title\n# x", "[::1] a::b ## title\n# x"),
        ("a\tb\r\nc", "a\tb\nc"),
    ],
)
def test_text_for_a_terminal_neither_controls_it_nor_orders_a_ci_server(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=":#[]vso error\x1b\r\n\u2028\x85", max_size=60))
def test_no_line_of_printable_text_is_a_command(text: str) -> None:
    for line in printable(text).splitlines():
        assert not line.lstrip().startswith("::") and "##[" not in line and "##vso[" not in line
        assert all(character in "\t" or character.isprintable() for character in line)
    assert "\n" not in one_line(text) and not one_line(text).startswith("::")
    assert printable(printable(text)) == printable(text)
    assert visible(visible(text)) == visible(text)


def test_an_error_that_quotes_a_document_does_nothing() -> None:
    error = SpecError("\x1b[2Jgone", where="GET /a\n::error::x", next_step="::stop-commands::x")
    assert "\x1b" not in str(error)
    assert not any(line.lstrip().startswith("::") for line in str(error).splitlines())
