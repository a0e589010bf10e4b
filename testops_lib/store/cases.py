"""Cases, and which of them a run has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

import msgspec

from testops_lib.model import Case, Generation
from testops_lib.store import rows, statements
from testops_lib.store.database import Database
from testops_lib.tolerant import TolerantDecoder

_CASE = msgspec.json.Decoder(Case)
_GENERATION: TolerantDecoder[Generation] = TolerantDecoder(Generation)


class Cases(Database):
    """Cases by their ids, and the groups of cases of a run with the record of their generation."""

    def save_cases(self, run: str, group: str, cases: Sequence[Case], generation: Generation) -> None:
        """Replaces the group's cases in the run by these, in this order.

        Groups are ordered by name, byte by byte: pad numbers with zeros.
        """
        with self._transaction():
            self.put_cases(cases)
            self.put_group(run, group, [case.id for case in cases], generation)

    def put_cases(self, cases: Iterable[Case]) -> None:
        """Stores these cases; a stored case takes over the name and the origin."""
        unique = {case.id: case for case in cases}
        if not unique:
            return
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.execute(statements.CASES_INCOMING)
            with cursor.copy(statements.COPY_CASES) as copy:
                copy.set_types(("text",) * 6)
                for case in unique.values():
                    document = msgspec.json.encode(case).decode()
                    texts = (case.name, case.operation, case.intent, case.origin.source)
                    copy.write_row((case.id, *map(rows.text, texts), document))
            cursor.execute(statements.MERGE_CASES)
            cursor.execute(statements.CLEAR_CASES)

    def put_group(self, run: str, group: str, cases: Iterable[str], generation: Generation) -> None:
        """Replaces the group's cases in the run by those with these ids, in this order."""
        document = msgspec.json.encode(generation).decode()
        with self._transaction() as connection:
            connection.execute(statements.PUT_GROUP, (run, group, list(dict.fromkeys(cases)), document))

    def keep_cases(self, run: str, cases: Collection[str]) -> None:
        """Removes all other cases from the run, which is not published yet."""
        with self._transaction() as connection:
            connection.execute(statements.KEEP_CASES, (list(cases), run))

    def read_cases(self, run: str, *, first: str = "", end: str = "") -> Iterator[Case]:
        """As `load_cases`, but a snapshot that is read while it is consumed."""
        values = {"run": run, "first": first, "end": end}
        with self._translated(), self._connect() as connection, connection.cursor(name="cases") as cursor:
            cursor.itersize = 1000
            for (document,) in cursor.execute(statements.LOAD_CASES, values):
                yield _CASE.decode(document)

    def cases_by_id(self, ids: Iterable[str]) -> Iterator[Case]:
        """The stored cases with these ids, in their order, read while they are consumed."""
        remaining = iter(ids)
        while page := list(islice(remaining, 500)):
            cases = self.cases(page)
            yield from (cases[case] for case in page if case in cases)

    def load_cases(self, run: str, *, first: str = "", end: str = "") -> list[Case]:
        """The run's cases by group and position, without duplicates, of the groups in [first, end)."""
        values = {"run": run, "first": first, "end": end}
        with self._transaction() as connection:
            return [_CASE.decode(document) for (document,) in connection.execute(statements.LOAD_CASES, values)]

    def cases(self, ids: Collection[str]) -> dict[str, Case]:
        """Id -> case, for the stored ones."""
        cases = (_CASE.decode(document) for (document,) in self._fetch_all(statements.GET_CASES, list(ids)))
        return {case.id: case for case in cases}

    def generations(self, run: str) -> list[Generation]:
        """How the run's cases were generated, by group."""
        return [_GENERATION.decode(document) for (document,) in self._fetch_all(statements.GENERATIONS, run)]

    def generations_since(self, target: str, since: datetime, *, but: str) -> list[Generation]:
        """How the cases of the target's runs since then were generated, except for the run `but`."""
        return [
            _GENERATION.decode(document)
            for (document,) in self._fetch_all(statements.GENERATIONS_SINCE, target, since, but)
        ]
