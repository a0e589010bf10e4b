"""Failed cases are repeated alone before their findings count."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from testops_lib.execute import Engine, run
from testops_lib.model import (
    Capture,
    Case,
    Finding,
    GateRules,
    JsonBody,
    NotAServerError,
    Plan,
    Report,
    Result,
    UseAfterFree,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.gate import decide
from testops_lib.verdict.repetition import Repetitions, split
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, plan, step


def ran(the_plan: Plan, cases: Sequence[Case], *, max_requests: int = 0, **options: Any) -> tuple[Report, list[Result]]:
    """The report of a run whose failures were repeated, and all results."""
    cases_by_id = {case.id: case for case in cases}
    repeating = Repetitions(lambda ids: cases_by_id, limit=max_requests)
    results: list[Result] = []
    run(Engine(the_plan, {}, run="r", max_requests=max_requests, **options), cases, results.append, repeating=repeating)
    own, repeated = split([*results, *repeating.left_out])
    report = analyze(
        own, repetitions=repeated, concurrency=the_plan.policy.concurrency, target="t", run="r", operations={}
    )
    return report, results


def sound(path: str, **options: Any) -> Case:
    return case(step("GET", path, checks=(NotAServerError(),)), name=path, **options)


def shown(report: Report) -> list[tuple[str, str, int, int]]:
    return [(finding.operation, finding.check, finding.reproduced, finding.executed) for finding in report.findings]


class Alone:
    """Answers 500 to whoever comes while another request is under way."""

    def __init__(self, busy: Sequence[str] = (), broken: Sequence[str] = ()) -> None:
        self.busy, self.broken = busy, broken
        self._inside = 0
        self._lock = threading.Lock()

    def __call__(self, connection: Any, seen: Seen) -> bytes:
        with self._lock:
            self._inside += 1
            crowded = self._inside > 1
        time.sleep(0.02)
        with self._lock:
            crowded = crowded or self._inside > 1
            self._inside -= 1
        locked = crowded and seen.target.startswith(tuple(self.busy))
        return answer(500 if locked or seen.target.startswith(tuple(self.broken)) else 200)


class ReusesIds:
    """Things whose ids are given again as soon as they are free; a GET of a free id waits a moment for that."""

    def __init__(self) -> None:
        self._things: set[int] = set()
        self._free: list[int] = []
        self._changed = threading.Condition()

    def __call__(self, connection: Any, seen: Seen) -> bytes:
        with self._changed:
            if seen.method == "POST":
                number = self._free.pop() if self._free else len(self._things) + 1
                self._things.add(number)
                self._changed.notify_all()
                return answer(201, json.dumps({"id": number}))
            number = int(seen.target.rpartition("/")[2])
            if seen.method == "DELETE":
                self._things.remove(number)
                self._free.append(number)
                return answer(204, "")
            there = self._changed.wait_for(lambda: number in self._things, timeout=0.1 * number)
            return answer(200 if there else 404)


def deleted_thing(number: int) -> Case:
    return case(
        step(
            "POST",
            "/things",
            body=JsonBody(value={"name": f"{number}-{{unique}}"}),
            expect=201,
            captures=(Capture(name="id", path="$.id"),),
        ),
        step("DELETE", "/things/{id}", expect=204),
        step("GET", "/things/{id}", checks=(UseAfterFree(),)),
        name=f"deleted {number}",
    )


def test_an_id_that_another_case_was_given_is_no_resource_used_after_deletion(serve: Serve) -> None:
    server = serve(ReusesIds())
    report, results = ran(plan(server.url, concurrency=8), [deleted_thing(number) for number in range(24)])
    taken = [failure.check for result in results for failure in result.failures if not result.repeat]
    assert "use_after_free" in taken, "no id was reused: the test shows nothing"
    [finding] = report.findings
    assert (finding.check, finding.advisory) == ("concurrency", True)
    assert [line.partition(": ")[2].partition(": ")[0] for line in finding.together] == ["use_after_free"]
    assert decide(report, GateRules()).passed


def test_what_fails_only_beside_other_cases_is_one_advisory_finding(serve: Serve) -> None:
    server = serve(Alone(busy=("/a", "/b", "/c"), broken=("/broken",)))
    cases = [sound(f"/{name}/{number}") for number in range(8) for name in "abc"]
    report, _ = ran(
        plan(server.url, concurrency=8), [*cases, sound("/broken"), *(sound(f"/ok/{number}") for number in range(4))]
    )
    by_check = {finding.check: finding for finding in report.findings}
    assert set(by_check) == {"not_a_server_error", "concurrency"} and len(report.findings) == 2
    assert shown(report)[0] == ("GET /broken", "not_a_server_error", 2, 2)
    both = by_check["concurrency"]
    assert both.advisory and both.count > 3 and both.executed
    assert {line.split(":")[0].rpartition("/")[0] for line in both.together} == {"GET /a", "GET /b", "GET /c"}
    assert not decide(without(report, "not_a_server_error"), GateRules(concurrency=True)).passed
    assert decide(without(report, "not_a_server_error"), GateRules()).passed


def without(report: Report, check: str) -> Report:

    kept: tuple[Finding, ...] = tuple(finding for finding in report.findings if finding.check != check)
    return msgspec.structs.replace(report, findings=kept)


def test_one_case_at_a_time_is_not_suspected_of_concurrency(serve: Serve) -> None:
    counts: Counter[str] = Counter()

    def sometimes(connection: Any, seen: Seen) -> bytes:
        counts[seen.target] += 1
        return answer(500 if (seen.target, counts[seen.target]) in {("/once", 1), ("/odd", 1), ("/odd", 3)} else 200)

    server = serve(sometimes)
    report, _ = ran(plan(server.url, concurrency=1), [sound("/once"), sound("/odd"), sound("/never")])
    assert sorted(shown(report)) == [
        ("GET /odd", "not_a_server_error", 2, 3),
        ("GET /once", "not_a_server_error", 1, 3),
    ]
    assert not any(finding.advisory for finding in report.findings)
    assert counts == {"/once": 3, "/odd": 3, "/never": 1}


def test_a_fault_of_one_case_is_not_hidden_by_another_that_failed_in_the_crowd(serve: Serve) -> None:
    alone = Alone(busy=("/pay",))

    def pay(connection: Any, seen: Seen) -> bytes:
        return answer(500) if b"ten" in seen.body else alone(connection, seen)

    server = serve(pay)
    cases = [
        case(step("POST", "/pay", body=JsonBody(value=value), checks=(NotAServerError(),)), name=str(value))
        for value in (1, 2, 3, "ten times as long")
    ]
    report, _ = ran(plan(server.url, concurrency=4), cases)
    [finding] = report.findings
    assert (finding.check, finding.reproduced, finding.executed) == ("not_a_server_error", 2, 2)
    assert finding.example.case == cases[3].id and finding.count > 1


def test_repetitions_have_their_own_token_and_run_alone_before_what_comes_last(serve: Serve) -> None:
    def fail(connection: Any, seen: Seen) -> bytes:
        return answer(500 if seen.target.startswith("/x") else 200)

    server = serve(fail)
    cases = [sound("/x/{unique}"), sound("/ok"), sound("/end", last=True)]
    report, results = ran(plan(server.url, concurrency=4), cases)
    order = [seen.target for seen in server.seen]
    tokens = [target.rpartition("/")[2] for target in order if target.startswith("/x")]
    assert len(tokens) == 2 == len(set(tokens)) and order[-1] == "/end" and order[-2].startswith("/x")
    assert [result.repeat for result in results] == [0, 0, 1, 0]
    assert report.totals.cases == 3 and report.totals.requests == len(server.seen) == 4


def broken(connection: Any, seen: Seen) -> bytes:
    return answer(500)


@pytest.mark.parametrize("limit", [5, 20, 33])
def test_the_budget_holds_exactly_and_what_was_not_repeated_says_so(serve: Serve, limit: int) -> None:
    server = serve(broken)
    report, _ = ran(plan(server.url, concurrency=3), [sound(f"/{number}") for number in range(60)], max_requests=limit)
    assert len(server.seen) == limit == report.totals.requests
    repeated = [finding for finding in report.findings if finding.executed]
    assert len(repeated) == limit // 10
    assert {finding.not_repeated for finding in report.findings if not finding.executed} == {"budget spent"}
    assert len(report.findings) == limit - limit // 10 and not any(finding.advisory for finding in report.findings)


def test_the_repetition_of_what_only_reads_takes_no_more_than_it_took_before(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(500 if seen.target == "/odd" else 200))
    cases = [sound("/odd"), *(sound(f"/{number}") for number in range(60))]
    report, _ = ran(plan(server.url, concurrency=3), cases, max_requests=40)
    assert len(server.seen) == 40 and shown(report) == [("GET /odd", "not_a_server_error", 2, 2)]


def test_a_tenth_of_the_time_is_left_for_repetitions(serve: Serve) -> None:
    def slow(connection: Any, seen: Seen) -> bytes:
        time.sleep(0.02)
        return answer(500 if seen.target == "/0" else 200)

    server = serve(slow)
    cases = [sound(f"/{number}") for number in range(2000)]
    report, _ = ran(plan(server.url, concurrency=2), cases, max_time_s=8)
    assert shown(report) == [("GET /0", "not_a_server_error", 2, 2)]


@pytest.mark.parametrize("other", [lambda: answer(429), lambda: answer(503), lambda: answer(401)])
def test_a_busy_target_says_nothing_of_whether_it_comes_back(serve: Serve, other: Callable[[], bytes]) -> None:
    seen_before: Counter[str] = Counter()

    def busy(connection: Any, seen: Seen) -> bytes:
        seen_before[seen.target] += 1
        return answer(500) if seen_before["/a"] == 1 else other()

    server = serve(busy)
    cases = [case(step("GET", "/a", checks=(NotAServerError(),)), name="a")]
    report, _ = ran(plan(server.url, concurrency=8, breaker_after=0), cases)
    finding = next(finding for finding in report.findings if finding.message.startswith("answered 500"))
    assert finding.check == "not_a_server_error" and not finding.advisory and not finding.executed
    assert finding.not_repeated
