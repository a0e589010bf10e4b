from __future__ import annotations

import pytest

from testops_lib.http.answer import Answer
from testops_lib.model import (
    AnyCheck,
    Contract,
    EnsureResourceAvailability,
    IgnoredAuth,
    NegativeDataRejection,
    NotAServerError,
    ObjectLevelAuthorization,
    PositiveDataAcceptance,
    Request,
    ResponseContract,
    StatusCodeConformance,
    StatusIs,
    Step,
    UnsupportedMethod,
    UseAfterFree,
)
from testops_lib.verdict.check import Judge


def causes(status: int, *checks: AnyCheck, documented: tuple[str, ...] | None = None) -> list[tuple[str, str]]:
    """Check and cause of each failure."""
    step = Step(operation="GET /a", request=Request(method="GET", path="/a"), checks=checks)
    contracts = {}
    if documented is not None:
        contracts["GET /a"] = Contract(operation="GET /a", responses=dict.fromkeys(documented, ResponseContract()))
    return [(one.check, one.cause) for one in Judge(contracts).judge(step, Answer(status=status), {})]


@pytest.mark.parametrize(
    ("check", "cause"),
    [
        (IgnoredAuth(), "accepted"),
        (ObjectLevelAuthorization(), "accepted"),
        (UnsupportedMethod(), "accepted"),
        (UseAfterFree(), "accessible"),
        (NegativeDataRejection(location="query/limit", rule="maximum"), "query/limit maximum"),
    ],
)
def test_what_must_be_refused_fails_with_any_2xx(check: AnyCheck, cause: str) -> None:
    assert {status: [entry for _, entry in causes(status, check)] for status in (199, 200, 201, 299, 300, 404)} == {
        199: [],
        200: [cause],
        201: [cause],
        299: [cause],
        300: [],
        404: [],
    }


def test_a_resource_that_was_just_created_is_neither_missing_nor_gone() -> None:
    check = EnsureResourceAvailability()
    failing = {status: causes(status, check) for status in (404, 410, 403, 200, 500)}
    wrong = [("ensure_resource_availability", "unavailable")]
    assert failing == {404: wrong, 410: wrong, 403: [], 200: [], 500: []}


def test_valid_data_is_refused_by_4xx_and_5xx_that_say_something_of_the_data() -> None:
    check = PositiveDataAcceptance(also=(418,))
    refused = [status for status in (200, 399, 400, 401, 403, 407, 418, 422, 429, 499) if causes(status, check)]
    assert refused == [400, 422, 499]
    assert causes(400, check) == [("positive_data_acceptance", "status 400")]


def test_a_server_error_begins_at_500() -> None:
    assert causes(499, NotAServerError()) == []
    assert causes(500, NotAServerError()) == [("not_a_server_error", "status 500")]


def test_the_check_that_says_most_speaks_whatever_the_order_of_the_case() -> None:
    checks: tuple[AnyCheck, ...] = (StatusIs(any_of=(204,)), IgnoredAuth(), StatusCodeConformance())
    for order in (checks, checks[::-1]):
        assert causes(200, *order, documented=("204",)) == [("ignored_auth", "accepted")]


@pytest.mark.parametrize(
    ("documented", "status", "cause"),
    [
        (("200", "201", "4XX"), 204, "status 204 in place of 200, 201"),
        (("404",), 204, "status 204"),
        (("200", "404"), 300, "status 300"),
        (("200", "404"), 199, "status 199"),
        (("200", "404"), 299, "status 299 in place of 200"),
        (("200", "4XX"), 404, ""),
        (("2XX",), 299, ""),
        (("default",), 500, ""),
        ((), 200, ""),
    ],
)
def test_an_undocumented_status_is_one_that_no_entry_covers(
    documented: tuple[str, ...], status: int, cause: str
) -> None:
    wanted = [("status_code_conformance", cause)] if cause else []
    assert causes(status, StatusCodeConformance(), documented=documented) == wanted


def test_without_a_contract_and_for_what_the_check_allows_no_status_is_undocumented() -> None:
    assert causes(302, StatusCodeConformance()) == []
    assert causes(302, StatusCodeConformance(also=(302,)), documented=("200",)) == []


def test_a_declared_refusal_weakens_no_other_check() -> None:
    step = Step(operation="GET /a", request=Request(method="GET", path="/a"), checks=(StatusIs(any_of=(200,)),))
    contract = Contract(operation="GET /a", responses={"200": ResponseContract(), "400": ResponseContract()})
    (failure,) = Judge({"GET /a": contract}).judge(step, Answer(status=400), {})
    assert failure.basis == "spec"
