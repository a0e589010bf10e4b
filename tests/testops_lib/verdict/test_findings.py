from __future__ import annotations

import random

import msgspec
import pytest

from testops_lib.model import (
    Basis,
    Failure,
    RequestEvidence,
    StepOutcome,
)
from testops_lib.verdict.fingerprint import fingerprint
from testops_lib.verdict.tally import MOST_CAUSES
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, report, result, sent, undocumented


def test_one_finding_per_operation_check_and_cause() -> None:
    analysis = report(
        result("1", failure(), status=500),
        result("2", failure(), status=500),
        result("3", failure(cause="answered 503")),
        result("4", failure(check="status_code_conformance")),
        result("5"),
    )
    assert sorted((one.check, one.count) for one in analysis.findings) == [
        ("not_a_server_error", 1),
        ("not_a_server_error", 2),
        ("status_code_conformance", 1),
    ]
    assert analysis.totals.findings == 3 and analysis.totals.results == {
        "passed": 1,
        "failed": 4,
        "errored": 0,
        "skipped": 0,
    }


def test_one_cause_is_one_finding_with_its_operations_listed_and_counted() -> None:
    gone, kept = "DELETE /pets/{id}", "PUT /pets/{id}"
    analysis = report(
        result("1", undocumented(gone)),
        result("2", undocumented(gone)),
        result("3", undocumented(kept)),
        result("4", undocumented(OPERATION), undocumented(gone)),
        result("5", failure()),
        result("6", failure(operation="POST /pets")),
    )
    folded = [one for one in analysis.findings if one.check == "status_code_conformance"]
    assert [(one.count, one.operations) for one in folded] == [(4, {gone: 3, OPERATION: 1, kept: 1})]
    assert list(folded[0].operations) == [gone, OPERATION, kept] and folded[0].operation == gone
    apart = [one.operations for one in analysis.findings if one.check == "not_a_server_error"]
    assert apart == [{OPERATION: 1}, {"POST /pets": 1}], "server errors that say nothing of their cause"


def test_server_errors_to_methods_that_nobody_offers_are_one_finding() -> None:
    probes = [
        sent(result(f"{n}", failure(cause="status 500", operation=key), operation=key, status=500), f"{method} {key}")
        for n, (key, method) in enumerate((key, method) for key in OPERATIONS for method in ("TRACE", "PATCH"))
    ]
    (finding,) = report(*probes).findings
    assert finding.operations == dict.fromkeys(OPERATIONS, 2)


def test_a_result_that_shows_a_finding_twice_counts_once() -> None:
    assert report(result("1", failure(), failure())).findings[0].count == 1


def test_a_result_delivered_twice_counts_once() -> None:
    one = result("1", failure())
    analysis = report(one, one)
    assert (analysis.totals.cases, analysis.findings[0].count, analysis.totals.requests) == (1, 1, 1)


def test_without_a_cause_the_normalised_message_tells_findings_apart() -> None:
    def said(text: str) -> Failure:
        return Failure(check="jsonpath", operation=OPERATION, message=text)

    analysis = report(
        result("1", said("item 3 is gone")), result("2", said("item 4 is gone")), result("3", said("other"))
    )
    assert sorted(one.count for one in analysis.findings) == [1, 2]


def test_the_example_is_the_shortest_case_with_its_curl_line() -> None:
    analysis = report(
        result("long", failure(), steps=3), result("short", failure()), result("longer", failure(), steps=4)
    )
    example = analysis.findings[0].example
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
        finding = report(
            *(result(f"{n}", failure(basis=entry, quote=entry)) for n, entry in enumerate(order))
        ).findings[0]
        assert (finding.basis, finding.advisory, finding.quote) == (basis, advisory, basis)


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
    analysis = report(*results, first_seen={key["known"]: "r1"}, muted={key["muted"]})
    assert [(one.message, one.severity) for one in analysis.findings] == [
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
    assert [one.state for one in analysis.findings if one.message in ("known", "muted")] == ["known", "muted"]


def test_what_only_quarantined_cases_show_is_advisory() -> None:
    aside = report(result("1", failure()), quarantined={"1"})
    assert [finding.advisory for finding in aside.findings] == [True] and aside.totals.advisory == 1
    both = report(result("1", failure()), result("2", failure()), quarantined={"1"})
    assert [finding.advisory for finding in both.findings] == [False]
    guessed = report(result("1", failure()), result("2", failure(basis="guess")), quarantined={"1"})
    assert [finding.advisory for finding in guessed.findings] == [True]


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
    analysis = report(*(result(f"{n}", failure(cause=f"cause {n}")) for n in range(MOST_CAUSES + 30)))
    assert len(analysis.findings) == MOST_CAUSES + 1
    assert max(one.count for one in analysis.findings) == 30
    assert sum(one.count for one in analysis.findings) == analysis.totals.results["failed"]


def test_what_another_method_was_answered_is_a_finding_that_names_it() -> None:
    probe = sent(result("1", failure(cause="answered 500"), status=500), "PATCH /pets/{id}")
    findings = report(probe, result("2", failure(cause="answered 500"), status=500)).findings
    assert sorted(finding.sent for finding in findings) == ["", "PATCH /pets/{id}"]
    assert {finding.operation for finding in findings} == {OPERATION}
    assert len({finding.fingerprint for finding in findings}) == 2
    stale = failure("use_after_free", "accessible")
    assert len(report(result("1", stale), sent(result("2", stale), "HEAD /pets/{id}")).findings) == 2


def test_the_example_of_a_slow_operation_is_an_answer_of_its_own() -> None:
    usual = [{OPERATION: 5.0}] * 10
    answers = [result(f"{n}", elapsed_ms=900 + n) for n in range(40)]
    probe = sent(result("probe", elapsed_ms=5_000), "OPTIONS /pets/{id}")
    (slow,) = report(*answers, probe, history=usual).findings
    assert (slow.check, slow.example.case) == ("response_time_history", "39")


def test_a_deleted_thing_that_is_still_there_counts_in_a_crowd_only_when_it_was_repeated() -> None:
    first = result("a", failure("use_after_free", cause="answered 200"))
    again = msgspec.structs.replace(first, repeat=1)
    [alone] = report(first).findings
    [crowded] = report(first, concurrency=8).findings
    [proven] = report(first, concurrency=8, repetitions=[again]).findings
    assert [one.advisory for one in (alone, crowded, proven)] == [False, True, False]
    assert (crowded.not_repeated, proven.reproduced, proven.executed) == ("no repetition", 2, 2)


def test_a_finding_carries_the_code_of_its_check_and_why_it_is_doubted() -> None:
    guess = failure(basis="guess", doubt="documented_server_error")
    (finding,) = report(result("1", guess)).findings
    assert (finding.wfc_code, finding.doubt) == (100, "documented_server_error")
    (firm,) = report(result("1", guess), result("2", failure())).findings
    assert firm.doubt == ""


def test_the_findings_of_a_crowd_and_of_a_slow_api_keep_their_fingerprints() -> None:
    shown = result("a", failure())
    again = msgspec.structs.replace(shown, repeat=1, verdict="passed", failures=())
    (crowd,) = report(shown, repetitions=[again], concurrency=2).findings
    assert crowd.fingerprint == fingerprint("", "concurrency", "")
    keys = [OPERATION, "GET /b", "GET /c"]
    slow = [result(f"{key} {n}", operation=key, elapsed_ms=900) for key in keys for n in range(5)]
    (whole,) = report(*slow, history=[dict.fromkeys(keys, 100.0)] * 10).findings
    assert whole.fingerprint == fingerprint(whole.operation, "response_time_history", "as a whole")


def test_a_cause_that_is_a_finding_stays_one_when_too_many_others_follow() -> None:
    causes = [failure(cause=f"cause {n}") for n in range(MOST_CAUSES + 2)]
    again = result("again", failure(cause="cause 0"))
    results = [result(f"{n}", cause) for n, cause in enumerate(causes)]
    counts = {finding.message: finding.count for finding in report(*results, again).findings}
    assert counts["cause 0"] == 2 and sorted(counts.values()) == [1] * (MOST_CAUSES - 1) + [2, 2]
