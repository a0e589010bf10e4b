"""Results and repetitions: merged by key, counted, read back."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from testops_lib.model import Result, Value
from testops_lib.store import rows, statements
from testops_lib.store.runs import Runs
from testops_lib.tolerant import TolerantDecoder
from testops_lib.verdict.repetition import split

log = logging.getLogger(__name__)

CHANNEL = "testops_results"
"""NOTIFY channel: JSON `{"run": …, "stored": …, "verdicts": {…}}` each time that results of a run are stored."""

NO_RESULT = rows.NO_RESULT
"""The reason of the result that `close_missing` gives a published case without one."""

_RESULT: TolerantDecoder[Result] = TolerantDecoder(Result)


class LiveFailure(Value, frozen=True, kw_only=True):
    """One failure, as a live page shows it."""

    seq: int
    case_name: str
    operation: str
    check: str
    message: str


class Progress(Value, frozen=True, kw_only=True):
    """How far a run has come."""

    run: str
    target: str
    state: str
    """open, published, finished."""
    published: int
    done: int
    """Cases with a result."""
    by_verdict: dict[str, int]
    """Cases by the verdict of their last attempt; only verdicts that occur."""
    failures: tuple[LiveFailure, ...] = ()
    """The failures after the `seq` of the call, oldest first."""
    seq: int = 0
    """Pass it to the next call to get later failures."""


class Results(Runs):
    """Results of runs, at most one for each (run, case, attempt), and the progress they show."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.unknown_results = 0
        """Results that `merge_results` left out because the store has no such run, or no such case in it."""

    def merge_results(self, results: Iterable[Result]) -> int:
        """Stores results by (run, case, attempt); returns how many rows were new or changed.

        `rows.supersedes` decides between two results of one key: redelivered results change nothing, and the first
        passed or failed one stays. Results of unknown runs, or of cases that a published run does not have, are left
        out (`unknown_results`). Repetitions are stored likewise, in a table of their own (`repetitions`).
        """
        attempts, repetitions = split(results)
        changed_repetitions = self._merge_repetitions(repetitions)
        unique = rows.dedupe(result for result in attempts if rows.fits(result))
        unknown = sum(not rows.fits(result) for result in attempts)
        changed: dict[str, dict[str, int]] = defaultdict(dict)
        known = 0
        if unique:
            with self._transaction() as connection, connection.cursor() as cursor:
                cursor.execute(statements.RESULTS_INCOMING)
                with cursor.copy(statements.COPY_RESULTS) as copy:
                    copy.set_types(rows.RESULT_TYPES)
                    for result in unique:
                        copy.write_row(rows.row(result))
                cursor.execute(statements.LOCK_RESULTS)
                for what, run, verdict, count in cursor.execute(statements.MERGE_RESULTS):
                    if what == "merged":
                        changed[run][verdict] = count
                    else:
                        known = count
                for run, verdicts in changed.items():
                    payload = {"run": run, "stored": sum(verdicts.values()), "verdicts": verdicts}
                    cursor.execute(statements.NOTIFY, (json.dumps(payload),))
        unknown += len(unique) - known
        if unknown:
            self.unknown_results += unknown
            log.info("%d of %d results belong to no run or case of this store", unknown, len(attempts))
        return changed_repetitions + sum(sum(verdicts.values()) for verdicts in changed.values())

    def _merge_repetitions(self, repetitions: Iterable[Result]) -> int:
        changed = 0
        fitting = [repetition for repetition in repetitions if rows.fits(repetition)]
        if fitting:
            with self._transaction() as connection:
                for repetition in sorted(fitting, key=lambda result: (result.run, result.case, result.repeat)):
                    values = {
                        "run": rows.text(repetition.run),
                        "case": rows.text(repetition.case),
                        "repeat": repetition.repeat,
                        "verdict": repetition.verdict,
                        "document": msgspec.json.encode(repetition).decode(),
                    }
                    changed += connection.execute(statements.PUT_REPETITION, values).rowcount
        return changed

    def repetitions(self, run: str) -> list[Result]:
        """The results of repeating failed cases of the run, by case id and number."""
        return [_RESULT.decode(document) for (document,) in self._fetch_all(statements.REPETITIONS, run)]

    def missing(self, run: str, *, attempt: int = 1) -> list[str]:
        """Ids of the cases without a result in this attempt, ascending.

        The first attempt is of all published cases, a later one of those `unpassed` before it.
        """
        statement = statements.MISSING if attempt == 1 else statements.MISSING_AGAIN
        with self._transaction() as connection:
            return [case for (case,) in connection.execute(statement, {"run": run, "attempt": attempt})]

    def unpassed(self, run: str, *, before: int) -> list[str]:
        """Ids of the cases whose last attempt below `before` did not pass, ascending."""
        with self._transaction() as connection:
            return [case for (case,) in connection.execute(statements.UNPASSED, {"run": run, "attempt": before})]

    def last_attempt(self, run: str) -> int:
        """The highest attempt among the run's results; 0 without results."""
        row = self._fetch_one(statements.LAST_ATTEMPT, run)
        return int(row[0]) if row else 0

    def close_missing(self, run: str, *, attempt: int = 1) -> int:
        """Stores an errored result (`no_result`) for each case that is `missing`; returns their number."""
        missing, closed = iter(self.missing(run, attempt=attempt)), 0
        while page := list(islice(missing, 5000)):
            descriptions = {row[0]: row[1:] for row in self._fetch_all(statements.DESCRIBE_CASES, page)}
            closing = []
            for case in page:
                name, operation, intent, source = descriptions.get(case, ("", "", "positive", ""))
                closing.append(
                    Result(
                        run=run,
                        case=case,
                        attempt=attempt,
                        case_name=name,
                        operation=operation,
                        intent=intent or "positive",
                        verdict="errored",
                        reason=NO_RESULT,
                        origin=source,
                    )
                )
            closed += self.merge_results(closing)
        return closed

    def without_result(self, run: str) -> int:
        """Number of cases whose last attempt still has no result but that of `close_missing`."""
        row = self._fetch_one(statements.COUNT_NO_RESULT, run)
        return int(row[0]) if row else 0

    def progress(self, run: str, *, after: int = 0, limit: int = 200) -> Progress:
        """How far the run has come, with at most `limit` failed results stored after `seq` `after`.

        Raises:
            StoreError: there is no such run.
        """
        record = self.run(run)
        verdicts = Counter({verdict: count for verdict, count in self._fetch_all(statements.COUNT_VERDICTS, run)})
        failures: list[LiveFailure] = []
        seq = after
        for seq, document in self._fetch_all(statements.NEW_FAILURES, run, after, limit):
            result = _RESULT.decode(document)
            failures.extend(
                LiveFailure(
                    seq=seq,
                    case_name=result.case_name,
                    operation=failure.sent or failure.operation,
                    check=failure.check,
                    message=failure.message,
                )
                for failure in result.failures
            )
        return Progress(
            run=run,
            target=record.target,
            state=record.state,
            published=self.published(run),
            done=verdicts.total(),
            by_verdict=dict(verdicts),
            failures=tuple(failures),
            seq=seq,
        )

    def results(self, run: str) -> Iterator[Result]:
        """The result of each case's last attempt, by case id: a snapshot that is read while it is consumed."""
        return self._read_results(statements.RESULTS, run)

    def attempts(self, run: str) -> Iterator[Result]:
        """All results of the run, by case id and attempt: a snapshot that is read while it is consumed."""
        return self._read_results(statements.ATTEMPTS, run)

    def _read_results(self, statement: str, run: str) -> Iterator[Result]:
        with self._translated(), self._connect() as connection, connection.cursor(name="results") as cursor:
            cursor.itersize = 2000
            for (document,) in cursor.execute(statement, (run,)):
                yield _RESULT.decode(document)
