"""Runs: the documents they read, how they resolved, what they published."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from testops_lib.errors import StoreError
from testops_lib.model import Batch, Value
from testops_lib.store import rows, statements
from testops_lib.store.database import Database, no_run
from testops_lib.target import ResolvedRun


class Run(Value, frozen=True, kw_only=True):
    """A run without its cases and results."""

    run: str
    target: str
    title: str = ""
    base_url: str = ""
    spec_hash: str = ""
    state: str
    """open, published, finished."""
    started: datetime
    """When the run was first opened."""
    finished: datetime | None = None
    resolved: ResolvedRun | None = None
    """What the run does, resolved when it was opened."""
    plan_batch: Batch | None = None
    batches: tuple[Batch, ...] = ()
    positions: dict[int, int] = msgspec.field(default_factory=dict)
    """Results topic: partition -> offset of the earliest record that can be a result of the run."""
    passed: bool | None = None
    suite: str = ""
    """The suite whose cases the run executes."""
    results_topic: str = ""
    """Id of the topic that `positions` are of; empty: unknown."""


class Runs(Database):
    """Specs, runs, and the publication of their cases."""

    def put_spec(self, spec_hash: str, data: bytes) -> None:
        """Stores a document under its hash, unless it is stored already."""
        with self._transaction() as connection:
            connection.execute(statements.PUT_SPEC, (spec_hash, zlib.compress(data, 6)))

    def get_spec(self, spec_hash: str) -> bytes:
        """The document with this hash.

        Raises:
            StoreError: there is no such document.
        """
        row = self._fetch_one(statements.GET_SPEC, spec_hash)
        if row is None:
            raise StoreError(f"no spec {spec_hash}", where="store", next_step="clear the run's task `load_spec`")
        return zlib.decompress(row[0])

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
        """Registers a run; a second call for the same run replaces these values and keeps everything else."""
        document = msgspec.json.encode(resolved).decode() if resolved is not None else None
        values = (run, target, rows.text(title), rows.text(base_url), spec_hash, document, suite)
        with self._transaction() as connection:
            connection.execute(statements.OPEN_RUN, values)

    def run(self, run: str) -> Run:
        """The run.

        Raises:
            StoreError: there is no such run.
        """
        row = self._fetch_one(statements.GET_RUN, run)
        if row is None:
            raise no_run(run)
        values = dict(zip(Run.__struct_fields__, row, strict=True))
        values["resolved"] = msgspec.json.decode(values["resolved"], type=ResolvedRun) if values["resolved"] else None
        values["plan_batch"] = msgspec.json.decode(values["plan_batch"], type=Batch) if values["plan_batch"] else None
        values["batches"] = tuple(msgspec.json.decode(batch, type=Batch) for batch in values["batches"])
        values["positions"] = _positions(values["positions"])
        return Run(**values)

    def mark_published(
        self,
        run: str,
        cases: Iterable[str],
        *,
        positions: Mapping[int, int],
        topic: str = "",
        plan: Batch | None = None,
        batches: Sequence[Batch] = (),
        further: bool = False,
    ) -> None:
        """Records what was published, in place of an earlier publication of the same run.

        Results of cases that are no longer published are deleted; the others stay, and so do the earliest positions
        of the same topic. With `further`, the cases and batches are added to the earlier publication instead.

        Args:
            run: the run, which is open.
            cases: ids of the published cases.
            positions: ends of the results topic before publishing (`Results.position`).
            topic: id of that topic (`Results.topic_id`).
            plan: the batch that holds the plan.
            batches: the batches of cases.

        Raises:
            StoreError: there is no such run.
        """
        with self._transaction() as connection, connection.cursor() as cursor:
            # `merge_results` takes the same lock: otherwise it could store a result of a case that is dropped here.
            cursor.execute(statements.LOCK_RESULTS)
            row = cursor.execute(statements.LOCK_RUN, (run,)).fetchone()
            if row is None:
                raise no_run(run)
            earlier = _positions(row[0]) if _is_same(row[1], topic) else {}
            lowest = {partition: min(offset, earlier.get(partition, offset)) for partition, offset in positions.items()}
            documents = [msgspec.json.encode(batch).decode() for batch in batches]
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
            dropped = [case for (case,) in cursor.execute(statements.UNPUBLISHED, {"run": run})]
            if dropped:
                cursor.execute(statements.DELETE_RESULTS, (run, dropped))
            cursor.execute(statements.DELETE_UNPUBLISHED_REPETITIONS, (run,))
            plan_document = msgspec.json.encode(plan).decode() if plan is not None else None
            cursor.execute(
                statements.MARK_PUBLISHED, (json.dumps({**earlier, **lowest}), topic, plan_document, documents, run)
            )

    def begin_batch(self, run: str, batch: str, *, attempt: int = 1) -> bool:
        """Records that a runner is about to start on the batch; returns whether it is the first."""
        with self._transaction() as connection:
            return connection.execute(statements.BEGIN_BATCH, (run, batch, attempt)).rowcount == 1

    def published(self, run: str) -> int:
        """Number of published cases."""
        row = self._fetch_one(statements.COUNT_PUBLISHED, run)
        return int(row[0]) if row else 0

    def batches(self, run: str) -> list[Batch]:
        """The published batches, in their order."""
        return list(self.run(run).batches)

    def positions(self, run: str, *, topic: str = "") -> dict[int, int]:
        """Where the run's results begin in the results topic, by partition; empty before it is published.

        `topic`: the id of the topic that is to be read. When the run was published to another one, which was lost, its
        results may begin anywhere in this one: at 0.
        """
        record = self.run(run)
        return _begin(record.positions, is_same=_is_same(record.results_topic, topic))

    def open_positions(self, *, topic: str = "") -> dict[int, int]:
        """Where results begin in the results topic, of all runs published in the last day and not finished.

        `topic`: as in `positions`.
        """
        lowest: dict[int, int] = {}
        for document, of_topic in self._fetch_all(statements.OPEN_POSITIONS):
            for partition, offset in _begin(_positions(document), is_same=_is_same(of_topic, topic)).items():
                lowest[partition] = min(offset, lowest.get(partition, offset))
        return lowest

    def previous_run(self, target: str, before: str) -> str | None:
        """The latest finished run of the target that was opened before this one."""
        row = self._fetch_one(statements.PREVIOUS_RUN, target, before, before)
        return row[0] if row else None

    def latest_run(self, target: str | None = None) -> str | None:
        """The run that was opened last, of the target or of all targets."""
        with self._transaction() as connection:
            row = connection.execute(statements.LATEST_RUN, {"target": target}).fetchone()
        return row[0] if row else None


def _is_same(topic: str, other: str) -> bool:
    return not topic or not other or topic == other


def _begin(positions: dict[int, int], *, is_same: bool) -> dict[int, int]:
    return positions if is_same else dict.fromkeys(positions, 0)


def _positions(document: Mapping[str, int] | None) -> dict[int, int]:
    return {int(partition): offset for partition, offset in (document or {}).items()}
