from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from testops_lib.model import (
    Finding,
    GateRules,
    Generation,
    Left,
    Report,
    RequestEvidence,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.coverage import percentiles
from testops_lib.verdict.gate import decide
from testops_lib.verdict.reasons import TARGET_DOWN
from testops_lib.verdict.tally import MOST_REASONS
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, report, result, sent


def test_every_operation_in_scope_is_listed_called_or_not() -> None:
    analysis = report(result("1"), result("2", status=404), result("3", verdict="errored", status=0, reason="timeout"))
    pets = analysis.operations[OPERATION]
    assert pets.statuses == {"200": 1, "404": 1, "none": 1} and pets.success_seen
    assert pets.results == {"passed": 2, "errored": 1} and (pets.cases, pets.requests) == (3, 3)
    assert (
        analysis.operations["POST /pets"].documented == ("201",) and not analysis.operations["POST /pets"].success_seen
    )
    assert (analysis.totals.operations, analysis.totals.operations_with_2xx) == (2, 1)
    assert analysis.errors == {"timeout": 1}


def test_a_2xx_to_another_method_or_path_is_no_coverage() -> None:
    probes = [result("1", status=404), sent(result("2"), "OPTIONS /pets/{id}"), sent(result("3"), "GET /pets/")]
    analysis = report(*probes)
    pets = analysis.operations[OPERATION]
    assert (pets.statuses, pets.success_seen, pets.requests, pets.latency_ms) == ({"404": 1}, False, 3, {})
    assert analysis.totals.operations_with_2xx == 0 and "OPTIONS /pets/{id}" not in analysis.operations
    assert not decide(analysis, GateRules(min_operations_2xx=0.5)).passed
    documented = report(*probes, operations={**OPERATIONS, "OPTIONS /pets/{id}": ("200",)})
    assert documented.operations["OPTIONS /pets/{id}"].success_seen, "it is an operation of the document itself"


def test_an_operation_out_of_scope_is_listed_but_not_counted() -> None:
    analysis = report(result("1", operation="PUT /other"))
    assert "PUT /other" in analysis.operations
    assert (analysis.totals.operations, analysis.totals.operations_with_2xx) == (2, 0)
    assert report(result("1", operation="PUT /other"), operations={}).totals.operations == 1


def test_operations_that_could_not_be_planned_are_listed_with_the_reason_and_counted() -> None:
    reasons = {"POST /pets": "no valid request could be made", "PUT /broken": "its parameters cannot be read"}
    analysis = report(result("1"), not_tested=reasons)
    assert {key: one.not_tested for key, one in analysis.operations.items() if one.not_tested} == reasons
    assert (analysis.totals.operations, analysis.totals.operations_not_tested) == (3, 2)
    executed = report(result("1", operation="POST /pets"), not_tested=reasons)
    assert executed.operations["POST /pets"].not_tested == "" and executed.totals.operations_not_tested == 1


def test_latency_is_of_successful_answers_only() -> None:
    fast = [result(f"{n}", elapsed_ms=n) for n in range(1, 101)]
    slow = [result("x", status=404, elapsed_ms=9_000), result("y", status=0, verdict="errored", elapsed_ms=9_000)]
    latency = report(*fast, *slow).operations[OPERATION].latency_ms
    assert latency == {"p50": 50.5, "p95": 95.05, "p99": 99.01, "max": 100}
    assert report(*slow).operations[OPERATION].latency_ms == {}


def test_no_results_give_a_whole_report() -> None:
    analysis = report(generation=(Generation(source="rules", cases=3),), title="Pets", base_url="http://h")
    assert analysis.totals.results == {"passed": 0, "failed": 0, "errored": 0, "skipped": 0}
    assert analysis.totals.cases == 0 and analysis.findings == () and analysis.generation[0].cases == 3
    assert msgspec.json.decode(msgspec.json.encode(analysis), type=Report) == analysis


def test_a_case_without_a_result_is_counted_apart() -> None:
    analysis = report(*(result(f"{n}", verdict="errored", reason="no_result", steps=0) for n in range(3)))
    assert analysis.totals.no_result == 3 and analysis.errors == {"no_result": 3}


def test_reasons_that_differ_in_ids_are_one_line() -> None:
    analysis = report(
        *(result(f"{n}", verdict="skipped", reason=f"setup failed: POST /pets/{n} answered 500") for n in range(9))
    )
    assert analysis.errors == {"setup failed: POST /pets/# answered 500": 9}


def test_memory_holds_one_example_a_finding() -> None:
    import tracemalloc

    def stream() -> Any:
        for number in range(3_000):
            one = result(f"{number:032x}", failure(cause=f"cause {number % 5}"))
            evidence = RequestEvidence(method="GET", url="http://h/", body=f"{number}" + "x" * 4_000, body_bytes=4_000)
            yield msgspec.structs.replace(one, steps=(msgspec.structs.replace(one.steps[0], request=evidence),))

    report(result("warm"))
    tracemalloc.start()
    analysis = analyze(stream(), target="t", run="r", operations=OPERATIONS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert analysis.totals.cases == 3_000 and isinstance(analysis.findings[0], Finding)
    assert peak < 3_000_000  # all evidence would be 12 MB


def test_what_is_left_behind_is_counted_by_operation_repetitions_included() -> None:
    order = Left(operation="POST /orders", count=1, why="no DELETE documented")
    kept = [msgspec.structs.replace(result(f"c{n}"), left=(order,), withheld=n) for n in range(3)]
    again = msgspec.structs.replace(
        result("c1"), repeat=1, left=(order, Left(operation="POST /pets", count=2, why="DELETE answered 409"))
    )
    analysis = report(*kept, repetitions=[again])
    assert analysis.left_behind == (
        Left(operation="POST /orders", count=4, why="no DELETE documented"),
        Left(operation="POST /pets", count=2, why="DELETE answered 409"),
    )
    assert (analysis.totals.left_behind, analysis.totals.withheld) == (6, 3)


def test_reasons_are_listed_by_how_often_and_rare_ones_share_a_line() -> None:
    words = [f"{first}{second} refused" for first in "abcdefghijk" for second in "abcdefghij"]
    results = [result(f"{n}", verdict="errored", reason=word) for n, word in enumerate(words)]
    results += [result("twice", verdict="skipped", reason="aa refused"), result("z", verdict="errored", reason="")]
    analysis = report(*results).errors
    assert list(analysis.items())[:3] == [
        ("other reasons", len(words) - MOST_REASONS + 1),
        ("aa refused", 2),
        ("ab refused", 1),
    ]
    assert len(analysis) == MOST_REASONS + 1
    assert report(*results[-1:], result("s", verdict="skipped")).errors == {
        "errored without a reason": 1,
        "skipped without a reason": 1,
    }


def test_a_missing_result_is_counted_whatever_follows_its_reason() -> None:
    reasons = ("no_result", "no_result: the runner died", "no_result of ours", "timeout: no_result")
    analysis = report(*(result(f"{n}", verdict="errored", reason=reason) for n, reason in enumerate(reasons)))
    assert analysis.totals.no_result == 2
    assert report(result("s", verdict="skipped", reason="no_result")).totals.no_result == 0


def test_quarantined_results_are_counted_by_verdict_and_their_cases_named() -> None:
    results = [
        result("b", failure()),
        result("a"),
        result("c", verdict="errored", reason="timeout"),
        result("d", verdict="skipped", reason=TARGET_DOWN),
        result("e", verdict="skipped", reason=TARGET_DOWN),
        result("f", verdict="skipped", reason="stopped"),
    ]
    analysis = report(*results, quarantined={"a", "b", "d", "elsewhere"})
    assert analysis.quarantined == ("a", "b", "d")
    assert list(analysis.totals.quarantined.items()) == [("failed", 1), ("passed", 1), ("skipped", 1)]
    assert analysis.totals.target_down == 1
    assert report(*results).totals.quarantined == {} and report(*results).quarantined == ()


def test_requests_of_repetitions_count_for_the_run_and_their_operation_and_nothing_else_of_them() -> None:
    again = msgspec.structs.replace(result("1"), repeat=1, requests=3, withheld=2)
    skipped = msgspec.structs.replace(result("2", operation="GET /new"), repeat=1, requests=0)
    analysis = report(result("1", failure()), repetitions=[again, skipped])
    assert (analysis.totals.requests, analysis.totals.cases, analysis.totals.withheld) == (4, 1, 2)
    assert analysis.operations[OPERATION].requests == 4
    assert "GET /new" not in analysis.operations


def test_an_operation_that_results_name_is_added_to_those_in_scope() -> None:
    analysis = report(result("1", operation="PUT /other"), not_tested={"POST /pets": "x"}, operations={})
    assert list(analysis.operations) == ["PUT /other"], "without a scope nothing is added to what was called"
    assert analysis.totals.operations == 1


def test_a_result_without_a_step_counts_for_its_operation() -> None:
    analysis = report(result("1", verdict="errored", reason="x", steps=0))
    assert (analysis.operations[OPERATION].cases, analysis.operations[OPERATION].requests) == (1, 0)
    assert analysis.operations[OPERATION].statuses == {}


def test_a_report_names_target_run_and_api() -> None:
    analysis = report(result("1"), title="Pets", base_url="http://h", previous_run="r1")
    assert (analysis.title, analysis.base_url, analysis.previous_run, analysis.run, analysis.target) == (
        "Pets",
        "http://h",
        "r1",
        "r2",
        "t",
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([5.0], {"p50": 5, "p95": 5, "p99": 5, "max": 5}),
        ([10.0, 0.0], {"p50": 5, "p95": 9.5, "p99": 9.9, "max": 10}),
        ([1.0, 2.0, 4.0], {"p50": 2, "p95": 3.8, "p99": 3.96, "max": 4}),
        ([0.123456], {"p50": 0.12, "p95": 0.12, "p99": 0.12, "max": 0.12}),
        ([], {}),
    ],
)
def test_percentiles_are_interpolated_and_rounded_to_hundredths(times: list[float], expected: dict[str, float]) -> None:
    assert percentiles(times) == expected


def test_what_is_left_behind_most_comes_first_and_equal_counts_by_name() -> None:
    left = [Left(operation=key, count=count, why="x") for key, count in (("b", 1), ("c", 5), ("a", 1), ("d", 2))]
    analysis = report(msgspec.structs.replace(result("1"), left=tuple(left)))
    assert [(entry.operation, entry.count) for entry in analysis.left_behind] == [
        ("c", 5),
        ("d", 2),
        ("a", 1),
        ("b", 1),
    ]


def test_reasons_that_came_equally_often_are_in_order_of_their_names() -> None:
    results = [result(word, verdict="errored", reason=word) for word in ("b", "a", "c")]
    assert list(report(*results, result("d", verdict="errored", reason="c")).errors) == ["c", "a", "b"]


def test_a_report_says_when_the_run_began_and_ended() -> None:
    began, ended = datetime(2026, 3, 14, 2, tzinfo=UTC), datetime(2026, 3, 14, 3, tzinfo=UTC)
    analysis = report(started=began, finished=ended)
    assert (analysis.started, analysis.finished, analysis.previous_run) == (began, ended, "")
