"""Answer -> failures of its transfer: what no case asks for and every answer owes. Pure."""

from __future__ import annotations

from testops_lib.check import Answer, header_values
from testops_lib.model import CONTENT_ENCODING, ENDLESS, Failure, Step

_CODINGS = frozenset(
    {
        "aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "identity", "pack200-gzip",
        "x-compress", "x-gzip", "zstd",
    }
)  # fmt: skip
"""Source: IANA, HTTP Content Coding Registry."""


def failures(step: Step, answer: Answer, index: int) -> tuple[Failure, ...]:
    """A body that is not what Content-Encoding says (RFC 9110, 8.4), or that has no end.

    A coding that exists, but that we did not ask for and cannot decode, is a guess; so is a body without an end.
    """
    if answer.undecodable:
        named = ",".join(header_values(answer.headers, "content-encoding")).lower()
        codings = {coding.strip() for coding in named.split(",")}
        lie = answer.undecodable.startswith("the body is not ") or not codings <= _CODINGS
        asked = any(name.lower() == "accept-encoding" for name, _ in step.request.headers)
        if not lie and asked:
            return ()
        what = answer.undecodable if lie else f"{answer.undecodable}, which the request did not accept"
        return (
            Failure(
                check=CONTENT_ENCODING, operation=step.operation, message=f"Content-Encoding: {what}",
                cause=f"{answer.status} {named}", basis="spec" if lie else "guess", step=index,
            ),
        )  # fmt: skip
    if answer.endless:
        message = f"the body went on beyond {len(answer.body):,} bytes, and nothing announces its end"
        return (
            Failure(
                check=ENDLESS, operation=step.operation, message=message, cause=f"{answer.status} endless",
                basis="guess", step=index,
            ),
        )  # fmt: skip
    return ()
