"""Why a check is advisory: from the table of the rules through the failure to the report."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from testops_lib.doubts import SENTENCES, Doubt, because
from testops_lib.generate.rules.acceptance import DOUBTS, EXCUSES, ValidRequest, acceptance
from testops_lib.generate.rules.draft import Draft
from testops_lib.http.answer import Answer
from testops_lib.model import (
    Case,
    Contract,
    NegativeDataRejection,
    PositiveDataAcceptance,
    Provenance,
    Request,
    ResponseContract,
    Step,
    make_case,
)
from testops_lib.report import render_html, terminal_text
from testops_lib.spec.operation import Operation, Response
from testops_lib.verdict.check import Judge
from tests.testops_lib.report.page import Page
from tests.testops_lib.report.reports import shop_report


def test_every_doubt_has_a_sentence() -> None:
    assert set(SENTENCES) == set(get_args(Doubt)) - {""}
    assert {rule.doubt for rule in DOUBTS if rule.doubt is not None} <= set(SENTENCES)


def test_an_unknown_doubt_is_shown_as_words() -> None:
    assert because("") == "" and because("of_a_later_version") == "of a later version"


MADE = Step(operation="POST /tasks", request=Request(method="POST", path="/tasks"), setup=True)


def valid(
    template: str = "/orders", method: str = "POST", documented: tuple[str, ...] = ("201",), **draft: Any
) -> ValidRequest:
    operation = Operation(
        key=f"{method} {template}",
        method=method,
        path=template,
        responses={status: Response(description="") for status in documented},
    )
    traits = {name: draft.pop(name) for name in ("validity", "chained", "others_delete") if name in draft}
    settings = {"validity": "valid", "chained": False, "others_delete": False, **traits}
    return ValidRequest(draft=Draft(operation=operation, **draft), **settings)


@pytest.mark.parametrize(
    ("request_", "basis", "doubt"),
    [
        (valid(), "spec", ""),
        (valid(example=True), "example", ""),
        (valid(example=True, invented=True), "spec", ""),
        (valid(validity="unsure"), "guess", "unclear_validity"),
        (valid(doubt="guessed_value"), "guess", "guessed_value"),
        (valid(doubt="guessed_value", example=True), "guess", "guessed_value"),
        (valid(dangling=True), "guess", "unlinked_reference"),
        (valid("/orders/{id}/cancel"), "guess", "changing_state"),
        (valid("/orders/{id}/cancel", example=True), "example", ""),
        (valid("/orders/{id}/cancel", "GET"), "spec", ""),
        (valid("/orders/{id}"), "spec", ""),
        (valid("/login"), "guess", "personal_secret"),
        (valid("/login", "GET"), "spec", ""),
    ],
)
def test_the_first_doubt_that_applies_decides_the_basis(request_: ValidRequest, basis: str, doubt: str) -> None:
    check = acceptance(request_)
    assert (check.basis, check.doubt) == (basis, doubt)


@pytest.mark.parametrize(
    ("request_", "also"),
    [
        (valid(documented=("201", "400", "409", "default")), (409,)),
        (valid("/tasks/{id}", "GET", foreign=True), (404, 410)),
        (valid("/tasks/{id}", "GET", listed=True, others_delete=True), (404, 410)),
        (valid("/tasks/{id}", "GET", listed=True), ()),
        (valid("/tasks/{id}/log", "GET", ("200", "404"), path={"id": 1}), (404,)),
        (valid("/tasks/{id}/log", "GET", path={"id": 1}), ()),
        (valid("/tasks", "GET", ("200", "404"), narrowed=True), (404,)),
        (valid("/tasks", "GET", narrowed=True), ()),
        (valid(salted=True), (409,)),
        (valid("/tasks/{id}", "GET", chained=True, setup=(MADE,)), (404, 410)),
        (valid("/tasks/{id}", "GET", chained=True), ()),
        (valid("/orders/{id}/cancel"), (409,)),
    ],
)
def test_statuses_that_a_reason_excuses_are_as_good_as_an_acceptance(
    request_: ValidRequest, also: tuple[int, ...]
) -> None:
    assert acceptance(request_).also == also


def test_every_excuse_says_its_reason_once() -> None:
    assert len({excuse.reason for excuse in EXCUSES}) == len(EXCUSES)


def case(doubt: Doubt) -> Case:
    check = NegativeDataRejection(basis="guess" if doubt else "spec", doubt=doubt)
    step = Step(operation="GET /a", request=Request(method="GET", path="/a"), checks=(check,))
    return make_case(
        name="a", intent="negative", operation="GET /a", steps=(step,), origin=Provenance(source="rules", version="1")
    )


def test_a_doubt_explains_a_case_and_is_no_part_of_its_id() -> None:
    assert case("unchecked_format").id == case("lenient_server").id != case("").id


@pytest.mark.parametrize(
    ("check", "doubt"),
    [
        (PositiveDataAcceptance(), "documented_refusal"),
        (PositiveDataAcceptance(at_limit=True), ""),
        (PositiveDataAcceptance(basis="guess", doubt="free_text"), "free_text"),
        (PositiveDataAcceptance(basis="example"), ""),
    ],
)
def test_a_failure_says_the_doubt_of_its_check_or_of_the_answer(check: PositiveDataAcceptance, doubt: str) -> None:
    judge = Judge({"POST /a": Contract(operation="POST /a", responses={"400": ResponseContract()})})
    step = Step(operation="POST /a", request=Request(method="POST", path="/a"), checks=(check,))
    (failure,) = judge.judge(step, Answer(status=400, headers=(), body=b""), {})
    assert (failure.doubt, failure.basis == "guess") == (doubt, bool(doubt))


def test_an_advisory_finding_says_its_doubt_in_the_terminal_and_on_the_page() -> None:
    report = shop_report()
    advisory = msgspec.structs.replace(report.findings[0], advisory=True, basis="guess", doubt="free_text")
    report = msgspec.structs.replace(report, findings=(advisory,))
    assert "advisory because" in terminal_text(report)
    page = " ".join(Page(render_html(report)).text.split())
    assert "Advisory because a text parameter has no example, default, format or list of values." in page
