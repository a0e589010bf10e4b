"""Response -> failures: pure judging, no clock and no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testops_lib.doubts import Doubt
from testops_lib.http.answer import Answer
from testops_lib.model import (
    Basis,
    Check,
    ContentTypeConformance,
    Contract,
    Failure,
    FilterHonoured,
    HeaderIs,
    Idempotency,
    JsonPathIs,
    MaxResponseTime,
    MethodAgreement,
    NegativeDataRejection,
    NoReflection,
    NotAServerError,
    PaginationConsistency,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    Step,
)
from testops_lib.verdict.body import Body
from testops_lib.verdict.conformance import COMPONENT, CONFORMANCE, contract_mismatches
from testops_lib.verdict.documented import Documented
from testops_lib.verdict.error_reason import error_reason, sent_values
from testops_lib.verdict.expectations import header_mismatch, value_mismatch
from testops_lib.verdict.fingerprint import normalise
from testops_lib.verdict.mismatch import Mismatch
from testops_lib.verdict.oracles import ORACLES, as_text
from testops_lib.verdict.statuses import STATUS_RULES, weakened, wrong_statuses

_ABOUT_THE_BODY = (
    ResponseSchemaConformance,
    JsonPathIs,
    Idempotency,
    PaginationConsistency,
    FilterHonoured,
    NoReflection,
)

_SHARED = (
    StatusCodeConformance,
    ContentTypeConformance,
    ResponseHeadersConformance,
    NegativeDataRejection,
    MethodAgreement,
)
"""Checks whose cause says all there is: two operations that fail them with one cause have one defect (a framework's
habit, a shared parameter, a missing sentence of the document)."""

_JUDGED_TOGETHER = frozenset({*STATUS_RULES, *CONFORMANCE})
"""Checks that are judged before the others are looked at one by one."""


def why_unjudged(answer: Answer) -> str:
    """Why nothing can be said of the body; "" when something can."""
    if answer.streaming:
        return "the answer is a stream"
    if answer.truncated:
        return f"the body is longer than {len(answer.body):,} bytes"
    return answer.undecodable


def unjudged(step: Step, answer: Answer) -> tuple[str, ...]:
    """The checks of the body that were not made, each with the reason: `response_schema_conformance: …`."""
    why = why_unjudged(answer)
    if not why:
        return ()
    names = dict.fromkeys(_name(check) for check in step.checks if isinstance(check, _ABOUT_THE_BODY))
    return tuple(f"{name}: {why}" for name in names)


class Judge:
    """Judges answers against contracts; each schema is compiled once, when first needed."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._contracts = contracts
        self._documented: dict[tuple[str, int], Documented] = {}
        """By operation and status."""

    def judge(self, step: Step, answer: Answer, captured: Mapping[str, Any], *, index: int = 0) -> tuple[Failure, ...]:
        """What did not hold, in order of importance.

        Consequences are not repeated: after a server error, an unwanted acceptance or refusal, or an undocumented
        status nothing else is said of the same answer. Expected headers and values are expected of the answer that was
        asked for (a 2xx, or the statuses listed), not of a refusal in its place. `captured` holds the names of earlier
        steps, and `unique`.
        """
        if not step.checks:
            return ()
        status = answer.status
        documented = self._documented.get((step.operation, status))
        if documented is None:
            documented = Documented(self._contracts.get(step.operation), status)
            self._documented[step.operation, status] = documented
        checks: dict[type[Check], Check] = {type(check): check for check in step.checks}
        if not documented.accepted and (broken := wrong_statuses(checks, status, documented)):
            return (self._telling(broken, step, answer, captured, documented, index),)
        return self._further(step, checks, answer, captured, documented, index)

    def _telling(
        self,
        broken: list[tuple[Check, Mismatch]],
        step: Step,
        answer: Answer,
        captured: Mapping[str, Any],
        documented: Documented,
        index: int,
    ) -> Failure:
        """The one failure that a wrong status is: what is known comes before what is guessed."""
        bases = [weakened(check, answer.status, documented) or check.basis for check, _ in broken]
        place = next((place for place, basis in enumerate(bases) if basis != "guess"), 0)
        check, mismatch = broken[place]
        doubt: Doubt = "documented_server_error" if answer.status >= 500 else "documented_refusal"
        if isinstance(check, NotAServerError):
            mismatch, shared = _with_reason(mismatch, step, answer, captured)
            return _failure(check, step, index, mismatch, basis=bases[place], doubt=doubt, shared=shared)
        return _failure(check, step, index, mismatch, basis=bases[place], doubt=doubt)

    def _further(
        self,
        step: Step,
        checks: Mapping[type[Check], Check],
        answer: Answer,
        captured: Mapping[str, Any],
        documented: Documented,
        index: int,
    ) -> tuple[Failure, ...]:
        """What is wrong with an answer whose status is right."""
        status = answer.status
        body = Body(answer.body)
        readable = not (answer.truncated or answer.streaming or answer.undecodable)
        failures: list[Failure] = []
        if documented.response is not None:
            head = step.request.method == "HEAD"
            failures = [
                _failure(
                    check,
                    step,
                    index,
                    mismatch,
                    basis=basis,
                    doubt="similar_media_type" if isinstance(check, ContentTypeConformance) else "ambiguous_body",
                )
                for check, mismatch, basis in contract_mismatches(
                    checks, answer, documented, documented.response, body, head=head, readable=readable
                )
            ]
        if isinstance(wanted := checks.get(StatusIs), StatusIs):
            asked_for = status in wanted.any_of
        else:
            asked_for = 200 <= status < 300 or NegativeDataRejection in checks
        for check in step.checks:
            if type(check) in _JUDGED_TOGETHER or (not readable and isinstance(check, _ABOUT_THE_BODY)):
                continue
            basis: Basis | None = None
            if isinstance(check, HeaderIs):
                mismatch = header_mismatch(check, answer, captured) if asked_for else None
            elif isinstance(check, JsonPathIs):
                mismatch = value_mismatch(check, body, captured) if asked_for else None
                basis = "guess" if mismatch and body.disputed() else None
            elif (oracle := ORACLES.get(type(check))) is not None:
                mismatch = oracle(check, answer, body, captured)
            elif isinstance(check, MaxResponseTime) and not failures and answer.elapsed_ms > check.limit_ms:
                mismatch = Mismatch(f"answered after {answer.elapsed_ms:.0f} ms, limit {check.limit_ms} ms", "slow")
            else:
                continue
            if mismatch:
                failures.append(_failure(check, step, index, mismatch, basis=basis, doubt="ambiguous_body"))
        return tuple(failures)


def _name(check: Check) -> str:
    return type(check).__struct_config__.tag  # type: ignore[return-value]


def _failure(
    check: Check, step: Step, index: int, mismatch: Mismatch, *, basis: Basis | None, doubt: Doubt, shared: bool = False
) -> Failure:
    """basis: None for the check's own. doubt: why `basis` is a guess where the check itself does not rest on one."""
    return Failure(
        check=_name(check),
        operation=step.operation,
        message=mismatch.message,
        cause=mismatch.cause,
        shared=shared or isinstance(check, _SHARED) or mismatch.cause.startswith(COMPONENT),
        basis=basis or check.basis,
        quote=check.quote,
        doubt=check.doubt if check.basis == "guess" else doubt if basis == "guess" else "",
        step=index,
    )


def _with_reason(mismatch: Mismatch, step: Step, answer: Answer, captured: Mapping[str, Any]) -> tuple[Mismatch, bool]:
    """A server error with what its body says of the reason; and whether it says one: equal reasons are one finding."""
    reason = error_reason(answer, [*sent_values(step.request), *map(as_text, captured.values())])
    if not reason:
        return mismatch, False
    cause = f"{mismatch.cause}: {normalise(reason, quoted=False)}"
    return Mismatch(f"{mismatch.message}: {reason}", cause), True
