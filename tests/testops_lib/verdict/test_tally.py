from __future__ import annotations

from typing import Any

import msgspec

from testops_lib.model import (
    Finding,
    GateRules,
    Generation,
    Left,
    Report,
    RequestEvidence,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.gate import decide
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, report, result, sent


def test_every_operation_in_scope_is_listed_called_or_not() -> None:
    found = report(result("1"), result("2", status=404), result("3", verdict="errored", status=0, reason="timeout"))
    pets = found.operations[OPERATION]
    assert pets.statuses == {"200": 1, "404": 1, "none": 1} and pets.success_seen
    assert pets.results == {"passed": 2, "errored": 1} and (pets.cases, pets.requests) == (3, 3)
    assert found.operations["POST /pets"].documented == ("201",) and not found.operations["POST /pets"].success_seen
    assert (found.totals.operations, found.totals.operations_with_2xx) == (2, 1)
    assert found.errors == {"timeout": 1}


def test_a_2xx_to_another_method_or_path_is_no_coverage() -> None:
    probes = [result("1", status=404), sent(result("2"), "OPTIONS /pets/{id}"), sent(result("3"), "GET /pets/")]
    found = report(*probes)
    pets = found.operations[OPERATION]
    assert (pets.statuses, pets.success_seen, pets.requests, pets.latency_ms) == ({"404": 1}, False, 3, {})
    assert found.totals.operations_with_2xx == 0 and "OPTIONS /pets/{id}" not in found.operations
    assert not decide(found, GateRules(min_operations_2xx=0.5)).passed
    documented = report(*probes, operations={**OPERATIONS, "OPTIONS /pets/{id}": ("200",)})
    assert documented.operations["OPTIONS /pets/{id}"].success_seen, "it is an operation of the document itself"


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
