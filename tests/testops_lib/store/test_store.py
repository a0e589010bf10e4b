from __future__ import annotations

import itertools
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from testops_lib.errors import StoreError
from testops_lib.model import (
    Batch,
    Case,
    Failure,
    Finding,
    FindingExample,
    FindingState,
    Generation,
    OperationReport,
    Provenance,
    Report,
    Request,
    Result,
    Step,
    Totals,
    make_case,
)
from testops_lib.store import Store, rows
from testops_lib.target import ResolvedRun, RunConf, Target

pytestmark = pytest.mark.integration

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def some_cases(count: int) -> list[Case]:
    return [
        make_case(
            name=f"case {number}",
            intent="boundary",
            operation="GET /pets",
            origin=Provenance(source="rules"),
            steps=(Step(operation="GET /pets", request=Request(method="GET", path=f"/pets/{number}")),),
        )
        for number in range(count)
    ]


def result(case: str = "a", verdict: str = "passed", *, run: str = "r", **more: Any) -> Result:
    return Result(run=run, case=case, verdict=verdict, **more)  # type: ignore[arg-type]


@pytest.fixture
def opened(store: Store) -> Store:
    """A store in which the run `r` is open."""
    store.open_run("r", "shop")
    return store


def test_a_database_that_is_away_is_said() -> None:
    with Store("postgresql://u:hidden@127.0.0.1:9/x") as store:
        for call in (store.latest_run, store.upgrade, store.schema, lambda: list(store.results("r"))):
            with pytest.raises(StoreError, match="9") as error:
                call()
            assert "hidden" not in str(error.value)


def test_a_cut_connection_is_made_again(opened: Store, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'testops'")
    with pytest.raises(StoreError):
        opened.merge_results([result()])
    assert opened.merge_results([result()]) == 1


# --------------------------------------------------------------------------- specs, runs, cases


def test_a_spec_comes_back_as_it_was(store: Store) -> None:
    data = bytes(range(256)) * 1000
    store.put_spec("h", data)
    store.put_spec("h", data)
    assert store.get_spec("h") == data
    with pytest.raises(StoreError, match="h2"):
        store.get_spec("h2")


def test_opening_a_run_again_keeps_what_is_stored(store: Store) -> None:
    resolved = ResolvedRun(conf=RunConf(target="shop"), target=Target(name="shop", spec="${SHOP}/openapi.json"))
    store.open_run("r", "shop")
    started = store.run("r").started
    store.merge_results([result()])
    store.open_run("r", "shop", title="Shop \x00", base_url="http://h", spec_hash="s", resolved=resolved)
    record = store.run("r")
    assert (record.title, record.base_url, record.spec_hash, record.resolved) == (
        "Shop \ufffd",
        "http://h",
        "s",
        resolved,
    )
    assert (record.state, record.started) == ("open", started)
    assert len(list(store.results("r"))) == 1
    with pytest.raises(StoreError, match="absent"):
        store.run("absent")


def test_cases_come_back_by_group_and_position(opened: Store) -> None:
    cases = some_cases(6)
    opened.save_cases("r", "1", cases[3:], Generation(source="gemini", cases=3))
    opened.save_cases("r", "0", [cases[2], cases[0], cases[1]], Generation(source="rules", cases=3))
    opened.save_cases("other", "0", cases, Generation(source="rules"))
    assert opened.load_cases("r") == [cases[2], cases[0], cases[1], *cases[3:]]
    assert [generation.source for generation in opened.generations("r")] == ["rules", "gemini"]


def test_saving_a_group_again_replaces_it(opened: Store) -> None:
    cases = some_cases(5)
    opened.save_cases("r", "0", cases[:3], Generation(source="rules", cases=3))
    for _ in range(2):
        opened.save_cases("r", "0", cases[2:], Generation(source="rules", cases=2))
        assert opened.load_cases("r") == cases[2:]
        assert opened.generations("r") == [Generation(source="rules", cases=2)]


def test_a_case_in_two_groups_is_loaded_once(opened: Store) -> None:
    cases = some_cases(3)
    renamed = msgspec.structs.replace(cases[1], name="a better name")
    opened.save_cases("r", "0", cases[:2], Generation(source="rules"))
    opened.save_cases("r", "1", [renamed, cases[2]], Generation(source="rules"))
    assert opened.load_cases("r") == [cases[0], renamed, cases[2]]


def test_groups_saved_at_the_same_time_all_arrive(opened: Store, postgres: str) -> None:
    cases = some_cases(200)
    failed: list[BaseException] = []

    def save(group: int) -> None:
        try:
            with Store(postgres) as own:
                order = cases if group % 2 else cases[::-1]
                named = [msgspec.structs.replace(case, name=f"{group}") for case in order]
                own.save_cases("r", f"{group}", named, Generation(source="rules"))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=(group,)) for group in range(4)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert not failed
    assert len(opened.generations("r")) == 4 and len(opened.load_cases("r")) == 200


# --------------------------------------------------------------------------- publication


def test_a_batch_begins_for_the_first_time_once(store: Store) -> None:
    assert (
        store.begin_batch("r", "c:0:0-9") and store.begin_batch("r", "c:0:9-18") and store.begin_batch("s", "c:0:0-9")
    )
    assert not store.begin_batch("r", "c:0:0-9")
    assert store.begin_batch("r", "c:0:0-9", attempt=2) and not store.begin_batch("r", "c:0:0-9", attempt=2)


def test_what_was_published_is_known(opened: Store) -> None:
    plan = Batch(topic="testops.plans", partition=0, first=1, end=3)
    batches = [Batch(topic="testops.cases", partition=partition, first=0, end=2) for partition in (1, 0)]
    opened.mark_published("r", ["a", "b", "a"], positions={0: 5, 1: 7}, plan=plan, batches=batches)
    record = opened.run("r")
    assert (record.state, record.plan_batch, list(record.batches)) == ("published", plan, batches)
    assert opened.published("r") == 2 and opened.batches("r") == batches
    assert opened.positions("r") == opened.open_positions() == {0: 5, 1: 7}
    with pytest.raises(StoreError, match="absent"):
        opened.mark_published("absent", [], positions={})


def test_publishing_again_replaces_the_cases_and_keeps_results_and_earliest_positions(opened: Store) -> None:
    opened.mark_published("r", ["a", "b"], positions={0: 5, 1: 7})
    opened.merge_results([result("a"), result("b")])
    opened.mark_published("r", ["b", "c"], positions={0: 9, 1: 3, 2: 4})
    assert opened.positions("r") == {0: 5, 1: 3, 2: 4}
    assert [result.case for result in opened.results("r")] == ["b"]
    assert opened.missing("r") == ["c"]


def test_positions_of_a_topic_that_was_lost_count_for_nothing_in_the_new_one(opened: Store) -> None:
    opened.mark_published("r", ["a"], positions={0: 500, 1: 7}, topic="old")
    assert opened.positions("r", topic="old") == opened.positions("r") == {0: 500, 1: 7}
    assert opened.positions("r", topic="new") == opened.open_positions(topic="new") == {0: 0, 1: 0}
    opened.mark_published("r", ["a"], positions={0: 900, 1: 3}, topic="new")
    assert opened.positions("r", topic="new") == {0: 900, 1: 3}, "not the least of two that cannot be compared"
    opened.mark_published("r", ["a"], positions={0: 950, 1: 2})
    assert opened.positions("r", topic="new") == {0: 900, 1: 2}, "a version before does not say which topic"


# --------------------------------------------------------------------------- results


def test_redelivered_batch_counts_once(opened: Store) -> None:
    batch = [result(f"{number}", "failed" if number % 3 else "passed", started=NOON) for number in range(100)]
    assert opened.merge_results(batch) == 100
    seq = opened.progress("r").seq
    assert opened.merge_results(batch) == 0
    assert opened.merge_results(batch + batch) == 0
    assert opened.progress("r", after=seq).failures == ()
    assert list(opened.results("r")) == sorted(batch, key=lambda result: result.case)
    assert opened.progress("r").by_verdict == {"failed": 66, "passed": 34}


def test_a_result_twice_in_one_batch_counts_once(opened: Store) -> None:
    assert opened.merge_results([result("a", "errored"), result("a", "failed"), result("a", "passed")]) == 1
    assert [result.verdict for result in opened.results("r")] == ["failed"]


def test_the_store_and_the_rule_agree_on_what_supersedes_what(opened: Store) -> None:
    kinds = [
        {"verdict": verdict, "reason": reason, "started": started, "origin": f"{verdict} {reason} {started}"}
        for verdict, reason in [
            ("passed", ""),
            ("failed", ""),
            ("errored", "no_result"),
            ("errored", "timeout"),
            ("skipped", "stopped"),
        ]
        for started in (None, NOON, NOON + timedelta(seconds=1), NOON.replace(tzinfo=None))
    ]
    pairs = list(itertools.product(kinds, kinds))
    opened.merge_results([result(f"{number:04}", **old) for number, (old, _) in enumerate(pairs)])
    opened.merge_results([result(f"{number:04}", **new) for number, (_, new) in enumerate(pairs)])
    for stored, (old, new) in zip(opened.results("r"), pairs, strict=True):
        expected = new if rows.supersedes(result(**new), result(**old)) else old
        assert stored.origin == expected["origin"], f"{new} after {old}"
        [deduped] = rows.dedupe([result(**old), result(**new)])
        assert deduped.origin == expected["origin"]


def test_the_first_passed_or_failed_stays(opened: Store) -> None:
    opened.merge_results([result("a", "failed"), result("b", "errored", reason="timeout"), result("c", "passed")])
    changed = opened.merge_results([result("a", "passed"), result("b", "passed"), result("c", "errored")])
    assert changed == 1
    assert [result.verdict for result in opened.results("r")] == ["failed", "passed", "passed"]


def test_of_several_attempts_the_last_is_final(opened: Store) -> None:
    opened.merge_results([result("a", "failed"), result("a", "passed", attempt=2), result("b", "failed")])
    assert [(result.case, result.attempt) for result in opened.results("r")] == [("a", 2), ("b", 1)]
    assert opened.progress("r").by_verdict == {"passed": 1, "failed": 1}


def test_repetitions_are_stored_apart_and_the_first_passed_or_failed_stays(opened: Store) -> None:
    opened.mark_published("r", ["a"], positions={})
    opened.merge_results([result("a", "failed")])
    again = [
        result("a", "skipped", repeat=1),
        result("a", "passed", repeat=2),
        result("a", "passed", run="x", repeat=1),
    ]
    assert opened.merge_results(again) == 2
    assert opened.merge_results([result("a", "failed", repeat=1), result("a", "failed", repeat=2)]) == 1
    assert opened.merge_results([result("a", "passed", repeat=1)]) == 0
    assert [(result.repeat, result.verdict) for result in opened.repetitions("r")] == [(1, "failed"), (2, "passed")]
    assert [result.verdict for result in opened.attempts("r")] == ["failed"] and opened.missing("r") == []
    assert opened.progress("r").by_verdict == {"failed": 1} and opened.unknown_results == 0
    opened.mark_published("r", ["b"], positions={})
    assert opened.repetitions("r") == []


def test_results_of_runs_not_known_here_are_left_out_and_counted(opened: Store) -> None:
    assert opened.merge_results([result("a"), result("a", run="absent"), result("b", run="absent")]) == 1
    assert opened.unknown_results == 2
    opened.mark_published("r", ["a"], positions={})
    assert opened.merge_results([result("z"), result("a")]) == 0
    assert opened.unknown_results == 3


def test_hostile_results_are_stored_as_they_are(opened: Store) -> None:
    failure = Failure(check="status", operation="GET /\x00", message="saw \x00 and \U0001f600")
    hostile = [
        result("nul", "failed", reason="a\x00b", operation="GET /\x00", case_name="\x00", failures=(failure,)),
        result("large", attempt=2**70, requests=2**70, elapsed_ms=1.7e308),
        result("small", attempt=-5, requests=-(2**70)),
        result("early", started=datetime.min.replace(tzinfo=UTC)),
        result("late", started=datetime.max),
    ]
    assert opened.merge_results([*hostile, result("x" * 5000), result(run="\x00" * 5000)]) == len(hostile)
    assert {result.case: result for result in opened.results("r")} == {result.case: result for result in hostile}
    assert [failure.message for failure in opened.progress("r").failures] == ["saw \x00 and \U0001f600"]


def test_cases_without_a_result_are_closed_as_errored(opened: Store) -> None:
    cases = some_cases(4)
    opened.save_cases("r", "0", cases, Generation(source="rules"))
    opened.mark_published("r", [case.id for case in cases] + ["unknown case"], positions={})
    opened.merge_results([result(cases[0].id)])
    assert opened.missing("r") == sorted([case.id for case in cases[1:]] + ["unknown case"])
    assert opened.close_missing("r") == 4
    assert opened.close_missing("r") == 0
    closed = {result.case: result for result in opened.results("r")}
    assert len(closed) == 5
    last = closed[cases[2].id]
    assert (last.verdict, last.reason, last.case_name, last.operation, last.intent, last.origin) == (
        "errored",
        "no_result",
        "case 2",
        "GET /pets",
        "boundary",
        "rules",
    )
    assert opened.without_result("r") == 4
    opened.merge_results([result(cases[2].id, "errored", reason="timeout")])
    assert opened.without_result("r") == 3


def test_progress_gives_failures_after_those_seen(opened: Store) -> None:
    failures = tuple(Failure(check=check, operation="GET /a", message=f"m {check}") for check in ("x", "y"))
    opened.mark_published("r", ["a", "b", "c", "d"], positions={})
    opened.merge_results([result("a", "failed", case_name="first", failures=failures), result("b")])
    begin = opened.progress("r")
    assert (begin.run, begin.target, begin.state, begin.published, begin.done) == ("r", "shop", "published", 4, 2)
    assert [(failure.case_name, failure.operation, failure.check, failure.message) for failure in begin.failures] == [
        ("first", "GET /a", "x", "m x"),
        ("first", "GET /a", "y", "m y"),
    ]
    opened.merge_results([result("c", "failed", failures=failures[:1])])
    assert [failure.check for failure in opened.progress("r", after=begin.seq).failures] == ["x"]
    assert opened.progress("r", after=opened.progress("r").seq).failures == ()
    with pytest.raises(StoreError, match="absent"):
        opened.progress("absent")


def test_listeners_hear_of_stored_results(opened: Store, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as listener:
        listener.execute("LISTEN testops_results")
        opened.merge_results([result("a"), result("b", "failed"), result("c", run="absent")])
        opened.merge_results([result("a")])
        opened.merge_results([result("d")])
        heard = [json.loads(notification.payload) for notification in listener.notifies(timeout=5, stop_after=2)]
    assert heard == [
        {"run": "r", "stored": 2, "verdicts": {"passed": 1, "failed": 1}},
        {"run": "r", "stored": 1, "verdicts": {"passed": 1}},
    ]


def test_collectors_at_the_same_time_store_each_result_once(opened: Store, postgres: str) -> None:
    batch = [result(f"{number}") for number in range(2000)]
    stored: list[int] = []

    def merge(order: int) -> None:
        with Store(postgres) as own:
            for first in range(0, 2000, 500):
                stored.append(own.merge_results(batch[first : first + 500][::order]))

    threads = [threading.Thread(target=merge, args=(order,)) for order in (1, -1, 1)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert len(stored) == 12 and sum(stored) == 2000
    assert opened.progress("r").done == 2000


def test_at_least_5000_results_a_second_are_stored(opened: Store) -> None:
    batch = [result(f"{number:032}", case_name="x" * 250, operation="GET /pets") for number in range(10_000)]
    opened.mark_published("r", [result.case for result in batch], positions={})
    begin = time.monotonic()
    assert sum(opened.merge_results(batch[first : first + 2500]) for first in range(0, 10_000, 2500)) == 10_000
    assert time.monotonic() - begin < 2


def test_results_are_read_as_of_one_moment_while_others_are_stored(opened: Store) -> None:
    opened.merge_results([result(f"{number:05}") for number in range(5000)])
    reading = opened.results("r")
    assert next(reading).case == "00000"
    opened.merge_results([result("z")])
    assert len(list(reading)) == 4999


# --------------------------------------------------------------------------- history


def report(run: str, *findings: tuple[str, FindingState]) -> Report:
    findings = tuple(
        Finding(
            fingerprint=fingerprint,
            operation="GET /a\x00",
            check="status",
            count=1,
            advisory=False,
            basis="spec",
            message="m\x00",
            state=state,
            example=FindingExample(case="a", case_name="n", message="m\x00"),
        )
        for fingerprint, state in findings
    )
    totals = Totals(cases=1, requests=1, results={"failed": 1})
    return Report(target="shop", run=run, totals=totals, operations={}, findings=findings)


def finding_rows(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT fingerprint, first_seen_run, last_seen_run, state FROM testops.findings ORDER BY 1"
        ).fetchall()


def test_a_report_comes_back_and_finishes_its_run(opened: Store) -> None:
    assert opened.report("r") is None and opened.report("absent") is None
    made = report("r", ("f1", "new"))
    opened.save_report("r", made, False)
    record = opened.run("r")
    assert opened.report("r") == made
    assert (record.state, record.passed) == ("finished", False) and record.finished is not None
    assert opened.open_positions() == {}
    with pytest.raises(StoreError, match="absent"):
        opened.save_report("absent", made, True)


def test_findings_keep_their_first_run(store: Store, postgres: str) -> None:
    for run in ("r1", "r2", "r3"):
        store.open_run(run, "shop")
    store.save_report("r1", report("r1", ("f1", "new"), ("f2", "new")), False)
    store.save_report("r2", report("r2", ("f1", "known"), ("f2", "fixed"), ("f3", "new")), False)
    assert finding_rows(postgres) == [
        ("f1", "r1", "r2", "known"),
        ("f2", "r1", "r1", "fixed"),
        ("f3", "r2", "r2", "new"),
    ]
    assert store.known_fingerprints("shop") == {"f1": "r1", "f2": "r1", "f3": "r2"}
    assert store.known_fingerprints("other") == {}


def test_a_run_analysed_again_replaces_its_findings(opened: Store, postgres: str) -> None:
    for fingerprints in (("f1", "f2"), ("f2", "f3"), ("f2", "f3")):
        opened.save_report("r", report("r", *((fingerprint, "new") for fingerprint in fingerprints)), False)
    assert finding_rows(postgres) == [("f2", "r", "r", "new"), ("f3", "r", "r", "new")]


def test_a_muted_finding_stays_muted(opened: Store, postgres: str) -> None:
    opened.save_report("r", report("r", ("f1", "new")), False)
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE testops.findings SET state = 'muted'")
    opened.save_report("r", report("r", ("f1", "known")), False)
    assert finding_rows(postgres) == [("f1", "r", "r", "muted")]


def test_response_times_come_from_the_last_finished_runs_before(store: Store) -> None:
    runs = ("r1", "r2", "r3", "r4")
    for run, target in (*((run, "shop") for run in runs), ("x", "other")):
        store.open_run(run, target)
    for number, run in enumerate(("r1", "x", "r3", "r4")):
        timed = OperationReport(statuses={"200": 9}, latency_ms={"p50": float(number)})
        store.save_report(run, msgspec.structs.replace(report(run), operations={"GET /a": timed}), True)
    assert store.response_times("shop", "r4", runs=9) == [{"GET /a": 2.0}, {"GET /a": 0.0}]
    assert store.response_times("shop", "r4", runs=1) == [{"GET /a": 2.0}]
    assert store.response_times("shop", "r1", runs=9) == store.response_times("shop", "absent", runs=9) == []


def test_what_was_found_slower_than_usual_is_not_usual_and_another_address_is_another_history(store: Store) -> None:
    timed = OperationReport(statuses={"200": 9}, latency_ms={"p50": 7.0})
    slow = msgspec.structs.replace(report("r2", ("f1", "new")).findings[0], check="response_time_history")
    for number, address in enumerate(("http://a", "http://a", "http://b", "http://a"), 1):
        store.open_run(f"r{number}", "shop", base_url=address)
        made = msgspec.structs.replace(report(f"r{number}"), operations={"GET /a\x00": timed, "GET /b": timed})
        store.save_report(f"r{number}", msgspec.structs.replace(made, findings=(slow,) if number == 2 else ()), True)
    assert store.response_times("shop", "r4", runs=9) == [{"GET /b": 7.0}, {"GET /a\x00": 7.0, "GET /b": 7.0}]


def test_the_previous_run_is_the_latest_finished_one_of_the_target(store: Store) -> None:
    for run, target in [("r1", "shop"), ("r2", "shop"), ("r3", "shop"), ("x", "other"), ("r4", "shop"), ("r5", "shop")]:
        store.open_run(run, target)
    for run in ("r1", "r2", "x", "r5"):
        store.save_report(run, report(run), True)
    store.open_run("r1", "shop")
    store.save_report("r1", report("r1"), True)
    assert store.previous_run("shop", "r4") == "r2"
    assert store.previous_run("shop", "r1") is None
    assert store.previous_run("shop", "not opened yet") == "r5"
    assert store.latest_run() == "r5" and store.latest_run("other") == "x" and store.latest_run("none") is None


def test_what_did_not_pass_is_known_for_each_attempt(opened: Store) -> None:
    opened.mark_published("r", list("abcde"), positions={0: 0})
    assert opened.last_attempt("r") == 0
    first = [result("a"), result("b", "failed"), result("c", "errored"), result("d", "skipped")]
    opened.merge_results(first)
    opened.close_missing("r")
    assert opened.unpassed("r", before=2) == ["b", "c", "d", "e"] and opened.last_attempt("r") == 1
    opened.merge_results([result("b", attempt=2), result("c", "failed", attempt=2), result("e", attempt=2)])
    assert opened.unpassed("r", before=2) == ["b", "c", "d", "e"], (
        "what an attempt takes does not depend on its results"
    )
    assert opened.missing("r", attempt=2) == ["d"]
    assert opened.without_result("r") == 0
    assert opened.close_missing("r", attempt=2) == 1
    assert opened.without_result("r") == 1
    assert opened.unpassed("r", before=3) == ["c", "d"] and opened.last_attempt("r") == 2
    attempts = [(result.case, result.attempt, result.verdict) for result in opened.attempts("r")]
    assert attempts == [
        ("a", 1, "passed"),
        ("b", 1, "failed"),
        ("b", 2, "passed"),
        ("c", 1, "errored"),
        ("c", 2, "failed"),
        ("d", 1, "skipped"),
        ("d", 2, "errored"),
        ("e", 1, "errored"),
        ("e", 2, "passed"),
    ]
