"""PostgreSQL, schema `testops`: specs, suites, runs, cases, results, findings, reports."""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg

from testops_lib.errors import StoreError
from testops_lib.model import SLOWER, Batch, Case, Generation, OperationReport, Report, Result, Value
from testops_lib.store import migrate, rows, statements
from testops_lib.suite import Change, Made, Member, digest
from testops_lib.target import ResolvedRun
from testops_lib.verdict.repetition import split
from testops_lib.verdict.response_times import medians

log = logging.getLogger(__name__)

SCHEMA_VERSION = "0005"
"""The migration this version of the code needs; the newest of `store/migrations/versions`."""

CHANNEL = "testops_results"
"""NOTIFY channel: JSON `{"run": …, "stored": …, "verdicts": {…}}` whenever results of a run were stored."""

NO_RESULT = rows.NO_RESULT
"""The reason of the result that a published case gets when none came."""

_CASE = msgspec.json.Decoder(Case)
_RESULT = msgspec.json.Decoder(Result)
_GENERATION = msgspec.json.Decoder(Generation)
_MADE = msgspec.json.Decoder(Made)


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    check: str
    operation: str
    state: str = "new"


class _Timed(msgspec.Struct, frozen=True, kw_only=True):
    """What of a report tells how fast its operations usually are; the rest is not looked at."""

    operations: dict[str, OperationReport] = msgspec.field(default_factory=dict)
    findings: tuple[_Found, ...] = ()

    def usual(self) -> dict[str, float]:
        """The medians of operations, but for those that were found to be slower than usual."""
        slow = {one.operation for one in self.findings if one.check == SLOWER and one.state != "fixed"}
        return {key: median for key, median in medians(self.operations).items() if key not in slow}


_TIMED = msgspec.json.Decoder(_Timed)
_GONE = "the document does not describe its operation any more"
_MEMBER_TYPES = (*("text",) * 5, "int4", "text", "text", "text", "bool", "text", "text", "text", "timestamptz")


class Run(Value, frozen=True, kw_only=True):
    """What is known of a run, without its cases and results."""

    run: str
    target: str
    title: str = ""
    base_url: str = ""
    spec_hash: str = ""
    state: str
    """open, published, finished."""
    started: datetime
    """When it was first opened."""
    finished: datetime | None = None
    resolved: ResolvedRun | None = None
    """What it does, as it was opened."""
    plan_batch: Batch | None = None
    batches: tuple[Batch, ...] = ()
    positions: dict[int, int] = msgspec.field(default_factory=dict)
    """Results topic: partition -> offset before which no result of the run stands."""
    passed: bool | None = None
    suite: str = ""
    """Whose cases it executes."""


class LiveFailure(Value, frozen=True, kw_only=True):
    """One failure as it came in."""

    seq: int
    case_name: str
    operation: str
    check: str
    message: str


class Progress(Value, frozen=True, kw_only=True):
    """How far a run is."""

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
    """Those after the `seq` asked for, oldest first."""
    seq: int = 0
    """Ask for failures after this next time."""


class Store:
    """One connection to the database; made when first needed, and again after it broke.

    Not for use by several threads at once. Usable as a context manager.
    Every method raises `StoreError` when PostgreSQL is away or its schema is not the one needed.

    Args:
        dsn: `postgresql://user:password@host:port/database`; a driver in the scheme (`postgresql+psycopg2`) is ignored.
    """

    def __init__(self, dsn: str) -> None:
        scheme, colon, rest = dsn.partition("://")
        self._dsn = f"{scheme.partition('+')[0]}{colon}{rest}" if colon else dsn
        self._open: psycopg.Connection[Any] | None = None
        self.unknown_results = 0
        """Results that `merge_results` left out because their run, or their case in it, is not known here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    # ------------------------------------------------------------------ schema

    def upgrade(self) -> None:
        """Creates the schema or brings it to the current version; callers at the same time wait for each other."""
        from alembic.util import CommandError
        from sqlalchemy.exc import DBAPIError

        self.close()
        try:
            migrate.upgrade(self._dsn)
        except DBAPIError as error:
            raise StoreError(str(error.orig).strip(), where="db upgrade") from error
        except psycopg.Error as error:
            raise _away(error) from error
        except CommandError as error:
            raise StoreError(
                f"the database's schema is newer than this version ({error})",
                where="db upgrade",
                next_step="update this installation",
            ) from error

    def version(self) -> str | None:
        """The version of the database's schema; None before the first upgrade."""
        try:
            with psycopg.connect(self._dsn, autocommit=True, connect_timeout=10) as connection:
                return _version(connection)
        except psycopg.Error as error:
            raise _away(error) from error

    # ------------------------------------------------------------------ specs

    def put_spec(self, spec_hash: str, data: bytes) -> None:
        """Keeps a document under its hash; the first one stays."""
        with self._transaction() as connection:
            connection.execute(statements.PUT_SPEC, (spec_hash, zlib.compress(data, 6)))

    def get_spec(self, spec_hash: str) -> bytes:
        """The document with this hash.

        Raises:
            StoreError: there is none.
        """
        found = self._one(statements.GET_SPEC, spec_hash)
        if found is None:
            raise StoreError(f"no spec {spec_hash}", where="store", next_step="clear the run's task `load_spec`")
        return zlib.decompress(found[0])

    # ------------------------------------------------------------------ runs and cases

    def open_run(
        self,
        run: str,
        target: str,
        *,
        title: str = "",
        base_url: str = "",
        spec_hash: str = "",
        resolved: ResolvedRun | None = None,
        suite: str = "",
    ) -> None:
        """Registers a run. Repeated for the same run it takes the new values and keeps what was stored of it."""
        document = msgspec.json.encode(resolved).decode() if resolved is not None else None
        values = (run, target, rows.text(title), rows.text(base_url), spec_hash, document, suite)
        with self._transaction() as connection:
            connection.execute(statements.OPEN_RUN, values)

    def run(self, run: str) -> Run:
        """What is known of the run.

        Raises:
            StoreError: there is no such run.
        """
        found = self._one(statements.GET_RUN, run)
        if found is None:
            raise _no_run(run)
        names = (
            "run",
            "target",
            "title",
            "base_url",
            "spec_hash",
            "state",
            "started",
            "finished",
            "resolved",
            "plan_batch",
            "batches",
            "positions",
            "passed",
            "suite",
        )
        known = dict(zip(names, found, strict=True))
        known["resolved"] = msgspec.json.decode(known["resolved"], type=ResolvedRun) if known["resolved"] else None
        known["plan_batch"] = msgspec.json.decode(known["plan_batch"], type=Batch) if known["plan_batch"] else None
        known["batches"] = tuple(msgspec.json.decode(one, type=Batch) for one in known["batches"])
        known["positions"] = _positions(known["positions"])
        return Run(**known)

    def save_cases(self, run: str, group: str, cases: Sequence[Case], generation: Generation) -> None:
        """Makes these the group's cases in the run, in this order, whatever it had before.

        Groups are ordered by name, byte by byte: pad numbers with zeros.
        """
        with self._transaction():
            self.put_cases(cases)
            self.put_group(run, group, [one.id for one in cases], generation)

    def put_cases(self, cases: Iterable[Case]) -> None:
        """Keeps these cases; one known under another name or origin takes the latest."""
        documents = {one.id: one for one in cases}
        if not documents:
            return
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.execute(statements.CASES_INCOMING)
            with cursor.copy(statements.COPY_CASES) as copy:
                copy.set_types(("text",) * 6)
                for one in documents.values():
                    document = msgspec.json.encode(one).decode()
                    texts = (one.name, one.operation, one.intent, one.origin.source)
                    copy.write_row((one.id, *map(rows.text, texts), document))
            cursor.execute(statements.MERGE_CASES)
            cursor.execute(statements.CLEAR_CASES)

    def put_group(self, run: str, group: str, cases: Iterable[str], generation: Generation) -> None:
        """Makes these, known by their ids, the group's cases in the run, in this order, whatever it had before."""
        made = msgspec.json.encode(generation).decode()
        with self._transaction() as connection:
            connection.execute(statements.PUT_GROUP, (run, group, list(dict.fromkeys(cases)), made))

    def keep_cases(self, run: str, cases: Collection[str]) -> None:
        """Takes all other cases out of the run, which is not published yet."""
        with self._transaction() as connection:
            connection.execute(statements.KEEP_CASES, (list(cases), run))

    def read_cases(self, run: str, *, first: str = "", end: str = "") -> Iterator[Case]:
        """As `load_cases`, read as they are taken, as of one moment."""
        wanted = {"run": run, "first": first, "end": end}
        with self._translated(), self._connect() as connection, connection.cursor(name="cases") as cursor:
            cursor.itersize = 1000
            for (document,) in cursor.execute(statements.LOAD_CASES, wanted):
                yield _CASE.decode(document)

    def cases_by_id(self, ids: Iterable[str]) -> Iterator[Case]:
        """The cases with these ids, in their order, read as they are taken; those that are not known are left out."""
        waiting = iter(ids)
        while some := list(islice(waiting, 500)):
            found = self.cases(some)
            yield from (found[one] for one in some if one in found)

    def load_cases(self, run: str, *, first: str = "", end: str = "") -> list[Case]:
        """The run's cases by group and position, each once; of the groups from `first` on and before `end`."""
        wanted = {"run": run, "first": first, "end": end}
        with self._transaction() as connection:
            return [_CASE.decode(document) for (document,) in connection.execute(statements.LOAD_CASES, wanted)]

    def cases(self, ids: Collection[str]) -> dict[str, Case]:
        """Id -> case, of those that are known."""
        found = (_CASE.decode(document) for (document,) in self._all(statements.GET_CASES, list(ids)))
        return {one.id: one for one in found}

    def generations(self, run: str) -> list[Generation]:
        """How the run's cases came to be, by group."""
        return [_GENERATION.decode(document) for (document,) in self._all(statements.GENERATIONS, run)]

    def generations_since(self, target: str, since: datetime, *, but: str) -> list[Generation]:
        """How the cases of the target's runs opened since then came to be, those of one run left out."""
        return [_GENERATION.decode(one) for (one,) in self._all(statements.GENERATIONS_SINCE, target, since, but)]

    # ------------------------------------------------------------------ suites

    @contextmanager
    def locked(self, suite: str) -> Iterator[None]:
        """One transaction in which nobody else writes to the suite."""
        with self._transaction() as connection:
            connection.execute(statements.LOCK_SUITE, (suite,))
            yield

    def members(
        self, suite: str, *, source: str | None = None, operations: Collection[str] | None = None
    ) -> list[Member]:
        """The suite's members of any status, by operation, source and position."""
        wanted = {"suite": suite, "source": source, "operations": None if operations is None else _texts(operations)}
        with self._transaction() as connection:
            return [_member(row) for row in connection.execute(statements.MEMBERS, wanted)]

    def named_members(self, start: str) -> list[Member]:
        """The members whose id, or whose case's id, begins so: at most 20."""
        with self._transaction() as connection:
            return [_member(row) for row in connection.execute(statements.NAMED_MEMBERS, {"start": start})]

    def suites(self) -> list[str]:
        """Names of all suites."""
        return [name for (name,) in self._all(statements.SUITES)]

    def put_members(self, members: Sequence[Member], changes: Sequence[Change] = ()) -> None:
        """Stores members, new or changed, and lines of their history. Call it with the suite `locked`."""
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.execute(statements.MEMBERS_INCOMING)
            with cursor.copy(statements.COPY_MEMBERS) as copy:
                copy.set_types(_MEMBER_TYPES)
                for one in members:
                    values = (getattr(one, name) for name in Member.__struct_fields__)
                    copy.write_row([rows.text(value) if isinstance(value, str) else value for value in values])
            cursor.execute(statements.MERGE_MEMBERS)
            cursor.execute(statements.CLEAR_MEMBERS)
            with cursor.copy(statements.COPY_CHANGES) as copy:
                copy.set_types(("text", "text", "timestamptz", *("text",) * 5))
                for change in changes:
                    texts = (change.who, change.what, change.why, change.before, change.after)
                    copy.write_row((change.member, change.suite, change.at, *map(rows.text, texts)))

    def changes(self, member: str) -> list[Change]:
        """The member's history, oldest first; its creation is not part of it."""
        names = Change.__struct_fields__
        return [Change(**dict(zip(names, row, strict=True))) for row in self._all(statements.CHANGES, member)]

    def retire(self, suite: str, *, kept: Collection[str]) -> int:
        """Retires the members of all other operations, takes it back for those kept; gives how many went."""
        wanted = {"suite": suite, "kept": _texts(kept), "why": _GONE, "back": "its operation is described again"}
        with self.locked(suite), self._transaction() as connection:
            connection.execute(statements.REVIVE, wanted)
            found = connection.execute(statements.RETIRE, wanted).fetchone()
        return int(found[0]) if found else 0

    def made(self, suite: str, source: str, operations: Collection[str]) -> dict[str, Made]:
        """Operation -> what decided the outcome when its cases of this source were last generated."""
        found = self._all(statements.MADE, suite, source, _texts(operations))
        return {operation: _MADE.decode(document) for operation, document in found}

    def put_made(self, suite: str, source: str, made: Mapping[str, Made]) -> None:
        """Keeps what decided the outcome, by operation."""
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.executemany(
                statements.PUT_MADE,
                [
                    (
                        digest(suite, operation, source),
                        suite,
                        rows.text(operation),
                        source,
                        rows.text(msgspec.json.encode(one).decode()),
                    )
                    for operation, one in sorted(made.items())
                ],
            )

    def run_members(self, run: str) -> list[Member]:
        """The members of the run's suite whose cases it takes."""
        with self._transaction() as connection:
            return [_member(row) for row in connection.execute(statements.RUN_MEMBERS, {"run": run})]

    def stable(self, suite: str, *, runs: int) -> set[str]:
        """Ids of active cases with guesses that passed in each of the last `runs` runs that executed them."""
        wanted = {"suite": suite, "runs": runs, "among": 10 * runs}
        with self._transaction() as connection:
            return {case for (case,) in connection.execute(statements.STABLE, wanted)}

    def suite_spec(self, suite: str) -> str:
        """Hash of the document that the suite's last run read; "" without one."""
        found = self._one(statements.SUITE_SPEC, suite)
        return str(found[0]) if found else ""

    def held(self, run: str) -> set[str]:
        """Ids of cases that the run's suite does not let run: drafts, rejected and retired ones."""
        return {case for (case,) in self._all(statements.HELD, run)}

    def quarantined(self, run: str) -> set[str]:
        """Ids of cases that run without counting for the gate."""
        return {case for (case,) in self._all(statements.QUARANTINED, run)}

    # ------------------------------------------------------------------ publication

    def mark_published(
        self,
        run: str,
        cases: Iterable[str],
        *,
        positions: Mapping[int, int],
        plan: Batch | None = None,
        batches: Sequence[Batch] = (),
        further: bool = False,
    ) -> None:
        """Records what was published; a publication before of the same run is replaced.

        Results of cases that are no longer published are dropped; the others stay, and so do the earliest positions.
        What is published `further` comes on top instead, and nothing is replaced.

        Args:
            run: the run, opened before.
            cases: their ids.
            positions: ends of the results topic before publishing (`Bus.results_position`).
            plan: where the plan is.
            batches: what was published.

        Raises:
            StoreError: there is no such run.
        """
        with self._transaction() as connection, connection.cursor() as cursor:
            # The merge's lock: no result of a case just dropped may slip in between.
            cursor.execute(statements.LOCK_RESULTS)
            found = cursor.execute(statements.LOCK_RUN, (run,)).fetchone()
            if found is None:
                raise _no_run(run)
            earlier = _positions(found[0])
            lowest = {one: min(offset, earlier.get(one, offset)) for one, offset in positions.items()}
            documents = [msgspec.json.encode(one).decode() for one in batches]
            if further:
                cursor.execute(statements.PUBLISH_FURTHER, (sorted(set(cases)), run))
                cursor.execute(statements.MARK_FURTHER, (documents, run))
                return
            cursor.execute(statements.DELETE_PUBLISHED, (run,))
            cursor.execute(statements.PUBLISHED_INCOMING)
            with cursor.copy(statements.COPY_PUBLISHED) as copy:
                copy.set_types(("text",))
                for case in cases:
                    copy.write_row((case,))
            cursor.execute(statements.PUBLISH, (run,))
            gone = [case for (case,) in cursor.execute(statements.UNPUBLISHED, {"run": run})]
            if gone:
                cursor.execute(statements.DELETE_RESULTS, (run, gone))
            cursor.execute(statements.DELETE_UNPUBLISHED_REPETITIONS, (run,))
            where = msgspec.json.encode(plan).decode() if plan is not None else None
            cursor.execute(statements.MARK_PUBLISHED, (json.dumps({**earlier, **lowest}), where, documents, run))

    def begin_batch(self, run: str, batch: str, *, attempt: int = 1) -> bool:
        """Notes that a runner is about to be started for the batch; gives whether it is the first one."""
        with self._transaction() as connection:
            return connection.execute(statements.BEGIN_BATCH, (run, batch, attempt)).rowcount == 1

    def published(self, run: str) -> int:
        """Cases published."""
        found = self._one(statements.COUNT_PUBLISHED, run)
        return int(found[0]) if found else 0

    def batches(self, run: str) -> list[Batch]:
        """Batches published, in their order."""
        return list(self.run(run).batches)

    def positions(self, run: str) -> dict[int, int]:
        """Where the run's results begin in the results topic, by partition; empty before it is published."""
        return self.run(run).positions

    def open_positions(self) -> dict[int, int]:
        """Where the results of all runs begin that are published, not finished, and not older than a day."""
        lowest: dict[int, int] = {}
        for (stored,) in self._all(statements.OPEN_POSITIONS):
            for partition, offset in _positions(stored).items():
                lowest[partition] = min(offset, lowest.get(partition, offset))
        return lowest

    # ------------------------------------------------------------------ results

    def merge_results(self, results: Iterable[Result]) -> int:
        """Stores results by (run, case, attempt), and says how many changed anything.

        What supersedes what is `rows.supersedes`: redelivered results change nothing, and the first passed or failed
        stays. Results of runs not known here, or of cases that a published run does not have, are left out
        (`unknown_results`). Repetitions are stored apart (`repetitions`), in the same way.
        """
        given, repeated = split(results)
        again = self._merge_repetitions(repeated)
        unique = rows.dedupe(one for one in given if rows.fits(one))
        unknown = sum(not rows.fits(one) for one in given)
        changed: dict[str, dict[str, int]] = defaultdict(dict)
        wanted = 0
        if unique:
            with self._transaction() as connection, connection.cursor() as cursor:
                cursor.execute(statements.RESULTS_INCOMING)
                with cursor.copy(statements.COPY_RESULTS) as copy:
                    copy.set_types(rows.RESULT_TYPES)
                    for one in unique:
                        copy.write_row(rows.row(one))
                cursor.execute(statements.LOCK_RESULTS)
                for what, run, verdict, count in cursor.execute(statements.MERGE_RESULTS):
                    if what == "merged":
                        changed[run][verdict] = count
                    else:
                        wanted = count
                for run, verdicts in changed.items():
                    payload = {"run": run, "stored": sum(verdicts.values()), "verdicts": verdicts}
                    cursor.execute(statements.NOTIFY, (json.dumps(payload),))
        unknown += len(unique) - wanted
        if unknown:
            self.unknown_results += unknown
            log.info("%d of %d results belong to no run known here", unknown, len(given))
        return again + sum(sum(verdicts.values()) for verdicts in changed.values())

    def _merge_repetitions(self, repetitions: Iterable[Result]) -> int:
        changed = 0
        fitting = [one for one in repetitions if rows.fits(one)]
        if fitting:
            with self._transaction() as connection:
                for one in sorted(fitting, key=lambda one: (one.run, one.case, one.repeat)):
                    values = {
                        "run": rows.text(one.run),
                        "case": rows.text(one.case),
                        "repeat": one.repeat,
                        "verdict": one.verdict,
                        "document": msgspec.json.encode(one).decode(),
                    }
                    changed += connection.execute(statements.PUT_REPETITION, values).rowcount
        return changed

    def repetitions(self, run: str) -> list[Result]:
        """What came of repeating failed cases of the run, by case id and number."""
        return [_RESULT.decode(document) for (document,) in self._all(statements.REPETITIONS, run)]

    def missing(self, run: str, *, attempt: int = 1) -> list[str]:
        """Ids of the published cases without a result, ascending; of a later attempt, of those `unpassed` before it."""
        statement = statements.MISSING if attempt == 1 else statements.MISSING_AGAIN
        with self._transaction() as connection:
            return [case for (case,) in connection.execute(statement, {"run": run, "attempt": attempt})]

    def unpassed(self, run: str, *, before: int) -> list[str]:
        """Ids of the cases whose last attempt below `before` did not pass, ascending."""
        with self._transaction() as connection:
            found = connection.execute(statements.UNPASSED, {"run": run, "attempt": before})
            return [case for (case,) in found]

    def last_attempt(self, run: str) -> int:
        """The highest attempt that any result of the run has; 0 without results."""
        found = self._one(statements.LAST_ATTEMPT, run)
        return int(found[0]) if found else 0

    def close_missing(self, run: str, *, attempt: int = 1) -> int:
        """Gives each case that is `missing` an errored result (`no_result`); says how many it gave."""
        missing, closed = iter(self.missing(run, attempt=attempt)), 0
        while some := list(islice(missing, 5000)):
            described = {one[0]: one[1:] for one in self._all(statements.DESCRIBE_CASES, some)}
            closing = []
            for case in some:
                name, operation, intent, source = described.get(case, ("", "", "positive", ""))
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
        """Cases that `close_missing` closed and that still have no result of their own, in their last attempt."""
        found = self._one(statements.COUNT_NO_RESULT, run)
        return int(found[0]) if found else 0

    def progress(self, run: str, *, after: int = 0, limit: int = 200) -> Progress:
        """How far the run is, with at most `limit` failed results stored after the `seq` given.

        Raises:
            StoreError: there is no such run.
        """
        known = self.run(run)
        verdicts = Counter({verdict: count for verdict, count in self._all(statements.COUNT_VERDICTS, run)})
        failures: list[LiveFailure] = []
        seq = after
        for seq, document in self._all(statements.NEW_FAILURES, run, after, limit):
            result = _RESULT.decode(document)
            failures.extend(
                LiveFailure(
                    seq=seq,
                    case_name=result.case_name,
                    operation=one.sent or one.operation,
                    check=one.check,
                    message=one.message,
                )
                for one in result.failures
            )
        return Progress(
            run=run,
            target=known.target,
            state=known.state,
            published=self.published(run),
            done=verdicts.total(),
            by_verdict=dict(verdicts),
            failures=tuple(failures),
            seq=seq,
        )

    def results(self, run: str) -> Iterator[Result]:
        """The final result of each case, its last attempt, by case id; read as they are taken, as of one moment."""
        return self._read_results(statements.RESULTS, run)

    def attempts(self, run: str) -> Iterator[Result]:
        """Every result of the run, by case id and attempt; read as they are taken, as of one moment."""
        return self._read_results(statements.ATTEMPTS, run)

    def _read_results(self, statement: str, run: str) -> Iterator[Result]:
        with self._translated(), self._connect() as connection, connection.cursor(name="results") as cursor:
            cursor.itersize = 2000
            for (document,) in cursor.execute(statement, (run,)):
                yield _RESULT.decode(document)

    # ------------------------------------------------------------------ history and reports

    def previous_run(self, target: str, before: str) -> str | None:
        """The latest finished run of the target that was opened before this one."""
        found = self._one(statements.PREVIOUS_RUN, target, before, before)
        return found[0] if found else None

    def response_times(self, target: str, before: str, *, runs: int) -> list[dict[str, float]]:
        """Usual median response times by operation, of the target's last finished runs before this one at the same base
        URL, the latest first.
        """
        wanted = {"target": target, "run": before, "runs": runs}
        with self._transaction() as connection:
            found = connection.execute(statements.RESPONSE_TIMES, wanted)
            return [_TIMED.decode(report).usual() for (report,) in found]

    def latest_run(self, target: str | None = None) -> str | None:
        """The run opened last, of the target or of all."""
        with self._transaction() as connection:
            found = connection.execute(statements.LATEST_RUN, {"target": target}).fetchone()
        return found[0] if found else None

    def known_fingerprints(self, target: str) -> dict[str, str]:
        """Every fingerprint ever seen at the target -> the run that saw it first.

        A run analysed again finds its own here: `first_seen_run == run` is new, not known.
        """
        return dict(self._all(statements.KNOWN_FINGERPRINTS, target))

    def save_report(self, run: str, report: Report, passed: bool) -> None:
        """Finishes the run with its report and records its findings; a repetition replaces both.

        Raises:
            StoreError: there is no such run.
        """
        seen = [one.fingerprint for one in report.findings]
        with self._transaction() as connection, connection.cursor() as cursor:
            document = msgspec.json.encode(report).decode()
            if cursor.execute(statements.FINISH_RUN, (passed, document, run)).rowcount == 0:
                raise _no_run(run)
            cursor.execute(statements.FORGET_FINDINGS, (report.target, run, run, seen))
            cursor.executemany(
                statements.PUT_FINDING,
                [
                    {
                        "target": report.target,
                        "fingerprint": one.fingerprint,
                        "operation": rows.text(one.operation),
                        "check": one.check,
                        "message": rows.text(one.message),
                        "state": one.state,
                        "run": run,
                    }
                    for one in sorted(report.findings, key=lambda one: one.fingerprint)
                ],
            )

    def report(self, run: str) -> Report | None:
        """The run's report; None as long as it has none."""
        found = self._one(statements.GET_REPORT, run)
        return msgspec.json.decode(found[0], type=Report) if found and found[0] else None

    # ------------------------------------------------------------------ connection

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._dsn, autocommit=False, connect_timeout=10, application_name="testops")
        try:
            version = _version(connection)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        if version == SCHEMA_VERSION:
            return connection
        connection.close()
        if version is None:
            what = "the database has no schema `testops` yet"
            raise StoreError(what, where="store", next_step="run `testops db upgrade`")
        old = version < SCHEMA_VERSION
        raise StoreError(
            f"the database's schema has version {version}, this installation needs {SCHEMA_VERSION}",
            where="store",
            next_step="run `testops db upgrade`" if old else "update this installation",
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise _away(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with self._translated():
            if self._open is None or self._open.closed:
                self._open = self._connect()
            try:
                with self._open.transaction():
                    yield self._open
            except psycopg.OperationalError:
                self.close()  # broken, or soon: the next call connects anew
                raise

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._transaction() as connection:
            return connection.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        with self._transaction() as connection:
            found: tuple[Any, ...] | None = connection.execute(statement, values).fetchone()
            return found


def _version(connection: psycopg.Connection[Any]) -> str | None:
    try:
        found = connection.execute(statements.VERSION).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return str(found[0]) if found else None


def _texts(values: Iterable[str]) -> list[str]:
    return [rows.text(value) for value in values]


def _member(row: tuple[Any, ...]) -> Member:
    return Member(**dict(zip(Member.__struct_fields__, row, strict=True)))


def _positions(stored: Mapping[str, int] | None) -> dict[int, int]:
    return {int(partition): offset for partition, offset in (stored or {}).items()}


def _no_run(run: str) -> StoreError:
    return StoreError(f"there is no run {run!r}", where="store", next_step="check the run's id")


def _away(error: psycopg.Error) -> StoreError:
    what = str(error).strip() or type(error).__name__
    if isinstance(error, psycopg.OperationalError):
        return StoreError(f"PostgreSQL is away: {what}", where="store", next_step="check that it runs; then repeat")
    return StoreError(what, where="store")
