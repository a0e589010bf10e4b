"""A proposed case -> a case, or what is wrong with it: the one judge of every source that may invent things.

Pure: nothing is fetched, executed or templated. A case that passes holds no credential, calls only operations that
the document offers and the policy allows, and says of each check truly why it may be believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from testops_lib.generate.jsonpath import reach, refusal
from testops_lib.generate.proposals.captured import PLACEHOLDER
from testops_lib.generate.proposals.checks import CheckMaker, Quoted, expected_statuses
from testops_lib.generate.proposals.document import Proposal, ProposedCapture, ProposedStep, convert
from testops_lib.generate.proposals.problem import Problem, Problems
from testops_lib.generate.proposals.request import HEADER_NAME, RequestReader, StepRequest
from testops_lib.generate.proposals.responses import json_schemas
from testops_lib.generate.rules.own_account import account_change
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    SAFE_METHODS,
    AnyCheck,
    Basis,
    Capture,
    Case,
    IgnoredAuth,
    Policy,
    Provenance,
    StatusIs,
    Step,
    UseAfterFree,
    make_case,
)
from testops_lib.redact import sensitive
from testops_lib.spec.operation import Operation, Spec

MAX_STEPS: Final = 12
MAX_CASE_BYTES: Final = 256 * 1024

_CAPTURE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ENDS_SOMETHING: Final = re.compile(
    r"(?i)log[-_]?(out|off)|sign[-_]?(out|off)|shut[-_]?down|/(terminate|restart|reboot|kill|halt|maintenance)\b"
    r"|(revoke|invalidate)[^/]*(token|session)|(deactivate|close)[^/]*account"
)
_OWN_ACCOUNT: Final = re.compile(r"(?i)/(me|self|account|profile|session|current)/?$")


class Validator:
    """Judges proposals against one document and one policy.

    `assumed`: what an expectation rests on for which the document gives no reason: `human` where a person wrote it.
    `quoted`: finds the sentence that an expectation of basis `description` rests on; without it there is none.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        policy: Policy,
        origin: Provenance,
        identities: Sequence[str] = (),
        values: Mapping[str, tuple[Any, ...]] | None = None,
        assumed: Basis = "guess",
        quoted: Quoted = lambda operation, expectation: "",
    ) -> None:
        self._spec = spec
        self._operations = {operation.key: operation for operation in spec.operations}
        self._policy = policy
        self._origin = origin
        self._requests = RequestReader(spec, identities=identities)
        self._checks = CheckMaker(spec, values=dict(values or {}), assumed=assumed, quoted=quoted)

    def check(self, raw: Any, *, asked: Iterable[str] | None = None) -> Case | tuple[Problem, ...]:
        """The case that a raw JSON value proposes, or all problems with it (at least one).

        With `asked`, the case must be about one of these operations.
        """
        try:
            proposal = convert(raw)
        except ValueError as error:
            return (Problem(rule="wrong shape", where="", message=str(error)),)
        problems = list(self._outline(proposal, frozenset(asked) if asked is not None else None))
        if problems:
            return tuple(problems)
        return self._case(proposal)

    def _outline(self, proposal: Proposal, asked: frozenset[str] | None) -> Iterator[Problem]:
        if not proposal.steps:
            yield Problem(rule="no steps", where="steps", message="a case has at least one step")
        if len(proposal.steps) + len(proposal.cleanup) > MAX_STEPS:
            yield Problem(rule="too many steps", where="steps", message=f"at most {MAX_STEPS} steps, cleanup included")
            return
        if proposal.operation not in self._operations:
            yield Problem(rule="unknown operation", where="operation", message=_unknown(proposal.operation))
        elif asked is not None and proposal.operation not in asked:
            yield Problem(rule="operation not asked for", where="operation", message="nobody asked for this operation")
        for where, step in _steps(proposal):
            operation = self._operations.get(step.operation)
            if operation is None:
                yield Problem(rule="unknown operation", where=where, message=_unknown(step.operation))
            elif step.operation in self._spec.unusable:
                yield Problem(rule="unusable operation", where=where, message=self._spec.unusable[step.operation])
            elif self._policy.methods == "safe" and operation.method not in SAFE_METHODS:
                yield Problem(rule="unsafe method", where=where, message=f"the policy allows no {operation.method}")
        if proposal.operation not in {step.operation for step in proposal.steps}:
            yield Problem(rule="operation not called", where="steps", message="no step calls the case's operation")

    def _case(self, proposal: Proposal) -> Case | tuple[Problem, ...]:
        problems: list[Problem] = []
        captured: set[str] = set()
        captured_before: list[frozenset[str]] = []
        data: list[StepRequest] = []
        captures: list[tuple[Capture, ...]] = []
        for where, step in _steps(proposal):
            # cleanup runs as far as its captures exist, so it may use every name that the steps capture
            captured_before.append(frozenset(captured))
            request = self._requests.read(step, captured_before[-1], Problems(problems, where))
            data.append(request)
            captures.append(self._captures(step, request, Problems(problems, where)))
            captured.update(capture.name for capture in captures[-1])
        if problems:
            return tuple(problems)
        count = len(proposal.steps)
        problems.extend(self._intent(proposal, data))
        after_delete = _after_delete(proposal, data)
        needed = _needed(proposal, data) | after_delete.keys() | set(after_delete.values())
        steps: list[Step] = []
        for index, (where, step) in enumerate(list(_steps(proposal))[:count]):
            checks = self._checks.make(
                proposal,
                step,
                data[index],
                captured_before[index],
                after_delete=index in after_delete,
                problems=Problems(problems, where),
            )
            prepares = index < count - 1 and index in needed and index not in after_delete
            steps.append(
                Step(
                    operation=step.operation,
                    request=data[index].request,
                    checks=checks,
                    captures=captures[index],
                    identity=step.identity,
                    setup=prepares and _may_prepare(checks, data[index]),
                )
            )
        cleanup = tuple(
            Step(operation=step.operation, request=request.request, identity=step.identity)
            for step, request in zip(proposal.cleanup, data[count:], strict=True)
        )
        if problems:
            return tuple(problems)
        return self._made(proposal, tuple(steps), cleanup)

    def _made(
        self, proposal: Proposal, steps: tuple[Step, ...], cleanup: tuple[Step, ...]
    ) -> Case | tuple[Problem, ...]:
        name = " ".join("".join(c if c.isprintable() else " " for c in proposal.name).split())[:200]
        last = any(self._ends_something(step.operation) for step in (*steps, *cleanup))
        try:
            case = make_case(
                name=name or proposal.operation,
                intent=proposal.intent,
                operation=proposal.operation,
                steps=steps,
                cleanup=cleanup,
                origin=self._origin,
                last=last,
            )
            encoded = msgspec.json.encode(case)
            msgspec.json.decode(encoded, type=Case)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, OverflowError) as error:
            return (Problem(rule="no JSON", where="", message=f"the case cannot be written as JSON: {error}"),)
        if len(encoded) > MAX_CASE_BYTES:
            return (Problem(rule="too large", where="", message=f"the case is larger than {MAX_CASE_BYTES} bytes"),)
        return case

    def _ends_something(self, key: str) -> bool:
        """The operation may end the session, the account or the service."""
        operation = self._operations[key]
        if operation.method in SAFE_METHODS and operation.method != "GET":
            return False
        text = f"{operation.path} {operation.operation_id}"
        if account_change(operation) or _ENDS_SOMETHING.search(text):
            return True
        return operation.method == "DELETE" and bool(_OWN_ACCOUNT.search(operation.path))

    def _intent(self, proposal: Proposal, data: Sequence[StepRequest]) -> Iterator[Problem]:
        own = [index for index, step in enumerate(proposal.steps) if step.operation == proposal.operation]
        wants_violations = proposal.intent == "negative"
        if wants_violations and not any(data[index].violations for index in own):
            yield Problem(
                rule="intent contradicts data",
                where="intent",
                message="intent is negative, but parameters and body are all valid by the spec"
                " (for data that is valid but refused by a rule in prose use intent boundary or stateful)",
            )
        for index, (where, step) in enumerate(_steps(proposal)):
            cleanup = index >= len(proposal.steps)
            allowed = not cleanup and (
                proposal.intent in ("boundary", "security") or (wants_violations and index in own)
            )
            for violation in data[index].violations if not allowed else ():
                yield Problem(
                    rule="intent contradicts data",
                    where=where,
                    message=f"{violation.place} is invalid by the spec: {violation.message}",
                )
            anonymous = step.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS)
            protected = self._operations[step.operation].protected
            if anonymous and protected and proposal.intent != "security":
                yield Problem(
                    rule="intent contradicts identity",
                    where=where,
                    message=f"{step.operation} needs credentials: identity {step.identity} belongs to intent security",
                )

    # ------------------------------------------------------------------ captures

    def _captures(self, step: ProposedStep, data: StepRequest, problems: Problems) -> tuple[Capture, ...]:
        operation = self._operations[step.operation]
        statuses = expected_statuses(step)
        captures: list[Capture] = []
        for number, proposed in enumerate(step.captures):
            if (refused := self._refused(operation, data, proposed, statuses)) is not None:
                problems.at(f"captures[{number}]").add(*refused)
            else:
                captures.append(Capture(name=proposed.name, source=proposed.source, path=proposed.path))
        return tuple(captures)

    def _refused(
        self, operation: Operation, data: StepRequest, capture: ProposedCapture, statuses: frozenset[int]
    ) -> tuple[str, str] | None:
        """Rule and message of what is wrong with a capture."""
        if not _CAPTURE_NAME.fullmatch(capture.name) or capture.name == "unique":
            return "bad capture", f"{capture.name[:60]!r} is no name for a capture"
        if capture.source == "header":
            if not HEADER_NAME.fullmatch(capture.path) or sensitive(capture.path):
                return "bad capture", f"{capture.path[:60]!r} is no header that may be captured"
        elif capture.source == "body":
            if reason := refusal(capture.path):
                return "bad JSONPath", reason
            schemas = json_schemas(operation, data, statuses)
            if schemas and not reach(capture.path, schemas, self._spec.definitions):
                return "JSONPath cannot match", f"{capture.path} matches nothing in the documented response"
        return None


def _steps(proposal: Proposal) -> Iterator[tuple[str, ProposedStep]]:
    for index, step in enumerate(proposal.steps):
        yield f"steps[{index}]", step
    for index, step in enumerate(proposal.cleanup):
        yield f"cleanup[{index}]", step


def _unknown(key: str) -> str:
    return f"the document has no operation {key[:80]!r}"


def _after_delete(proposal: Proposal, data: Sequence[StepRequest]) -> dict[int, int]:
    """Steps that read what an earlier step deleted -> that step."""
    deleted: dict[tuple[str, str], int] = {}
    reads: dict[int, int] = {}
    for index, step in enumerate(proposal.steps):
        request = data[index].request
        template = step.operation.partition(" ")[2]
        resource = (template, request.path)
        if request.method == "DELETE" and PLACEHOLDER.search(request.path) and not data[index].violations:
            deleted.setdefault(resource, index)
        elif request.method in ("PUT", "POST", "PATCH"):
            deleted.pop(resource, None)
        elif request.method in ("GET", "HEAD") and resource in deleted:
            reads[index] = deleted[resource]
    return reads


def _needed(proposal: Proposal, data: Sequence[StepRequest]) -> set[int]:
    """Steps whose success the rest depends on: they capture, or come before the case's own operation."""
    own = [index for index, step in enumerate(proposal.steps) if step.operation == proposal.operation]
    if proposal.intent in ("negative", "boundary", "security"):
        first_own = next((index for index in own if data[index].violations), own[-1])
    else:
        first_own = own[0]
    return {*range(first_own), *(index for index, step in enumerate(proposal.steps) if step.captures)}


def _may_prepare(checks: Sequence[AnyCheck], data: StepRequest) -> bool:
    """A step that is meant to be refused prepares nothing."""
    refused = any(isinstance(c, StatusIs) and not any(200 <= s < 300 for s in c.any_of) for c in checks)
    return not data.violations and not refused and not any(isinstance(c, IgnoredAuth | UseAfterFree) for c in checks)
