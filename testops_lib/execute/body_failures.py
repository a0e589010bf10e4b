"""Answer -> failures of its transfer: what no case asks for and every answer owes. Pure."""

from __future__ import annotations

from testops_lib.http.answer import Answer, header_values
from testops_lib.model import CONTENT_ENCODING, ENDLESS, Failure, Step


def body_failures(step: Step, answer: Answer, index: int) -> tuple[Failure, ...]:
    """A body that is not what Content-Encoding says, or a coding that does not exist (RFC 9110, 8.4); a body without an
    end, which is a guess. A coding that exists and that we cannot decode is no failure: the body is not judged.
    """
    if answer.wrong_coding:
        named = ",".join(header_values(answer.headers, "content-encoding")).lower()
        return (
            Failure(
                check=CONTENT_ENCODING,
                operation=step.operation,
                message=f"Content-Encoding: {answer.wrong_coding}",
                cause=f"{answer.status} {named}",
                step=index,
            ),
        )
    if answer.endless:
        message = f"the body went on beyond {len(answer.body):,} bytes, and nothing announces its end"
        return (
            Failure(
                check=ENDLESS,
                operation=step.operation,
                message=message,
                cause=f"{answer.status} endless",
                basis="guess",
                step=index,
            ),
        )
    return ()
