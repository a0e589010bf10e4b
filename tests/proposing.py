"""Judges proposed cases against the small document of `generation_specs`, and picks what a test looks at."""

from __future__ import annotations

from typing import Any

from testops_lib.generate.llm.quotes import Quotes
from testops_lib.generate.proposals.validator import Validator
from testops_lib.model import Case, Policy, Provenance, StatusIs
from testops_lib.spec.operation import Spec
from tests.generation_specs import case, pets, step

ORIGIN = Provenance(source="gemini", version="1", model="m", prompt="p")


def validator(spec: Spec | None = None, **changes: Any) -> Validator:
    spec = spec or pets()
    defaults: dict[str, Any] = {
        "policy": Policy(),
        "origin": ORIGIN,
        "identities": ("bob",),
        "quoted": Quotes(spec).quoted,
    }
    return Validator(spec, **(defaults | changes))


def refused_by(raw: Any, spec: Spec | None = None, **changes: Any) -> list[str]:
    """The rules that refuse the proposal; none: it is a case."""
    judged = validator(spec, **changes).check(raw)
    return [] if isinstance(judged, Case) else [problem.rule for problem in judged]


def accepted(raw: Any, spec: Spec | None = None, **changes: Any) -> Case:
    judged = validator(spec, **changes).check(raw)
    assert isinstance(judged, Case), judged
    return judged


def check_of(case: Case, kind: type[Any], *, step: int = 0) -> Any:
    """The first check of that kind."""
    return next(check for check in case.steps[step].checks if isinstance(check, kind))


def status_basis(intent: str, expectation: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Basis and quote of a status expected of `POST /pets`."""
    created = step("POST /pets", expect=[{"kind": "status"} | expectation], **({"body_json": '{"name":"a"}'} | fields))
    check = check_of(accepted(case(intent, created)), StatusIs)
    return check.basis, check.quote
