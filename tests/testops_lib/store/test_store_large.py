"""Statements about one large run, on a store with a history that PostgreSQL knows and a newest run that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from testops_lib.model import Generation, Result
from testops_lib.store import Store, statements
from testops_lib.suite import Member

pytestmark = pytest.mark.integration

CASES = 4000
HISTORY = 20
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ids(count: int = CASES) -> list[str]:
    return [f"case-{number:06}" for number in range(count)]


@pytest.fixture(scope="module")
def large(postgres_server: Any) -> Iterator[str]:
    """A database in which PostgreSQL counted everything, and then a run came that is larger than those before it."""
    dsn = postgres_server.create_database("large")
    with Store(dsn) as store:
        store.upgrade()
        with psycopg.connect(dsn, autocommit=True) as connection:
            for table in ("run_cases", "results", "run_groups", "runs", "cases", "suite_members"):
                connection.execute(f"ALTER TABLE testops.{table} SET (autovacuum_enabled = false)")
        for number in range(HISTORY):
            fill(store, f"old-{number:02}", 100)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ANALYZE")
        fill(store, "newest", CASES)
    yield dsn
    postgres_server.drop_database("large")


def fill(store: Store, run: str, count: int) -> None:
    """A run whose cases all have a result in the first attempt, half of them another one in the second."""
    store.open_run(run, "shop", suite=run)
    store.put_group(run, "0", ids(count), Generation(source="rules"))
    store.put_members(
        [
            Member(
                id=f"{run}-{case}",
                suite=run,
                operation="GET /a",
                source="rules",
                key=case,
                generated=case,
                current=case,
                status="active",
                position=0,
                changed=NOW,
            )
            for case in ids(count)
        ]
    )
    store.mark_published(run, ids(count), positions={0: 0})
    store.merge_results(Result(run=run, case=case, verdict="failed", started=None) for case in ids(count))
    store.merge_results(Result(run=run, case=case, attempt=2, verdict="passed") for case in ids(count // 2))


def rows_touched(dsn: str, statement: str, values: Any) -> int:
    """Rows that the nodes of the statement's plan produced or threw away; nothing of it is kept."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", values).fetchone()
        connection.rollback()
    assert row is not None

    def count(node: dict[str, Any]) -> float:
        rows = node["Actual Rows"] + sum(amount for name, amount in node.items() if name.startswith("Rows Removed"))
        return rows * node["Actual Loops"] + sum(map(count, node.get("Plans", ())))

    return round(count(row[0][0]["Plan"]))


NEWEST = {"run": "newest", "attempt": 2}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("MISSING", NEWEST),
        ("MISSING_AGAIN", NEWEST),
        ("UNPASSED", NEWEST),
        ("COUNT_NO_RESULT", ("newest",)),
        ("COUNT_VERDICTS", ("newest",)),
        ("RESULTS", ("newest",)),
        ("ATTEMPTS", ("newest",)),
        ("UNPUBLISHED", NEWEST),
        ("RUN_MEMBERS", NEWEST),
        ("HELD", ("newest",)),
        ("QUARANTINED", ("newest",)),
    ],
)
def test_the_effort_grows_with_the_run_and_not_with_its_square(large: str, name: str, values: Any) -> None:
    touched = rows_touched(large, getattr(statements, name), values)
    assert 0 < touched <= 20 * (CASES + HISTORY * 100), f"{touched} rows for {CASES} cases"


def test_a_second_publication_of_a_large_run_drops_what_it_has_no_more(large: str) -> None:
    with Store(large) as store:
        fill(store, "again", 3000)
        store.mark_published("again", ids(2000), positions={0: 0})
        assert sum(1 for _ in store.results("again")) == 2000 and store.missing("again") == []
        store.mark_published("again", ids(3500), positions={0: 0})
        assert store.missing("again") == ids(3500)[2000:]
        assert store.close_missing("again") == 1500 == store.without_result("again")
