"""A failing case becomes the smallest that fails alike, and stays true about its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack.samples import Sample
from testops_lib import spec as specs
from testops_lib.errors import CaseError
from testops_lib.execute import Engine
from testops_lib.generate.judge import RequestJudge
from testops_lib.model import (
    Capture,
    Case,
    Failure,
    JsonBody,
    NegativeDataRejection,
    NotAServerError,
    Plan,
    Policy,
    Provenance,
    Request,
    Result,
    Step,
    make_case,
)
from testops_lib.run.report import build_report
from testops_lib.run.scope import make_contracts, make_plan
from testops_lib.run.shrink import REGRESSION, attempts, regression, shrink, shrink_findings
from testops_lib.target import Target

ITEM = {
    "type": "object",
    "required": ["name", "price"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "price": {"type": "number", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
        "maker": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "paths": {
        "/items": {
            "post": {
                "parameters": [{"name": "dry", "in": "query", "schema": {"type": "boolean"}}],
                "requestBody": {"required": True, "content": {"application/json": {"schema": ITEM}}},
                "responses": {"201": {"description": ""}},
            }
        },
        "/shelves": {"post": {"responses": {"201": {"description": ""}}}},
    },
}
SPEC = specs.load_bytes(json.dumps(DOCUMENT).encode(), source="t.json")
JUDGE = RequestJudge(SPEC)
BODY = {
    "name": "Ünïcödé 漢字",
    "price": 92.25504123361118,
    "tags": ["a long tag", "another", "third"],
    "maker": {"town": "Berlin"},
}


def a_case(body: Any, *checks: Any, setup: bool = False) -> Case:
    request = Request(method="POST", path="/items", query=(("dry", "true"),), body=JsonBody(value=body))
    before = Step(operation="POST /shelves", request=Request(method="POST", path="/shelves"), setup=True)
    step = Step(operation="POST /items", request=request, checks=checks or (NotAServerError(),))
    return make_case(
        name="a case",
        intent="positive",
        operation="POST /items",
        steps=(before, step) if setup else (step,),
        origin=Provenance(source="property"),
    )


def failure(case: Case, check: str = "not_a_server_error", cause: str = "") -> Failure:
    return Failure(check=check, operation=case.operation, message="answered", cause=cause, step=len(case.steps) - 1)


def target(fails: Callable[[Any], bool], sent: list[Case], **more: Any) -> Callable[[Case], Result]:
    """An API that fails for some bodies; `sent` is what it was asked."""

    def attempt(case: Case) -> Result:
        sent.append(case)
        bad = fails(getattr(case.steps[-1].request.body, "value", None))
        return Result(
            run="r",
            case=case.id,
            verdict="failed" if bad else "passed",
            failures=(failure(case, **more),) if bad else (),
        )

    return attempt


def test_what_has_no_part_in_the_failure_is_left_out() -> None:
    case, sent = a_case(BODY, setup=True), []
    small = shrink(case, failure(case), JUDGE, target(lambda body: bool(body) and "tags" in body, sent))
    assert small is not None and small.complete and small.tried == len(sent) - 1
    (step,) = small.case.steps
    assert step.request.query == () and step.checks == case.steps[-1].checks
    assert isinstance(step.request.body, JsonBody)
    value = step.request.body.value
    assert value["tags"] == [] and set(value) == {"name", "price", "tags"}  # the first two are required
    assert len(value["name"]) == 1 and value["price"] in range(10)
    assert small.case.tags == (REGRESSION,) and small.case.origin.source == "property"


def test_valid_data_stays_valid() -> None:
    case, sent = a_case(BODY), []
    small = shrink(case, failure(case), JUDGE, target(lambda body: True, sent))
    assert small is not None
    assert all(JUDGE.judge("POST /items", each.steps[-1].request).validity == "valid" for each in sent)
    assert isinstance(small.case.steps[-1].request.body, JsonBody)


def test_the_invalid_datum_stays_the_one_that_the_check_names() -> None:
    rejection = NegativeDataRejection(location="body/price", rule="minimum")
    case, sent = a_case({**BODY, "price": -64.125}, rejection), []
    cause = {"check": "negative_data_rejection", "cause": "body/price minimum"}
    small = shrink(case, failure(case, **cause), JUDGE, target(lambda body: True, sent, **cause))
    assert small is not None and isinstance(small.case.steps[-1].request.body, JsonBody)
    value = small.case.steps[-1].request.body.value
    assert value["price"] < 0 and len(json.dumps(value["price"])) <= 3 and value["name"]
    for each in sent:
        assert [fault.place for fault in JUDGE.judge("POST /items", each.steps[-1].request).violations] == [
            "body/price"
        ]


def test_another_failure_is_not_taken_for_the_same() -> None:
    case = a_case(BODY)

    def attempt(other: Case) -> Result:
        found = failure(other, check="not_a_server_error" if other.id == case.id else "status_code_conformance")
        return Result(run="r", case=other.id, verdict="failed", failures=(found,))

    small = shrink(case, failure(case), JUDGE, attempt)
    assert small is not None and small.case == regression(case)


def test_what_no_longer_fails_is_not_shrunk() -> None:
    case, sent = a_case(BODY), []
    assert shrink(case, failure(case), JUDGE, target(lambda body: False, sent)) is None
    assert len(sent) == 1


def test_tries_and_budget_are_limits() -> None:
    case, sent = a_case(BODY), []
    small = shrink(case, failure(case), JUDGE, target(lambda body: True, sent), max_tries=3)
    assert small is not None and not small.complete and small.tried == 3 and len(sent) == 4
    results = iter([target(lambda body: True, sent)(case)])
    spent = shrink(case, failure(case), JUDGE, lambda each: next(results, None))
    assert spent is not None and not spent.complete and spent.case == regression(case)


def test_steps_that_use_what_is_no_longer_made_go_with_it() -> None:
    made = Step(
        operation="POST /shelves",
        request=Request(method="POST", path="/shelves"),
        setup=True,
        captures=(Capture(name="shelf", path="$.id"),),
    )
    last = a_case({"name": "a", "price": 1}).steps[0]
    undo = Step(operation="POST /shelves", request=Request(method="POST", path="/shelves/{shelf}"))
    case = make_case(
        name="n",
        intent="positive",
        operation="POST /items",
        steps=(made, last),
        cleanup=(undo,),
        origin=Provenance(source="property"),
    )
    small = shrink(case, failure(case), JUDGE, target(lambda body: True, []))
    assert small is not None and len(small.case.steps) == 1 and small.case.cleanup == ()


def test_a_regression_case_is_the_same_case() -> None:
    case = a_case(BODY)
    kept = regression(case)
    assert kept.id == case.id and kept.tags == (REGRESSION,) and regression(kept) == kept


def test_a_failure_of_another_case_is_refused() -> None:
    case = a_case(BODY)
    wrong = Failure(check="not_a_server_error", operation=case.operation, message="", step=7)
    with pytest.raises(CaseError, match="no step 7"):
        shrink(case, wrong, JUDGE, target(lambda body: True, []))


@pytest.mark.integration
def test_a_crash_of_the_shop_is_shrunk_by_real_requests_within_the_budget(defective_shop: Sample) -> None:
    spec = specs.load(f"{defective_shop.url}/openapi.json", allow_private=True)
    from testops_lib.target import Target, identities

    token = defective_shop.variables()["TESTOPS_SHOP_ADMIN_TOKEN"]
    users = identities(
        {"auth": [{"name": "staff", "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}]},
        where="test",
        literal_secrets=True,
    )
    policy = Policy(allow_private=True)
    told = Target(name="shop", spec="", base_url=defective_shop.url, identities=users, policy=policy)
    body = {"order_id": 1, "amount": {"much": ["more"]}, "method": "card", "note": "x" * 40}
    step = Step(
        operation="POST /payments",
        checks=(NotAServerError(),),
        request=Request(method="POST", path="/payments", headers=(("X-Odd", "1"),), body=JsonBody(value=body)),
    )
    case = make_case(
        name="n", intent="negative", operation="POST /payments", steps=(step,), origin=Provenance(source="property")
    )
    plan: Plan = make_plan(spec, told)
    engine = Engine(plan, make_contracts(spec, told), run="r", max_requests=60)
    execute = attempts(engine)
    first = execute(case)
    assert first is not None and first.failures, first
    small = shrink(case, first.failures[0], RequestJudge(spec), execute)
    assert small is not None and small.failure.check == "not_a_server_error"
    sent = small.case.steps[-1].request
    assert isinstance(sent.body, JsonBody) and sent.headers == () and "note" not in sent.body.value
    assert len(json.dumps(sent.body.value)) < len(json.dumps(body)) / 2
    assert engine.requests_sent <= 60


def test_findings_of_a_run_get_the_smallest_example(tmp_path: Path) -> None:
    case, sent = a_case(BODY), []
    attempt = target(lambda body: True, sent)
    results = [attempt(case)]
    report = build_report(results, Target(name="t", spec=""), run="r", operations={})
    small, kept = shrink_findings(report, results, [case], SPEC, attempt)
    assert [each.fingerprint for each in small.findings] == [each.fingerprint for each in report.findings]
    assert kept and small.findings[0].example.case == kept[0].id != case.id
    assert small.gate == report.gate and small.totals == report.totals
