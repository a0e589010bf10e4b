"""Suites: members, their history, and what decided the outcome of the last generation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from testops_lib.store import rows, statements
from testops_lib.store.database import Database, texts
from testops_lib.suite import Change, Made, Member, digest
from testops_lib.tolerant import TolerantDecoder

_MADE: TolerantDecoder[Made] = TolerantDecoder(Made)
_GONE = "the document does not describe its operation any more"
_MEMBER_TYPES = (*("text",) * 5, "int4", "text", "text", "text", "bool", "text", "text", "text", "timestamptz")


class Suites(Database):
    """The members of suites and their changes."""

    @contextmanager
    def locked(self, suite: str) -> Iterator[None]:
        """A transaction during which nobody else writes to the suite."""
        with self._transaction() as connection:
            connection.execute(statements.LOCK_SUITE, (suite,))
            yield

    def members(
        self, suite: str, *, source: str | None = None, operations: Collection[str] | None = None
    ) -> list[Member]:
        """The suite's members, whatever their status, by operation, source and position."""
        values = {"suite": suite, "source": source, "operations": None if operations is None else texts(operations)}
        with self._transaction() as connection:
            return [_member(row) for row in connection.execute(statements.MEMBERS, values)]

    def named_members(self, start: str) -> list[Member]:
        """The members whose id, or whose case's id, begins with `start`; at most 20."""
        with self._transaction() as connection:
            return [_member(row) for row in connection.execute(statements.NAMED_MEMBERS, {"start": start})]

    def suites(self) -> list[str]:
        """Names of all suites."""
        return [name for (name,) in self._fetch_all(statements.SUITES)]

    def put_members(self, members: Sequence[Member], changes: Sequence[Change] = ()) -> None:
        """Stores new or changed members, and the changes in their history. The caller holds the suite `locked`."""
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.execute(statements.MEMBERS_INCOMING)
            with cursor.copy(statements.COPY_MEMBERS) as copy:
                copy.set_types(_MEMBER_TYPES)
                for member in members:
                    values = (getattr(member, name) for name in Member.__struct_fields__)
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
        return [Change(**dict(zip(names, row, strict=True))) for row in self._fetch_all(statements.CHANGES, member)]

    def retire(self, suite: str, *, kept: Collection[str]) -> int:
        """Retires the members of all other operations; revives those of the operations kept that it retired earlier.

        Returns:
            how many members were retired.
        """
        values = {"suite": suite, "kept": texts(kept), "why": _GONE, "back": "its operation is described again"}
        with self.locked(suite), self._transaction() as connection:
            connection.execute(statements.REVIVE, values)
            row = connection.execute(statements.RETIRE, values).fetchone()
        return int(row[0]) if row else 0

    def made(self, suite: str, source: str, operations: Collection[str]) -> dict[str, Made]:
        """Operation -> what decided the outcome when its cases of this source were last generated."""
        made = self._fetch_all(statements.MADE, suite, source, texts(operations))
        return {operation: _MADE.decode(document) for operation, document in made}

    def put_made(self, suite: str, source: str, made: Mapping[str, Made]) -> None:
        """Stores what decided the outcome, by operation."""
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.executemany(
                statements.PUT_MADE,
                [
                    (
                        digest(suite, operation, source),
                        suite,
                        rows.text(operation),
                        source,
                        rows.text(msgspec.json.encode(record).decode()),
                    )
                    for operation, record in sorted(made.items())
                ],
            )

    def run_members(self, run: str) -> list[Member]:
        """The members of the run's suite whose cases the run has."""
        with self._transaction() as connection:
            return [_member(row) for row in connection.execute(statements.RUN_MEMBERS, {"run": run})]

    def stable(self, suite: str, *, runs: int) -> set[str]:
        """Ids of active cases with guesses that passed in each of the last `runs` runs that executed them."""
        values = {"suite": suite, "runs": runs, "among": 10 * runs}
        with self._transaction() as connection:
            return {case for (case,) in connection.execute(statements.STABLE, values)}

    def suite_spec(self, suite: str) -> str:
        """Hash of the document that the suite's last run read; "" without a run."""
        row = self._fetch_one(statements.SUITE_SPEC, suite)
        return str(row[0]) if row else ""

    def held(self, run: str) -> set[str]:
        """Ids of cases that the run's suite keeps from running: drafts, rejected and retired ones."""
        return {case for (case,) in self._fetch_all(statements.HELD, run)}

    def quarantined(self, run: str) -> set[str]:
        """Ids of cases that run without counting for the gate."""
        return {case for (case,) in self._fetch_all(statements.QUARANTINED, run)}


def _member(row: tuple[Any, ...]) -> Member:
    return Member(**dict(zip(Member.__struct_fields__, row, strict=True)))
