from __future__ import annotations

import random
import string
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testops_lib.model import (
    Basis,
    Cost,
    Failure,
    Finding,
    GateRules,
    Generation,
    Intent,
    Left,
    Report,
    RequestEvidence,
    ResponseEvidence,
    Result,
    StepOutcome,
    VerdictName,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.attempts import settle
from testops_lib.verdict.fingerprint import fingerprint, normalise
from testops_lib.verdict.gate import decide
from testops_lib.verdict.reasons import (
    NO_ANSWER_AT_ALL,
    NOT_FOUND_ANYWHERE,
    PAGES_EVERYWHERE,
    REDIRECTED_EVERYWHERE,
    REFUSED_CREDENTIALS,
)
from testops_lib.verdict.tally import MOST_CAUSES

OPERATION = "GET /pets/{id}"
OPERATIONS = {OPERATION: ("200", "404"), "POST /pets": ("201",)}


def failure(check: str = "not_a_server_error", cause: str = "answered 500", **more: Any) -> Failure:
    return Failure(check=check, operation=more.pop("operation", OPERATION), message=cause, cause=cause, **more)


def result(
    case: str,
    *failures: Failure,
    verdict: VerdictName | None = None,
    status: int = 200,
    steps: int = 1,
    operation: str = OPERATION,
    elapsed_ms: float = 5,
    intent: Intent = "positive",
    reason: str = "",
) -> Result:
    request = RequestEvidence(method="GET", url=f"http://127.0.0.1/{case}") if failures else None
    outcome = StepOutcome(operation=operation, status=status, elapsed_ms=elapsed_ms, request=request)
    return Result(
        run="r2",
        case=case,
        case_name=f"case {case}",
        operation=operation,
        intent=intent,
        reason=reason,
        verdict=verdict or ("failed" if failures else "passed"),
        failures=failures,
        steps=(outcome,) * steps,
        requests=steps,
    )


def origin_of(given: Result, source: str) -> Result:
    return msgspec.structs.replace(given, origin=source)


def report(*results: Result, **more: Any) -> Report:
    return analyze(results, target="t", run="r2", **{"operations": OPERATIONS, **more})


# ------------------------------------------------------------------------ fingerprints


def test_fingerprint_is_16_hex_digits_and_parts_do_not_run_together() -> None:
    assert fingerprint("a", "b", "c") == fingerprint("a", "b", "c")
    assert set(fingerprint("a", "b", "c")) <= set("0123456789abcdef") and len(fingerprint("", "", "")) == 16
    assert len({fingerprint("a", "bc", "d"), fingerprint("ab", "c", "d"), fingerprint("a", "b", "cd")}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pet 17 not found", "pet 4711 not found"),
        ("id 6f1c2d3e-0000-4000-8000-aaaaaaaaaaaa is gone", "id 0f1c2d3e-1111-4000-9000-bbbbbbbbbbbb is gone"),
        ("at 2026-01-02T03:04:05Z it failed", "at 2027-11-12T13:14:15.123+02:00 it failed"),
        ("connect to 10.0.0.1:8080 refused", "connect to 192.168.3.44:9000 refused"),
        ("GET http://a.example:80/x failed", "GET http://b.example/x failed"),
        ('"abc" is too long', '"abd\\"e" is too long'),
        ("value 'x' is not allowed", "value 'something else' is not allowed"),
        ("$.items[3].price is missing", "$.items[12].price is missing"),
        ("body/items/3/price: wrong", "body/items/12/price: wrong"),
        ("token 5f2ab9c0de11 expired", "token 77aa00ff19cd2e expired"),
        ("took 2,140.5 ms", "took 12 ms"),
    ],
)
def test_what_varies_is_folded(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("answered 500", "answered 404"),
        ("status code 201 is not documented", "status code 302 is not documented"),
        ("$.items is missing", "$.total is missing"),
        ("doesn't fit, isn't right", "doesn't suit, isn't right"),
    ],
)
def test_what_tells_causes_apart_stays(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@settings(max_examples=300)
@given(st.text() | st.text(alphabet=string.digits + "abc-:./'\"`[]#* @T,e+status", max_size=60))
@example("'" * 2_000)
@example('"' + "\\" * 1_999)
def test_normalising_twice_changes_nothing_more(message: str) -> None:
    once = normalise(message)
    assert len(once) <= 300
    assert normalise(once) == once


def test_hostile_messages_are_normalised_quickly() -> None:
    import time

    started = time.process_time()
    for text in ("a." * 50_000, "1-" * 50_000, "a" * 100_000, "'a\\" * 30_000, "http://" * 10_000, "0a" * 50_000):
        normalise(text)
    assert time.process_time() - started < 1


# ------------------------------------------------------------------------ findings


def test_one_finding_per_operation_check_and_cause() -> None:
    found = report(
        result("1", failure(), status=500),
        result("2", failure(), status=500),
        result("3", failure(cause="answered 503")),
        result("4", failure(check="status_code_conformance")),
        result("5"),
    )
    assert sorted((one.check, one.count) for one in found.findings) == [
        ("not_a_server_error", 1),
        ("not_a_server_error", 2),
        ("status_code_conformance", 1),
    ]
    assert found.totals.findings == 3 and found.totals.results == {"passed": 1, "failed": 4, "errored": 0, "skipped": 0}


def undocumented(operation: str, **more: Any) -> Failure:
    return failure("status_code_conformance", "status 400", shared=True, operation=operation, **more)


def test_one_cause_is_one_finding_with_its_operations_listed_and_counted() -> None:
    gone, kept = "DELETE /pets/{id}", "PUT /pets/{id}"
    found = report(
        result("1", undocumented(gone)),
        result("2", undocumented(gone)),
        result("3", undocumented(kept)),
        result("4", undocumented(OPERATION), undocumented(gone)),
        result("5", failure()),
        result("6", failure(operation="POST /pets")),
    )
    folded = [one for one in found.findings if one.check == "status_code_conformance"]
    assert [(one.count, one.operations) for one in folded] == [(4, {gone: 3, OPERATION: 1, kept: 1})]
    assert list(folded[0].operations) == [gone, OPERATION, kept] and folded[0].operation == gone
    apart = [one.operations for one in found.findings if one.check == "not_a_server_error"]
    assert apart == [{OPERATION: 1}, {"POST /pets": 1}], "server errors that say nothing of their cause"


def test_a_finding_of_many_operations_lives_on_while_they_come_and_go() -> None:
    first, second = undocumented(OPERATION), undocumented("POST /pets")
    (before,) = report(result("1", first), result("2", second)).findings
    known = {before.fingerprint: "r1"}
    for shown in ([result("1", first)], [result("2", second)], [result("3", undocumented("GET /new"))]):
        (now,) = report(*shown, first_seen=known, previous=[before]).findings
        assert (now.fingerprint, now.state) == (before.fingerprint, "known")
    muted = report(result("2", second), muted={before.fingerprint})
    assert [one.state for one in muted.findings] == ["muted"]


def test_a_finding_of_many_operations_is_fixed_when_all_had_their_chance() -> None:
    before = report(result("1", undocumented(OPERATION)), result("2", undocumented("POST /pets"))).findings
    one, other = result("1"), result("2", operation="POST /pets")
    assert report(one, previous=before).findings == (), "the other operation was not executed"
    assert [finding.state for finding in report(one, other, previous=before).findings] == ["fixed"]
    without = {OPERATION: ("200",)}
    assert [finding.state for finding in report(one, previous=before, operations=without).findings] == ["fixed"]


def test_server_errors_to_methods_that_nobody_offers_are_one_finding() -> None:
    probes = [
        sent(result(f"{n}", failure(cause="status 500", operation=key), operation=key, status=500), f"{method} {key}")
        for n, (key, method) in enumerate((key, method) for key in OPERATIONS for method in ("TRACE", "PATCH"))
    ]
    (finding,) = report(*probes).findings
    assert finding.operations == dict.fromkeys(OPERATIONS, 2)


def test_operations_whose_failures_a_global_cause_explains_are_not_listed() -> None:
    def refused(case: str, operation: str) -> Result:
        return result(case, undocumented(operation), status=401, operation=operation)

    odd = result("odd", undocumented("GET /odd"), intent="negative", status=400, operation="GET /odd")
    found = report(*(refused(f"{n}", list(OPERATIONS)[n % 2]) for n in range(20)), odd)
    assert [(one.count, one.operations) for one in found.findings] == [(1, {"GET /odd": 1})]


def test_a_result_that_shows_a_finding_twice_counts_once() -> None:
    assert report(result("1", failure(), failure())).findings[0].count == 1


def test_a_result_delivered_twice_counts_once() -> None:
    one = result("1", failure())
    found = report(one, one)
    assert (found.totals.cases, found.findings[0].count, found.totals.requests) == (1, 1, 1)


def test_without_a_cause_the_normalised_message_tells_findings_apart() -> None:
    def said(text: str) -> Failure:
        return Failure(check="jsonpath", operation=OPERATION, message=text)

    found = report(result("1", said("item 3 is gone")), result("2", said("item 4 is gone")), result("3", said("other")))
    assert sorted(one.count for one in found.findings) == [1, 2]


def test_the_example_is_the_shortest_case_with_its_curl_line() -> None:
    found = report(result("long", failure(), steps=3), result("short", failure()), result("longer", failure(), steps=4))
    example = found.findings[0].example
    assert (example.case, example.case_name, len(example.steps)) == ("short", "case short", 1)
    assert example.curl == "curl -i --url http://127.0.0.1/short"


def test_the_curl_line_is_the_failing_step_s() -> None:
    steps = tuple(
        StepOutcome(operation=OPERATION, status=200, request=RequestEvidence(method="GET", url=f"http://h/{n}"))
        for n in range(3)
    )
    one = msgspec.structs.replace(result("1", failure(step=1)), steps=steps)
    assert report(one).findings[0].example.curl == "curl -i --url http://h/1"
    nowhere = msgspec.structs.replace(result("1", failure(step=9)), steps=steps)
    assert report(nowhere).findings[0].example.curl == ""


@pytest.mark.parametrize(
    ("bases", "basis", "advisory"),
    [
        (("guess", "guess"), "guess", True),
        (("guess", "description"), "description", False),
        (("description", "spec"), "spec", False),
        (("spec", "human"), "human", False),
    ],
)
def test_a_finding_is_advisory_only_when_all_of_it_is_guessed(
    bases: tuple[Basis, ...], basis: Basis, advisory: bool
) -> None:
    for order in (bases, bases[::-1]):
        found = report(*(result(f"{n}", failure(basis=one, quote=one)) for n, one in enumerate(order))).findings[0]
        assert (found.basis, found.advisory, found.quote) == (basis, advisory, basis)


def test_most_severe_first() -> None:
    """Crashes and data exposure, then server errors, authentication, lost data, then contracts, then documentation."""
    cases = [
        ("status_code_conformance", "documentation", "spec"),
        ("jsonpath", "contract", "spec"),
        ("ignored_auth", "authentication", "spec"),
        ("not_a_server_error", "guessed", "guess"),
        ("not_a_server_error", "server error", "spec"),
        ("use_after_free", "known", "spec"),
        ("use_after_free", "muted", "spec"),
        ("object_level_authorization", "exposure", "spec"),
        ("no_answer", "crash", "spec"),
        ("use_after_free", "stale", "spec"),
    ]
    results = [result(cause, failure(check=check, cause=cause, basis=basis)) for check, cause, basis in cases]
    key = {cause: fingerprint(OPERATION, check, cause) for check, cause, _ in cases}
    found = report(*results, first_seen={key["known"]: "r1"}, muted={key["muted"]})
    assert [(one.message, one.severity) for one in found.findings] == [
        ("crash", "critical"),
        ("exposure", "critical"),
        ("server error", "high"),
        ("authentication", "high"),
        ("stale", "high"),
        ("known", "high"),
        ("contract", "medium"),
        ("documentation", "low"),
        ("guessed", "high"),
        ("muted", "high"),
    ]
    assert [one.state for one in found.findings if one.message in ("known", "muted")] == ["known", "muted"]


def test_new_known_and_fixed_against_the_previous_run() -> None:
    before = analyze(
        [
            result("1", failure(cause="stays")),
            result("2", failure(cause="goes")),
            result("3", failure(cause="unasked", operation="POST /pets")),
        ],
        target="t",
        run="r1",
        operations=OPERATIONS,
    )
    now = report(
        result("1", failure(cause="stays")),
        result("4", failure(cause="comes")),
        previous=before.findings,
        previous_run="r1",
        first_seen={one.fingerprint: "r1" for one in before.findings},
    )
    states = {one.message: (one.state, one.count, one.first_seen_run) for one in now.findings}
    assert states == {"stays": ("known", 1, "r1"), "comes": ("new", 1, "r2"), "goes": ("fixed", 0, "r1")}
    assert now.totals.findings == 2 and now.findings[-1].state == "fixed" and now.previous_run == "r1"


def test_nothing_is_fixed_when_the_operation_did_not_answer() -> None:
    before = report(result("1", failure())).findings
    errored = result("2", verdict="errored", status=0, reason="timeout")
    assert report(errored, previous=before).findings == ()
    broken = result("3", failure(check="no_answer", cause="closed"), status=0)
    assert [one.check for one in report(broken, previous=before).findings] == ["no_answer"]


def test_nothing_is_fixed_when_no_case_about_the_operation_was_judged() -> None:
    """It answered as a step of others' cases, and its own cases could not be executed."""
    before = report(result("1", failure())).findings
    beside = msgspec.structs.replace(result("2"), operation="POST /pets")
    assert report(beside, previous=before).findings == ()
    assert report(beside, result("3", verdict="errored"), previous=before).findings == ()
    assert [one.state for one in report(beside, result("3"), previous=before).findings] == ["fixed"]


def test_what_only_quarantined_cases_show_is_advisory() -> None:
    aside = report(result("1", failure()), quarantined={"1"})
    assert [finding.advisory for finding in aside.findings] == [True] and aside.totals.advisory == 1
    both = report(result("1", failure()), result("2", failure()), quarantined={"1"})
    assert [finding.advisory for finding in both.findings] == [False]
    guessed = report(result("1", failure()), result("2", failure(basis="guess")), quarantined={"1"})
    assert [finding.advisory for finding in guessed.findings] == [True]


def test_a_run_analysed_again_keeps_its_findings_new() -> None:
    first = report(result("1", failure()))
    again = report(result("1", failure()), first_seen={first.findings[0].fingerprint: "r2"}, previous=first.findings)
    assert again == first


def test_the_order_of_results_does_not_matter() -> None:
    bases: list[Basis] = ["guess", "spec", "description", "human"]
    results = [result(f"e{n}", verdict="errored", reason=f"timeout {n}") for n in range(5)]
    for n in range(40):
        shown = failure(cause=f"cause {n % 3}", basis=bases[n % 4], quote=f"q{n % 5}")
        results.append(result(f"{n}", shown, steps=1 + n % 2, elapsed_ms=n))
    expected = report(*results)
    for seed in range(5):
        random.Random(seed).shuffle(results)
        assert report(*results) == expected


def test_many_causes_share_one_finding_in_the_end() -> None:
    found = report(*(result(f"{n}", failure(cause=f"cause {n}")) for n in range(MOST_CAUSES + 30)))
    assert len(found.findings) == MOST_CAUSES + 1
    assert max(one.count for one in found.findings) == 30
    assert sum(one.count for one in found.findings) == found.totals.results["failed"]


# ------------------------------------------------------------------------ totals and operations


def test_every_operation_in_scope_is_listed_called_or_not() -> None:
    found = report(result("1"), result("2", status=404), result("3", verdict="errored", status=0, reason="timeout"))
    pets = found.operations[OPERATION]
    assert pets.statuses == {"200": 1, "404": 1, "none": 1} and pets.success_seen
    assert pets.results == {"passed": 2, "errored": 1} and (pets.cases, pets.requests) == (3, 3)
    assert found.operations["POST /pets"].documented == ("201",) and not found.operations["POST /pets"].success_seen
    assert (found.totals.operations, found.totals.operations_with_2xx) == (2, 1)
    assert found.errors == {"timeout": 1}


def sent(given: Result, instead: str) -> Result:
    steps = tuple(msgspec.structs.replace(step, sent=instead) for step in given.steps)
    failures = tuple(msgspec.structs.replace(one, sent=instead) for one in given.failures)
    return msgspec.structs.replace(given, steps=steps, failures=failures)


def test_a_2xx_to_another_method_or_path_is_no_coverage() -> None:
    probes = [result("1", status=404), sent(result("2"), "OPTIONS /pets/{id}"), sent(result("3"), "GET /pets/")]
    found = report(*probes)
    pets = found.operations[OPERATION]
    assert (pets.statuses, pets.success_seen, pets.requests, pets.latency_ms) == ({"404": 1}, False, 3, {})
    assert found.totals.operations_with_2xx == 0 and "OPTIONS /pets/{id}" not in found.operations
    assert not decide(found, GateRules(min_operations_2xx=0.5)).passed
    documented = report(*probes, operations={**OPERATIONS, "OPTIONS /pets/{id}": ("200",)})
    assert documented.operations["OPTIONS /pets/{id}"].success_seen, "it is an operation of the document itself"


def test_refused_credentials_are_seen_behind_methods_that_need_none() -> None:
    refused = [result(f"{n}", status=401, operation=list(OPERATIONS)[n % 2]) for n in range(6)]
    preflights = [sent(result(f"o{n}", operation=key), f"OPTIONS {key}") for n, key in enumerate(OPERATIONS)]
    assert report(*refused, *preflights).errors == {REFUSED_CREDENTIALS: 6}


def test_what_another_method_was_answered_is_a_finding_that_names_it() -> None:
    probe = sent(result("1", failure(cause="answered 500"), status=500), "PATCH /pets/{id}")
    found = report(probe, result("2", failure(cause="answered 500"), status=500)).findings
    assert sorted(finding.sent for finding in found) == ["", "PATCH /pets/{id}"]
    assert {finding.operation for finding in found} == {OPERATION}
    assert len({finding.fingerprint for finding in found}) == 2
    stale = failure("use_after_free", "accessible")
    assert len(report(result("1", stale), sent(result("2", stale), "HEAD /pets/{id}")).findings) == 2


def test_the_example_of_a_slow_operation_is_an_answer_of_its_own() -> None:
    usual = [{OPERATION: 5.0}] * 10
    answers = [result(f"{n}", elapsed_ms=900 + n) for n in range(40)]
    probe = sent(result("probe", elapsed_ms=5_000), "OPTIONS /pets/{id}")
    (slow,) = report(*answers, probe, history=usual).findings
    assert (slow.check, slow.example.case) == ("response_time_history", "39")


def test_an_operation_out_of_scope_is_listed_but_not_counted() -> None:
    found = report(result("1", operation="PUT /other"))
    assert "PUT /other" in found.operations
    assert (found.totals.operations, found.totals.operations_with_2xx) == (2, 0)
    assert report(result("1", operation="PUT /other"), operations={}).totals.operations == 1


def test_operations_that_could_not_be_planned_are_listed_with_the_reason_and_counted() -> None:
    reasons = {"POST /pets": "no valid request could be made", "PUT /broken": "its parameters cannot be read"}
    found = report(result("1"), not_tested=reasons)
    assert {key: one.not_tested for key, one in found.operations.items() if one.not_tested} == reasons
    assert (found.totals.operations, found.totals.operations_not_tested) == (3, 2)
    executed = report(result("1", operation="POST /pets"), not_tested=reasons)
    assert executed.operations["POST /pets"].not_tested == "" and executed.totals.operations_not_tested == 1


def test_latency_is_of_successful_answers_only() -> None:
    fast = [result(f"{n}", elapsed_ms=n) for n in range(1, 101)]
    slow = [result("x", status=404, elapsed_ms=9_000), result("y", status=0, verdict="errored", elapsed_ms=9_000)]
    latency = report(*fast, *slow).operations[OPERATION].latency_ms
    assert latency == {"p50": 50.5, "p95": 95.05, "p99": 99.01, "max": 100}
    assert report(*slow).operations[OPERATION].latency_ms == {}


def test_no_results_give_a_whole_report() -> None:
    found = report(generation=(Generation(source="rules", cases=3),), title="Pets", base_url="http://h")
    assert found.totals.results == {"passed": 0, "failed": 0, "errored": 0, "skipped": 0}
    assert found.totals.cases == 0 and found.findings == () and found.generation[0].cases == 3
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_a_case_without_a_result_is_counted_apart() -> None:
    found = report(*(result(f"{n}", verdict="errored", reason="no_result", steps=0) for n in range(3)))
    assert found.totals.no_result == 3 and found.errors == {"no_result": 3}


def test_reasons_that_differ_in_ids_are_one_line() -> None:
    found = report(
        *(result(f"{n}", verdict="skipped", reason=f"setup failed: POST /pets/{n} answered 500") for n in range(9))
    )
    assert found.errors == {"setup failed: POST /pets/# answered 500": 9}


# ------------------------------------------------------------------------ global causes


def silent(case: str, operation: str) -> Result:
    return result(case, failure(check="no_answer", cause="closed", operation=operation), status=0, operation=operation)


def test_a_target_that_answers_nothing_is_one_line_and_no_finding() -> None:
    found = report(*(silent(f"{n}", list(OPERATIONS)[n % 2]) for n in range(20)), result("ok"))
    assert found.findings == () and found.errors == {NO_ANSWER_AT_ALL: 20}
    assert found.totals.results == {"passed": 1, "failed": 0, "errored": 20, "skipped": 0}
    assert found.operations["POST /pets"].results == {"errored": 10}


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
    found = report(
        *(refused(f"{n}", list(OPERATIONS)[n % 2]) for n in range(20)), *negative, odd, credentials_hint="see --auth"
    )
    assert found.errors == {f"{REFUSED_CREDENTIALS}: see --auth": 20}
    (left,) = found.findings
    assert (left.check, left.count, left.example.case) == ("status_code_conformance", 1, "odd")
    assert found.totals.results == {"passed": 50, "failed": 1, "errored": 20, "skipped": 0}


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
    found = report(*before, noticed, *elsewhere, credentials_hint="see --auth")
    assert found.errors == {reason: 7}
    assert found.findings == ()
    gate = decide(found, GateRules(max_errored_rate=1))
    assert gate.reasons == (f"global_cause: {reason} (7 cases)",)


def test_documented_401s_to_all_valid_requests_are_no_success() -> None:
    refused = [result(f"{n}", status=401, operation=list(OPERATIONS)[n % 2]) for n in range(6)]
    negative = [result(f"n{n}", intent="negative", status=401) for n in range(4)]
    public = result("p", operation="GET /ping")
    scope = {**OPERATIONS, "GET /ping": ("200",)}
    found = report(*refused, *negative, public, operations=scope, credentials_hint="see --auth")
    assert found.errors == {f"{REFUSED_CREDENTIALS}: see --auth": 6}
    assert found.totals.results == {"passed": 5, "failed": 0, "errored": 6, "skipped": 0}
    assert found.operations["POST /pets"].results == {"errored": 3}
    assert not decide(found, GateRules()).passed


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
    found = report(*results, operations=SCOPE)
    ((told, number),) = found.errors.items()
    assert told.startswith(f"{reason}: ") and found.findings == ()
    assert number == found.totals.results["errored"] == len(results) - found.totals.results["passed"]
    assert found.operations["GET /health"].results == {"errored": number // 4}
    assert [line for line in decide(found, GateRules()).reasons if line.startswith(f"global_cause: {reason}")]


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
    found = report(*results, operations=SCOPE)
    assert found.findings and found.errors == {}


def test_401s_of_the_smaller_part_of_the_operations_or_beside_a_2xx_are_results() -> None:
    scope = {**OPERATIONS, "GET /ping": ("200",)}
    few = report(result("a", status=401), result("b", operation="POST /pets"), result("c", operation="GET /ping"))
    assert few.errors == {} and few.totals.results["passed"] == 3
    beside = [result(f"{n}", status=401, operation=key) for n, key in enumerate(scope)]
    let_in = [result(f"in{n}", operation=key) for n, key in enumerate(scope)]
    assert report(*beside, *let_in, operations=scope).errors == {}


def test_attempts_of_a_case_count_once_each_and_the_case_once() -> None:
    first, second = result("1"), msgspec.structs.replace(result("1"), attempt=2)
    found = report(first, second, second, first, msgspec.structs.replace(first, attempt=3))
    assert (found.totals.cases, found.totals.requests, found.totals.results["passed"]) == (1, 3, 3)


def test_memory_holds_one_example_a_finding() -> None:
    import tracemalloc

    def stream() -> Any:
        for number in range(3_000):
            one = result(f"{number:032x}", failure(cause=f"cause {number % 5}"))
            evidence = RequestEvidence(method="GET", url="http://h/", body=f"{number}" + "x" * 4_000, body_bytes=4_000)
            yield msgspec.structs.replace(one, steps=(msgspec.structs.replace(one.steps[0], request=evidence),))

    report(result("warm"))
    tracemalloc.start()
    found = analyze(stream(), target="t", run="r", operations=OPERATIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.totals.cases == 3_000 and isinstance(found.findings[0], Finding)
    assert peak < 3_000_000  # all evidence would be 12 MB


# ------------------------------------------------------------------------ several attempts


def attempts(*verdicts: VerdictName, case: str = "a") -> list[Result]:
    made = [result(case, *((failure(),) if one == "failed" else ()), verdict=one) for one in verdicts]
    return [msgspec.structs.replace(one, attempt=number) for number, one in enumerate(made, 1)]


@pytest.mark.parametrize(
    ("given", "speaks", "passed_again"),
    [
        (attempts("passed"), 1, 0),
        (attempts("failed", "passed"), 1, 2),
        (attempts("failed", "errored"), 1, 0),
        (attempts("failed", "failed"), 2, 0),
        (attempts("failed", "passed", "failed"), 3, 0),
        (attempts("failed", "errored", "passed"), 1, 3),
        (attempts("errored", "passed"), 2, 0),
        (attempts("skipped", "errored"), 2, 0),
        (attempts("passed", "errored"), 1, 0),
    ],
)
def test_a_failure_speaks_for_its_case_and_a_later_pass_is_noted(
    given: list[Result], speaks: int, passed_again: int
) -> None:
    (settled,) = settle(given)
    assert (settled.attempt, settled.passed_again) == (speaks, passed_again)


verdict_lists = st.lists(st.sampled_from(["passed", "failed", "errored", "skipped"]), min_size=1, max_size=5)


@given(st.lists(verdict_lists, max_size=6))
def test_one_result_for_each_case_and_no_failure_is_lost(given: list[list[VerdictName]]) -> None:
    cases = {str(number): verdicts for number, verdicts in enumerate(given)}
    settled = list(settle(one for case, verdicts in cases.items() for one in attempts(*verdicts, case=case)))
    assert [one.case for one in settled] == list(cases)
    assert all((one.verdict == "failed") == ("failed" in cases[one.case]) for one in settled)


def test_a_finding_that_always_passed_again_says_so_and_still_blocks() -> None:
    settled = list(settle([*attempts("failed", "passed"), *attempts("failed", "passed", case="b")]))
    (finding,) = report(*settled).findings
    assert (finding.passed_again, finding.count) == (2, 2)
    assert not decide(report(*settled, result("c")), GateRules()).passed
    (lasting,) = report(*settled, *settle(attempts("failed", "failed", case="c"))).findings
    assert lasting.passed_again == 0


# --------------------------------------------------------------------------- price


def test_the_price_is_set_against_the_confirmed_findings_of_its_source() -> None:
    """Advisory findings, and those whose example another source made, are not counted."""
    results = [
        origin_of(result("c1", failure()), "gemini"),
        origin_of(result("c2", failure("ignored_auth")), "rules"),
        origin_of(result("c3", failure("status", "guessed wrong", basis="guess")), "gemini"),
    ]
    share = Cost(calls=0.5, input_tokens=500, output_tokens=50, money=0.1)
    made = Generation(
        source="gemini",
        calls=2,
        input_tokens=2000,
        output_tokens=200,
        money=0.4,
        currency="USD",
        operations={OPERATION: share, "POST /pets": share},
    )
    again = msgspec.structs.replace(made, operations={OPERATION: share})
    operations = {**OPERATIONS, "GET /other": ()}
    found = report(*results, generation=(Generation(source="rules", cases=3), made, again), operations=operations)
    assert len(found.findings) == 3 and list(found.costs) == ["gemini"] and found.currency == "USD"
    cost = found.costs["gemini"]
    assert (cost.calls, cost.money, cost.findings) == (4, pytest.approx(0.8), 1)
    assert (cost.money_per_finding, cost.tokens_per_finding) == (pytest.approx(0.8), 4400)
    about = found.operations[OPERATION].cost
    assert about is not None and (about.calls, about.input_tokens) == (1, 1000)
    assert found.operations["GET /other"].cost is None


def test_an_unknown_price_leaves_tokens_and_no_finding_leaves_no_price_for_each() -> None:
    made = Generation(source="openai", calls=1, input_tokens=10, output_tokens=2)
    cost = report(generation=(made,)).costs["openai"]
    assert (cost.money, cost.findings, cost.money_per_finding, cost.tokens_per_finding) == (None, 0, None, None)


def test_what_is_left_behind_is_counted_by_operation_repetitions_included() -> None:
    order = Left(operation="POST /orders", count=1, why="no DELETE documented")
    kept = [msgspec.structs.replace(result(f"c{n}"), left=(order,), withheld=n) for n in range(3)]
    again = msgspec.structs.replace(
        result("c1"), repeat=1, left=(order, Left(operation="POST /pets", count=2, why="DELETE answered 409"))
    )
    found = report(*kept, repetitions=[again])
    assert found.left_behind == (
        Left(operation="POST /orders", count=4, why="no DELETE documented"),
        Left(operation="POST /pets", count=2, why="DELETE answered 409"),
    )
    assert (found.totals.left_behind, found.totals.withheld) == (6, 3)


def test_a_deleted_thing_that_is_still_there_counts_in_a_crowd_only_when_it_was_repeated() -> None:
    first = result("a", failure("use_after_free", cause="answered 200"))
    again = msgspec.structs.replace(first, repeat=1)
    [alone] = report(first).findings
    [crowded] = report(first, concurrency=8).findings
    [proven] = report(first, concurrency=8, repetitions=[again]).findings
    assert [one.advisory for one in (alone, crowded, proven)] == [False, True, False]
    assert (crowded.not_repeated, proven.reproduced, proven.executed) == ("no repetition", 2, 2)
