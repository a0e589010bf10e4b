"""Results: written by runners, read by collectors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from testops_lib.bus.connection import Connection
from testops_lib.bus.dead_letters import DeadLetters
from testops_lib.bus.encoding import RESULT, encode_result
from testops_lib.bus.message import records_of, run_of
from testops_lib.bus.reading import WHOLE_TOPIC, Reader, read_to_end
from testops_lib.bus.sending import Sender
from testops_lib.model import Result, VerdictName, execution_key

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

_FINAL = ("passed", "failed")

_LINGER_S = 0.1
"""How long a list of results is waited for to become full: a collector writes each list in one transaction."""


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a result that say whether its case must run again; the others are not decoded."""

    run: str
    case: str
    attempt: int = 1
    repeat: int = 0
    verdict: VerdictName


_VERDICT = msgspec.json.Decoder(_Verdict)


class Results:
    """The topic of results."""

    def __init__(self, connection: Connection, topic: str, dead_letters: DeadLetters) -> None:
        self._connection, self._topic, self._dead_letters = connection, topic, dead_letters

    def writer(self, *, patience_s: float | None = None) -> ResultsWriter:
        """A writer of results, to be used as a context manager; leaving it flushes.

        Args:
            patience_s: how long brokers may be away before results are given up; None: the bus's `timeout_s`.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return ResultsWriter(Sender.open(self._connection, self._topic, patience_s=patience_s), self._topic)

    def position(self) -> dict[int, int]:
        """The end of the topic now, by partition: no result of a run published later stands before it.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._connection.ends(self._topic)

    def topic_id(self) -> str:
        """What tells the topic from an earlier or later one of the same name; empty where the brokers do not say.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._connection.topic_id(self._topic)

    def read(
        self,
        start: Mapping[int, int],
        *,
        follow: bool = False,
        stop: Callable[[], bool] = lambda: False,
        max_records: int = 2_000,
        run: str | None = None,
    ) -> ResultsReader:
        """Results from `start` on, in lists as they come, none empty.

        Args:
            start: offset by partition; a partition left out is read from its beginning, and one whose offset has
                expired from the earliest that is left.
            follow: go on until `stop`; otherwise end where the topic ended when reading began.
            stop: asked about three times a second; True ends the reading.
            max_records: in one list.
            run: take the results of this run only.

        What is no result goes to the dead letters and is skipped.

        Raises:
            BusError: while iterating: the topic is missing, or (unless following) the brokers are away.
        """
        return ResultsReader(
            self._connection,
            self._topic,
            self._dead_letters,
            start,
            follow=follow,
            stop=stop,
            max_records=max_records,
            run=run,
        )

    def judged_cases(self, start: Mapping[int, int], run: str, *, attempt: int = 1) -> set[str]:
        """Which cases (`execution_key`) have a passed or failed result of this attempt between `start` and the topic's
        end now.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return {case for case, verdict in self.verdicts(start, run, attempt=attempt).items() if verdict in _FINAL}

    def verdicts(self, start: Mapping[int, int], run: str, *, attempt: int = 1) -> dict[str, VerdictName]:
        """Case (`execution_key`) -> its verdict in this attempt between `start` and the topic's end now.

        That is the first passed or failed one, else the last.

        Reads every record from `start` on, keeps ids and verdicts alone; what is no result is left to the collector.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        verdicts: dict[str, VerdictName] = {}
        for record in records_of(run, read_to_end(self._connection, self._topic, start)):
            try:
                result = _VERDICT.decode(record.value() or b"")
            except (msgspec.MsgspecError, ValueError):
                continue
            key = execution_key(result.case, result.repeat)
            if result.run == run and result.attempt == attempt and verdicts.get(key) not in _FINAL:
                verdicts[key] = result.verdict
        return verdicts


class ResultsWriter:
    """Results on their way to the topic. Not for use by several threads at once."""

    def __init__(self, sender: Sender, topic: str) -> None:
        self._sender, self._topic = sender, topic

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.__exit__(kind, error, trace)

    def write(self, result: Result) -> None:
        """Queues a result; waits only when the queue (64 MB) is full.

        One over `MAX_RESULT_BYTES` loses its evidence, and then all but its first failures.

        Raises:
            BusError: the queue stayed full: nothing can be delivered.
        """
        self._sender.send(self._topic, encode_result(result), key=result.case, run=result.run)

    def flush(self, patience_s: float | None = None) -> None:
        """Returns when everything written so far is acknowledged; waits `patience_s` for it (None: the writer's own).

        Raises:
            BusError: a delivery failed since the last flush.
        """
        self._sender.flush(patience_s)


class ResultsReader(Iterator[list[Result]]):
    """What `Results.read` gives: lists of results, and where reading stands."""

    def __init__(
        self,
        connection: Connection,
        topic: str,
        dead_letters: DeadLetters,
        start: Mapping[int, int],
        *,
        follow: bool,
        stop: Callable[[], bool],
        max_records: int,
        run: str | None,
    ) -> None:
        self._connection, self._topic, self._dead_letters = connection, topic, dead_letters
        self._start, self._follow, self._stop, self._max, self._run = dict(start), follow, stop, max_records, run
        self._reader: Reader | None = None
        self.complete = False
        """The end was reached (never, when following)."""
        self._lists = self._read()

    def __next__(self) -> list[Result]:
        return next(self._lists)

    @property
    def positions(self) -> dict[int, int]:
        """By partition: the offset after the last record of the lists given so far."""
        return self._start | (self._reader.positions if self._reader is not None else {})

    def close(self) -> None:
        """Leaves the topic before its end."""
        self._lists.close()

    def _read(self) -> Generator[list[Result], None, None]:
        connection, topic = self._connection, self._topic
        with connection.translated(topic), connection.consumer(**WHOLE_TOPIC) as consumer:
            partitions = connection.partitions(consumer, topic)
            ends = None if self._follow else {at: connection.end(consumer, topic, at) for at in partitions}
            starts = {partition: self._start.get(partition, 0) for partition in partitions}
            self._reader = reader = Reader(connection, consumer, topic, starts, ends)
            silence = {} if self._follow else {"silence_s": connection.timeout_s}
            lists = reader.lists(**silence, max_records=self._max, linger_s=_LINGER_S, stop=self._stop)
            for records in lists:
                if results := [result for record in records if (result := self._decode(record)) is not None]:
                    yield results
            if reader.complete:
                self._dead_letters.flush()
                self.complete = True

    def _decode(self, record: Record) -> Result | None:
        if self._run is not None and run_of(record) not in (self._run, None):
            return None
        try:
            result = RESULT.decode(record.value() or b"")
        except (msgspec.MsgspecError, ValueError) as error:
            self._dead_letters.bury(record, str(error))
            return None
        return result if self._run in (result.run, None) else None
