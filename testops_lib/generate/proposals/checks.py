"""What a proposed step expects -> its checks, each with the truth about why it may be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from testops_lib.errors import CaseError
from testops_lib.generate.jsonpath import closure, reach, refusal
from testops_lib.generate.proposals.captured import has_captured, has_captured_in, uncaptured_names, uncaptured_names_in
from testops_lib.generate.proposals.document import Expectation, Proposal, ProposedStep, value_json
from testops_lib.generate.proposals.problem import Problems
from testops_lib.generate.proposals.request import (
    HEADER_NAME,
    StepRequest,
    add_uncaptured,
    as_text,
    has_controls,
    unsendable,
)
from testops_lib.generate.proposals.responses import documents, expected_responses, follows, json_schemas
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    SAFE_METHODS,
    AnyCheck,
    Basis,
    ContentTypeConformance,
    HeaderIs,
    IgnoredAuth,
    JsonPathIs,
    NegativeDataRejection,
    NotAServerError,
    PositiveDataAcceptance,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    UseAfterFree,
    Value,
)
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Spec
from testops_lib.verdict.documented import compile_schema, is_json
from testops_lib.verdict.json_values import equal, select

UNIQUE_SAMPLE = "0123456789ab"
"""What stands for `{unique}` while data is validated."""

Quoted = Callable[[Operation, Expectation], str]
"""The sentence of the document that an expectation claims to rest on; "": there is none."""


class Step(Value, frozen=True, kw_only=True):
    """A step whose checks are made."""

    operation: Operation
    data: StepRequest
    captured: frozenset[str]
    """Names that earlier steps capture."""
    statuses: frozenset[int]
    """Which the step expects."""
    anonymous: bool
    """It needs credentials and sends none, or invalid ones."""


def expected_statuses(step: ProposedStep) -> frozenset[int]:
    return frozenset(status for wanted in step.expect if wanted.kind == "status" for status in wanted.statuses)


class CheckMaker:
    """Makes the checks of proposed steps; each schema is compiled once, when first needed.

    `assumed`: what an expectation rests on for which the document gives no reason.
    """

    def __init__(self, spec: Spec, *, values: dict[str, tuple[Any, ...]], assumed: Basis, quoted: Quoted) -> None:
        self._spec, self._values, self._assumed, self._quoted = spec, values, assumed, quoted
        self._operations = {operation.key: operation for operation in spec.operations}
        self._compiled: dict[tuple[str, str], Any] = {}

    def make(
        self,
        proposal: Proposal,
        proposed: ProposedStep,
        data: StepRequest,
        captured: frozenset[str],
        *,
        after_delete: bool,
        problems: Problems,
    ) -> tuple[AnyCheck, ...]:
        """The checks of a step; `after_delete`: it reads what an earlier step deleted."""
        operation = self._operations[proposed.operation]
        step = Step(
            operation=operation,
            data=data,
            captured=captured,
            statuses=expected_statuses(proposed),
            anonymous=operation.protected and proposed.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS),
        )
        checks: list[AnyCheck] = [NotAServerError()]
        if operation.responses:
            checks += [
                StatusCodeConformance(),
                ContentTypeConformance(),
                ResponseHeadersConformance(),
                ResponseSchemaConformance(),
            ]
        refused = step.statuses and not any(200 <= status < 400 for status in step.statuses)
        if step.anonymous:
            checks.append(IgnoredAuth())
        elif data.violations:
            surest = data.violations[0]
            checks.append(
                NegativeDataRejection(
                    location=surest.place, rule=surest.rule, basis="spec" if data.validity == "invalid" else "guess"
                )
            )
        elif after_delete:
            checks.append(UseAfterFree())
        elif proposal.intent == "positive" and not refused:
            also = (404,) if self._may_name_nothing(operation, proposed, captured) else ()
            # a schema does not say all that a body must fulfil, and who proposed this one may have made it up
            firm = data.validity == "valid" and (operation.method in SAFE_METHODS or self._assumed == "human")
            checks.append(PositiveDataAcceptance(also=also, basis="spec" if firm else "guess"))
        for number, wanted in enumerate(proposed.expect):
            check = self._expected(step, wanted, problems.at(f"expect[{number}]"))
            if check is not None and check not in checks:
                checks.append(check)
        return tuple(checks)

    def _may_name_nothing(self, operation: Operation, proposed: ProposedStep, captured: frozenset[str]) -> bool:
        """A path value that is neither captured nor documented nor seen may name nothing."""
        for name, value in proposed.path_params:
            parameter = next(p for p in operation.parameters if p.where == "path" and p.name == name)
            documented = [*parameter.examples, *self._values.get(name, ())]
            if isinstance(parameter.schema, dict):
                documented += [parameter.schema.get("example"), parameter.schema.get("default")]
                documented += list(parameter.schema.get("examples") or ()) + list(parameter.schema.get("enum") or ())
            if not has_captured(value, captured) and value not in {
                str(item) for item in documented if item is not None
            }:
                return True
        return False

    def _expected(self, step: Step, wanted: Expectation, problems: Problems) -> AnyCheck | None:
        quote = self._quoted(step.operation, wanted) if wanted.basis == "description" else ""
        basis: Basis = "description" if quote else self._assumed
        match wanted.kind:
            case "status":
                return _status(step, wanted, basis, quote, problems)
            case "header":
                return _header(step, wanted, basis, quote, problems)
            case "jsonpath":
                return self._json_path(step, wanted, basis, quote, problems)

    def _json_path(
        self, step: Step, wanted: Expectation, basis: Basis, quote: str, problems: Problems
    ) -> AnyCheck | None:
        if reason := refusal(wanted.path):
            problems.add("bad JSONPath", reason)
            return None
        value: Any = None
        if wanted.op not in ("exists", "absent"):
            if wanted.value_json is msgspec.UNSET:
                problems.add("bad expectation", f"{wanted.op} needs value_json")
                return None
            value = _expected_value(wanted, step.captured, problems)
            if value is msgspec.UNSET:
                return None
        if wanted.op in ("min_items", "max_items") and (not isinstance(value, int) or isinstance(value, bool)):
            problems.add("bad expectation", f"{wanted.op} needs a number of items")
            return None
        schemas = json_schemas(step.operation, step.data, step.statuses)
        if schemas and wanted.op != "absent":
            reached = reach(wanted.path, schemas, self._spec.definitions)
            if not reached:
                problems.add("JSONPath cannot match", f"{wanted.path} matches nothing in the documented response")
                return None
            if wanted.op in ("equals", "contains") and not self._possible(step, reached, value):
                shown = as_text(value)[:80]
                problems.add("JSONPath cannot match", f"{wanted.path} is never {shown} in the documented response")
                return None
        if not quote and wanted.basis == "example" and _shown_by_examples(step, wanted, value):
            basis = "example"
        return JsonPathIs(path=wanted.path, op=wanted.op, value=value, basis=basis, quote=quote)

    def _possible(self, step: Step, reached: Sequence[Any], value: Any) -> bool:
        """Whether some schema of `reached` allows the value; values that rest on captures are not judged."""
        if has_captured_in(value, step.captured):
            return True
        for schema in reached:
            validator = self._validator(step.operation.key, schema)
            if validator is None or validator.is_valid(fill(value, {"unique": UNIQUE_SAMPLE})):
                return True
        return False

    def _validator(self, operation: str, schema: Any) -> Any:
        """A compiled schema, or None when no engine can compile it: then its data is not judged."""
        key = (operation, msgspec.json.encode(schema, order="deterministic").decode())
        if key not in self._compiled:
            try:
                self._compiled[key] = compile_schema(
                    {"allOf": [schema], "$defs": closure([schema], self._spec.definitions)}
                )
            except ValueError:
                self._compiled[key] = None
        return self._compiled[key]


def _status(step: Step, wanted: Expectation, basis: Basis, quote: str, problems: Problems) -> AnyCheck | None:
    operation, data = step.operation, step.data
    if not wanted.statuses or not all(100 <= status <= 599 for status in wanted.statuses):
        problems.add("bad status", "statuses are a list of numbers from 100 to 599")
        return None
    if any(status >= 500 for status in wanted.statuses):
        problems.add("expects a server error", "a server error is never expected")
        return None
    accepted = [status for status in wanted.statuses if 200 <= status < 300]
    if accepted and data.validity == "invalid":
        surest = data.violations[0]
        problems.add(
            "intent contradicts data", f"expects {accepted[0]}, but {surest.place} is invalid: {surest.message}"
        )
        return None
    undocumented = [status for status in wanted.statuses if not documents(operation, status)]
    if undocumented and wanted.basis not in ("description", "guess"):
        problems.add("undocumented status", f"{undocumented[0]} is not documented ({', '.join(operation.responses)})")
        return None
    if basis == "guess" and not undocumented and follows(operation, data, wanted.statuses, anonymous=step.anonymous):
        basis = "spec"
    return StatusIs(any_of=tuple(dict.fromkeys(wanted.statuses)), basis=basis, quote=quote)


def _header(step: Step, wanted: Expectation, basis: Basis, quote: str, problems: Problems) -> AnyCheck | None:
    if not HEADER_NAME.fullmatch(wanted.name):
        problems.add("bad header", f"{wanted.name[:60]!r} is no header name")
        return None
    if wanted.equals is not None and has_controls(wanted.equals):
        problems.add("control characters", "a header's value holds no line break")
        return None
    add_uncaptured(uncaptured_names(wanted.equals or "", step.captured), problems)
    documented = {
        name.lower(): header
        for response in expected_responses(step.operation, step.data, step.statuses)
        for name, header in response.headers.items()
    }
    header = documented.get(wanted.name.lower())
    if not quote and wanted.equals is None and header is not None and header.required:
        basis = "spec"
    return HeaderIs(name=wanted.name, equals=wanted.equals, basis=basis, quote=quote)


def _expected_value(wanted: Expectation, captured: frozenset[str], problems: Problems) -> Any:
    """The value that a JSONPath expectation compares with; UNSET with a problem added."""
    try:
        value = value_json(wanted.value_json)
    except ValueError:
        # a bare word is what a model writes for a string
        value = wanted.value_json
    if reason := unsendable(value):
        problems.add("no JSON", reason)
        return msgspec.UNSET
    uncaptured = next(uncaptured_names_in(value, captured - {"unique"}), None)
    if uncaptured is not None:
        add_uncaptured((uncaptured,), problems)
        return msgspec.UNSET
    return value


def _shown_by_examples(step: Step, wanted: Expectation, value: Any) -> bool:
    """The document's own examples of the answer show it: all of them, and there is one."""
    examples = [
        example
        for response in expected_responses(step.operation, step.data, step.statuses)
        for media, content in response.content.items()
        if is_json(media)
        for example in content.examples
    ]
    holds = []
    for example in examples:
        try:
            nodes = select(wanted.path, example)
        except CaseError:
            return False
        match wanted.op:
            case "exists":
                holds.append(bool(nodes))
            case "equals":
                holds.append(len(nodes) == 1 and equal(nodes[0], value))
            case "contains":
                holds.append(any(equal(node, value) for node in nodes))
            case _:
                holds.append(False)
    return bool(holds) and all(holds)
