from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testops_lib.model import (
    GateRules,
    ResponseEvidence,
    Result,
)
from testops_lib.verdict.gate import decide
from testops_lib.verdict.reasons import (
    NO_ANSWER_AT_ALL,
    NOT_FOUND_ANYWHERE,
    PAGES_EVERYWHERE,
    REDIRECTED_EVERYWHERE,
    REFUSED_CREDENTIALS,
)
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, report, result, sent, undocumented


def test_operations_whose_failures_a_global_cause_explains_are_not_listed() -> None:
    def refused(case: str, operation: str) -> Result:
        return result(case, undocumented(operation), status=401, operation=operation)

    odd = result("odd", undocumented("GET /odd"), intent="negative", status=400, operation="GET /odd")
    analysis = report(*(refused(f"{n}", list(OPERATIONS)[n % 2]) for n in range(20)), odd)
    assert [(one.count, one.operations) for one in analysis.findings] == [(1, {"GET /odd": 1})]


def test_refused_credentials_are_seen_behind_methods_that_need_none() -> None:
    refused = [result(f"{n}", status=401, operation=list(OPERATIONS)[n % 2]) for n in range(6)]
    preflights = [sent(result(f"o{n}", operation=key), f"OPTIONS {key}") for n, key in enumerate(OPERATIONS)]
    assert report(*refused, *preflights).errors == {REFUSED_CREDENTIALS: 6}


def silent(case: str, operation: str) -> Result:
    return result(case, failure(check="no_answer", cause="closed", operation=operation), status=0, operation=operation)


def test_a_target_that_answers_nothing_is_one_line_and_no_finding() -> None:
    analysis = report(*(silent(f"{n}", list(OPERATIONS)[n % 2]) for n in range(20)), result("ok"))
    assert analysis.findings == () and analysis.errors == {NO_ANSWER_AT_ALL: 20}
    assert analysis.totals.results == {"passed": 1, "failed": 0, "errored": 20, "skipped": 0}
    assert analysis.operations["POST /pets"].results == {"errored": 10}


def test_one_operation_that_breaks_connections_is_a_finding() -> None:
    assert report(*(silent(f"{n}", OPERATION) for n in range(20))).findings[0].count == 20
    some = report(*(silent(f"{n}", list(OPERATIONS)[n % 2]) for n in range(8)), result("a"), result("b"))
    assert len(some.findings) == 2 and some.errors == {}


def test_a_few_silent_cases_are_findings_however_large_their_share() -> None:
    few = [silent(f"{n}", list(OPERATIONS)[n % 2]) for n in range(4)]
    assert len(report(*few).findings) == 2 and report(*few).errors == {}
    assert report(*few, silent("4", OPERATION)).findings == ()


def test_credentials_that_nobody_takes_are_one_line_with_the_hint() -> None:
    def refused(case: str, operation: str) -> Result:
        return result(
            case,
            failure(check="positive_data_acceptance", cause="answered 401", operation=operation),
            failure(check="status_code_conformance", cause="answered 401", operation=operation),
            status=401,
            operation=operation,
        )

    negative = [result(f"n{n}", intent="negative", status=401) for n in range(50)]
    odd = result("odd", failure(check="status_code_conformance", cause="answered 401"), intent="negative", status=401)
    analysis = report(
        *(refused(f"{n}", list(OPERATIONS)[n % 2]) for n in range(20)), *negative, odd, credentials_hint="see --auth"
    )
    assert analysis.errors == {f"{REFUSED_CREDENTIALS}: see --auth": 20}
    (left,) = analysis.findings
    assert (left.check, left.count, left.example.case) == ("status_code_conformance", 1, "odd")
    assert analysis.totals.results == {"passed": 50, "failed": 1, "errored": 20, "skipped": 0}


def test_a_run_that_locked_itself_out_does_not_blame_the_credentials() -> None:
    reason = "locked out: the credentials of ann worked and stopped working, after PUT /users/me answered 200"
    before = [result(f"b{n}", operation=list(OPERATIONS)[n % 2]) for n in range(20)]
    noticed = result("noticed", verdict="errored", reason=reason)
    elsewhere = [  # by a runner that never knew better
        result(
            f"e{n}",
            failure(check="status_code_conformance", cause="answered 401", operation=list(OPERATIONS)[n % 2]),
            status=401,
            operation=list(OPERATIONS)[n % 2],
        )
        for n in range(6)
    ]
    analysis = report(*before, noticed, *elsewhere, credentials_hint="see --auth")
    assert analysis.errors == {reason: 7}
    assert analysis.findings == ()
    gate = decide(analysis, GateRules(max_errored_rate=1))
    assert gate.reasons == (f"global_cause: {reason} (7 cases)",)


def test_documented_401s_to_all_valid_requests_are_no_success() -> None:
    refused = [result(f"{n}", status=401, operation=list(OPERATIONS)[n % 2]) for n in range(6)]
    negative = [result(f"n{n}", intent="negative", status=401) for n in range(4)]
    public = result("p", operation="GET /ping")
    scope = {**OPERATIONS, "GET /ping": ("200",)}
    analysis = report(*refused, *negative, public, operations=scope, credentials_hint="see --auth")
    assert analysis.errors == {f"{REFUSED_CREDENTIALS}: see --auth": 6}
    assert analysis.totals.results == {"passed": 5, "failed": 0, "errored": 6, "skipped": 0}
    assert analysis.operations["POST /pets"].results == {"errored": 3}
    assert not decide(analysis, GateRules()).passed


SCOPE = {**OPERATIONS, "GET /health": ("200",), "PUT /pets/{id}": ("200",)}


def page(status: int = 200) -> ResponseEvidence:
    return ResponseEvidence(status=status, headers=(("content-type", "text/html; charset=utf-8"),), body="<html>")


def everywhere(status: int, response: ResponseEvidence | None = None, scope: Any = SCOPE) -> list[Result]:
    """Every operation answers so: valid requests fail, invalid ones are refused as they should be."""
    made = []
    for number in range(12):
        key = list(scope)[number % len(scope)]
        valid = result(f"{number}", failure(cause=f"status {status}", operation=key), status=status, operation=key)
        steps = tuple(msgspec.structs.replace(step, response=response) for step in valid.steps)
        made.append(msgspec.structs.replace(valid, steps=steps))
        if response is None:
            made.append(result(f"n{number}", status=status, operation=key, intent="negative"))
    return made


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (everywhere(404), NOT_FOUND_ANYWHERE),
        (everywhere(302), REDIRECTED_EVERYWHERE),
        (everywhere(200, page()), PAGES_EVERYWHERE),
        ([*everywhere(200, page()), result("x", verdict="passed", status=405)], PAGES_EVERYWHERE),
    ],
)
def test_a_base_url_that_leads_elsewhere_is_one_cause_and_no_finding(results: list[Result], reason: str) -> None:
    analysis = report(*results, operations=SCOPE)
    ((reason_shown, number),) = analysis.errors.items()
    assert reason_shown.startswith(f"{reason}: ") and analysis.findings == ()
    assert number == analysis.totals.results["errored"] == len(results) - analysis.totals.results["passed"]
    assert analysis.operations["GET /health"].results == {"errored": number // 4}
    assert [line for line in decide(analysis, GateRules()).reasons if line.startswith(f"global_cause: {reason}")]


@pytest.mark.parametrize(
    "results",
    [
        [*everywhere(404), result("ok", operation="GET /health")],
        everywhere(404, scope={key: () for key in SCOPE if "{" in key}),
        everywhere(404, scope={"GET /health": ()}),
        [*everywhere(302), result("ok", operation="GET /health")],
        [
            *everywhere(200, page())[:8],
            *everywhere(200, page(), scope={OPERATION: ()}),
            result("a", operation="GET /b"),
        ],
        [one for one in everywhere(200, page()) if one.operation == OPERATION],
        everywhere(500, page(500)),
        [
            *everywhere(200, page()),
            *(
                msgspec.structs.replace(one, case=f"json {one.case}")
                for one in everywhere(200, ResponseEvidence(status=200, body="{}"))
            ),
        ],
    ],
)
def test_404s_redirects_and_pages_of_single_operations_are_findings(results: list[Result]) -> None:
    analysis = report(*results, operations=SCOPE)
    assert analysis.findings and analysis.errors == {}


def test_401s_of_the_smaller_part_of_the_operations_or_beside_a_2xx_are_results() -> None:
    scope = {**OPERATIONS, "GET /ping": ("200",)}
    few = report(result("a", status=401), result("b", operation="POST /pets"), result("c", operation="GET /ping"))
    assert few.errors == {} and few.totals.results["passed"] == 3
    beside = [result(f"{n}", status=401, operation=key) for n, key in enumerate(scope)]
    let_in = [result(f"in{n}", operation=key) for n, key in enumerate(scope)]
    assert report(*beside, *let_in, operations=scope).errors == {}


def test_nine_tenths_of_the_results_are_nearly_all_and_five_are_enough() -> None:
    def share(silent_cases: int, others: int) -> dict[str, int]:
        broken = [silent(f"{n}", list(OPERATIONS)[n % 2]) for n in range(silent_cases)]
        return report(*broken, *(result(f"ok{n}") for n in range(others))).errors

    assert share(9, 1) == {NO_ANSWER_AT_ALL: 9}
    assert share(8, 1) == {}
    assert share(5, 0) == {NO_ANSWER_AT_ALL: 5}
    assert share(4, 0) == {}


def test_broken_connections_beside_one_reason_for_all_the_rest_are_that_cause() -> None:
    broken = [silent(f"{n}", key) for n, key in enumerate(OPERATIONS)]

    def errored(reason: str) -> list[Result]:
        return [result(f"e{n}", verdict="errored", reason=reason) for n in range(20)]

    assert report(*broken, *errored("connection refused")).errors == {"connection refused": 20, NO_ANSWER_AT_ALL: 2}
    assert report(*broken, *errored("setup failed: POST /pets answered 500")).findings != ()
    assert report(*errored("connection refused")).errors == {"connection refused": 20}


def test_errored_results_are_part_of_those_that_were_executed() -> None:
    broken = [silent(f"{n}", list(OPERATIONS)[n % 2]) for n in range(9)]
    errored = [result(f"e{n}", verdict="errored", reason=f"reason {'abcdef'[n]}") for n in range(2)]
    skipped = [result(f"s{n}", verdict="skipped", reason=f"left out {'abcdef'[n]}") for n in range(6)]
    assert NO_ANSWER_AT_ALL in report(*broken, *skipped).errors
    assert NO_ANSWER_AT_ALL not in report(*broken, *errored).errors


def test_pages_of_nine_tenths_of_the_operations_are_one_cause_from_five_answers_on() -> None:
    def pages(operations: int, others: int, answers: int = 1) -> bool:
        scope: dict[str, tuple[str, ...]] = {f"GET /{n}": ("200",) for n in range(operations + others)}
        shown = [
            with_response(result(f"{key} {n}", failure(operation=key), operation=key), page())
            for key in list(scope)[:operations]
            for n in range(answers)
        ]
        plain = [result(key, operation=key) for key in list(scope)[operations:]]
        return bool(report(*shown, *plain, operations=scope).errors)

    assert pages(9, 1) and not pages(8, 1)
    assert pages(5, 0) and not pages(4, 0)
    assert pages(2, 0, answers=3) and not pages(2, 0, answers=2)


def with_response(given: Result, response: ResponseEvidence) -> Result:
    steps = tuple(msgspec.structs.replace(step, response=response) for step in given.steps)
    return msgspec.structs.replace(given, steps=steps)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_redirect_leads_elsewhere(status: int) -> None:
    assert next(iter(report(*everywhere(status), operations=SCOPE).errors)).startswith(REDIRECTED_EVERYWHERE)


@pytest.mark.parametrize("status", [300, 304, 405])
def test_other_answers_to_everything_are_findings(status: int) -> None:
    assert report(*everywhere(status), operations=SCOPE).findings != ()


def test_what_to_do_about_a_wrong_base_url_is_asked() -> None:
    assert list(report(*everywhere(404), operations=SCOPE).errors) == [
        "404 to everything: is the path of the base URL right?"
    ]
    assert list(report(*everywhere(302), operations=SCOPE).errors) == [
        "a redirect to everything: are scheme, host and path of the base URL right, or is a login asked for?"
    ]
    assert list(report(*everywhere(200, page()), operations=SCOPE).errors) == [
        "an HTML page to everything: does the base URL lead to the API, or to its web pages?"
    ]


def test_half_of_the_operations_behind_a_401_are_not_most_of_them() -> None:
    keys = [f"GET /{n}" for n in range(4)]
    scope: dict[str, tuple[str, ...]] = {key: ("200", "401") for key in keys}
    refused = [result(f"{key} 401", status=401, operation=key) for key in keys]

    def passed(count: int, others: int = 404) -> int:
        open_ones = [result(f"{key} ok", operation=key) for key in keys[count:]]
        return report(*refused[:count], *open_ones, operations=scope).totals.results["passed"]

    assert passed(2) == 4 and passed(3) == 1
    assert report(refused[0], operations=scope).totals.results["passed"] == 1, "one operation alone"
