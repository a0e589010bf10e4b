"""Cases, plans, results, orders and dead letters over Kafka. The only module that knows librdkafka.

A batch is read by assign and seek: no group, no commit, so a retry reads exactly the same records. Only orders of
batches are taken by a consumer group, the fleet. Every record carries the header `run`. A failed delivery means
*unknown*, not *absent*: whoever publishes again may leave two copies in the topic, which is harmless because results
are keyed by (run, case, attempt).
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from testops_lib.bus import batch as slices
from testops_lib.errors import BusError, ExpiredBatchError, SettingsError
from testops_lib.model import (
    Batch,
    BatchOrder,
    Case,
    Contract,
    Ended,
    HeaderContract,
    MediaContract,
    Outcome,
    Plan,
    Result,
    Returned,
    Taken,
    Value,
    VerdictName,
    execution_key,
)

if TYPE_CHECKING:
    _Record = Message[bytes, bytes]

log = logging.getLogger(__name__)
_client_log = logging.getLogger(f"{__name__}.librdkafka")
_client_log.addHandler(logging.NullHandler())  # its lines matter only to who asks for them: what fails is raised

MAX_RECORD_BYTES = 8_000_000
"""A case, a plan record or a dead letter above this is refused (`message.max.bytes` of the producer)."""
MAX_CONTRACT_BYTES = 4_000_000
"""A contract above this is published without its schemas: statuses and media types are still judged."""
MAX_RESULT_BYTES = 900_000
"""A result above this loses its evidence; Kafka's own limit is 1,048,588 bytes with overhead (`max.message.bytes`)."""

_CASES_AHEAD = 5_000
"""Cases on their way to Kafka: enough to keep it busy, and what publishing takes of memory."""

_GONE_AFTER_S = 5.0
"""How long a partition may end before a batch does: after a change of leader the high watermark lags for a moment."""
_TOPIC_GRACE_S = 3.0
"""How long a topic may be unknown before it counts as missing: a broker just started learns its topics late."""

_REQUEUED = "requeued"
"""Header of a mark among the dead letters: the one at the header `offset` of its partition has been put back."""
_LONG_AGO = datetime.fromtimestamp(0, UTC)

_TURN_S = 2.0
"""How long one question to the cluster waits; between two it is heard why it does not answer."""

_MISSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
}
_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
}
"""What librdkafka says of brokers that do not answer, be it that they refuse us: the reason comes apart."""

_CASE = msgspec.json.Decoder(Case)
_RESULT = msgspec.json.Decoder(Result)
_FINAL = ("passed", "failed")
_PLAN: msgspec.json.Decoder[Plan | Contract] = msgspec.json.Decoder(Plan | Contract)
_ORDER = msgspec.json.Decoder(BatchOrder)
_OUTCOME: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Taken | Returned | Ended)
_LONGEST_TEXT = 2000
"""Of an outcome, which a task's log shows."""

_SESSION_MS = 10_000
"""A member of the fleet that was not heard of for so long is dead, and others get its orders."""
_SHARE_SESSION_MS = 6_000
"""The same for a part of a target's limits; Kafka allows no shorter one (`group.min.session.timeout.ms`)."""


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a result that says whether its case must run again; the rest is not looked at."""

    run: str
    case: str
    attempt: int = 1
    repeat: int = 0
    verdict: VerdictName


_VERDICT = msgspec.json.Decoder(_Verdict)


class Topics(Value, frozen=True, kw_only=True):
    """Names of the topics."""

    cases: str = "testops.cases"
    plans: str = "testops.plans"
    results: str = "testops.results"
    notifications: str = "testops.notifications"
    dead_letters: str = "testops.dead-letters"
    batches: str = "testops.batches"
    outcomes: str = "testops.outcomes"
    shares: str = "testops.shares"


class DeadLetter(Value, frozen=True, kw_only=True):
    """A record that nobody could use, as it was, with what is known of it."""

    partition: int
    offset: int
    """Where it lies in the dead letters; `place` is both."""
    time: datetime | None
    """When it was put there."""
    reason: str
    topic: str
    """Where it came from, with `origin_partition` and `origin_offset`."""
    origin_partition: int
    origin_offset: int
    run: str = ""
    """Empty: it had no header `run`."""
    key: bytes | None = None
    data: bytes
    whole_bytes: int
    """Its size at the origin: above `len(data)` when only the beginning was kept."""
    requeued: tuple[str, ...] = ()
    """Where it has been put back to (`topic:partition:first-end`), oldest first."""

    @property
    def place(self) -> str:
        return f"{self.partition}:{self.offset}"


class Bus:
    """The topics of one Kafka cluster.

    Connects when first needed. Usable as a context manager; `close` waits for what is still on its way.

    Args:
        bootstrap: `host:port[,host:port…]`.
        options: further librdkafka settings for every client, such as `security.protocol` or `sasl.password`.
        topics: other names than the usual ones.
        timeout_s: how long brokers may be away before a call gives up with `BusError`.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        options: Mapping[str, str] | None = None,
        topics: Topics | None = None,
        timeout_s: float = 60,
    ) -> None:
        self.bootstrap, self.topics, self.timeout_s = bootstrap, topics or Topics(), timeout_s
        self._options = dict(options or {})
        self._refused: KafkaError | None = None
        self._dead: _Sender | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delivers the dead letters still on their way.

        Raises:
            BusError: they could not be delivered.
        """
        if self._dead is not None:
            dead, self._dead = self._dead, None
            dead.flush()

    # ------------------------------------------------------------------ topics

    def create_topics(
        self,
        *,
        partitions: int = 4,
        fleet_partitions: int = 12,
        replication: int = 1,
        retention_ms: int = 7 * 86_400_000,
    ) -> None:
        """Creates the topics that do not exist yet and returns when each partition has a leader.

        Existing topics are left as they are. `partitions` holds for cases and results, `fleet_partitions` for orders of
        batches and for the shares of targets' limits; the others have one.

        Raises:
            BusError: the cluster is away or refuses.
        """
        common = {"retention.ms": str(retention_ms), "min.insync.replicas": str(2 if replication > 2 else 1)}
        large = {**common, "max.message.bytes": str(MAX_RECORD_BYTES + 388_608)}
        wanted = {
            self.topics.cases: (partitions, large),
            self.topics.plans: (1, large),
            self.topics.results: (partitions, common),
            self.topics.notifications: (1, common),
            self.topics.dead_letters: (1, large),
            self.topics.batches: (fleet_partitions, common),
            self.topics.outcomes: (1, common),
            self.topics.shares: (fleet_partitions, common),
        }
        with self._translated("topics"):
            admin = AdminClient(self._config())
            there = set(self._metadata(admin, None, self.timeout_s).topics)
            new = [
                NewTopic(name, num_partitions=count, replication_factor=replication, config=config)
                for name, (count, config) in wanted.items()
                if name not in there
            ]
            for name, done in (admin.create_topics(new, request_timeout=self.timeout_s) if new else {}).items():
                try:
                    done.result()
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise BusError(f"cannot be created: {error.args[0].str()}", where=f"topic {name}") from error
            for name in wanted:
                self._partitions(admin, name, self.timeout_s, grace_s=self.timeout_s)

    # ------------------------------------------------------------------ cases

    def publish_cases(
        self,
        run: str,
        cases: Iterable[Case],
        *,
        max_records: int = 200,
        max_bytes: int = 8_000_000,
        in_order: bool = False,
    ) -> list[Batch]:
        """Writes the cases, each to the partition of its id, and gives the batches that hold them, each once.

        `in_order`: all of them to one partition, so that the batches hold them in the given order.

        Every case is acknowledged by all in-sync replicas when this returns. Within a partition cases keep
        their order.

        Raises:
            BusError: a delivery failed (the case may be in the topic or not), or a case is over `MAX_RECORD_BYTES`.
        """
        topic = self.topics.cases
        placed = slices.Placed()

        def delivered(message: _Record) -> None:
            placed.add(*_place(message), len(message))

        with self._sender(topic, ahead=_CASES_AHEAD) as sender:
            partitions = sender.partitions(topic, self.timeout_s)
            chosen = partitions[sum(run.encode()) % len(partitions)] if in_order else -1
            for case in cases:
                key = execution_key(case.id, case.repeat)
                sender.send(topic, msgspec.json.encode(case), key=key, run=run, partition=chosen, delivered=delivered)
        return placed.batches(topic, max_records=max_records, max_bytes=max_bytes)

    def read_cases(self, batch: Batch, run: str, *, deadline_s: float = 60) -> Iterator[Case]:
        """The run's cases of a batch, in the topic's order, read as they are taken.

        Records of other runs are skipped; what is no case goes to the dead letters and is skipped.

        Args:
            batch: the slice.
            run: whose records to take.
            deadline_s: how long the next record may be waited for; the caller's own time does not count.

        Raises:
            ExpiredBatchError: records of the batch are no longer in the topic.
            BusError: the topic is missing, the brokers are away, or a dead letter could not be written.
        """
        for message in self._slice(batch, run, deadline_s):
            try:
                if _run(message) is None:
                    raise ValueError("the record has no header `run`")
                yield _CASE.decode(message.value() or b"")
            except (msgspec.MsgspecError, ValueError) as error:
                self._bury(message, str(error))
        self.close()

    # ------------------------------------------------------------------ plans

    def publish_plan(self, run: str, plan: Plan, contracts: Iterable[Contract]) -> Batch:
        """Writes what a runner must know of the target, and returns the one slice that holds it: plan, then contracts.

        Raises:
            BusError: a delivery failed.
        """
        topic = self.topics.plans
        offsets: list[int] = []
        with self._sender(topic) as sender:
            partitions = sender.partitions(topic, self.timeout_s)
            partition = sum(run.encode()) % len(partitions)

            def delivered(message: _Record) -> None:
                offsets.append(_place(message)[1])

            def send(record: Plan | Contract, key: str) -> None:
                data = msgspec.json.encode(record)
                if isinstance(record, Contract) and len(data) > MAX_CONTRACT_BYTES:
                    log.warning("%s: its contract has %d bytes; published without schemas", record.operation, len(data))
                    data = msgspec.json.encode(_without_schemas(record))
                sender.send(topic, data, key=key, run=run, partition=partition, delivered=delivered)

            send(plan, "plan")
            for contract in contracts:
                send(contract, contract.operation)
        return Batch(topic=topic, partition=partition, first=min(offsets), end=max(offsets) + 1)

    def read_plan(self, batch: Batch, run: str, *, deadline_s: float = 60) -> tuple[Plan, dict[str, Contract]]:
        """The plan of a run, and its contracts by operation.

        Raises:
            ExpiredBatchError: it is no longer in the topic.
            BusError: the slice holds no plan of this run, or a record that is neither plan nor contract; the topic is
                missing, or the brokers are away.
        """
        plan: Plan | None = None
        contracts: dict[str, Contract] = {}
        for message in self._slice(batch, run, deadline_s):
            if _run(message) is None:
                continue
            try:
                record = _PLAN.decode(message.value() or b"")
            except (msgspec.MsgspecError, ValueError) as error:
                raise BusError(
                    f"the record at offset {message.offset()} is neither plan nor contract: {error}",
                    where=str(batch),
                    next_step="publish the run again with the version that the runner has",
                ) from error
            if isinstance(record, Plan):
                plan = record
            else:
                contracts[record.operation] = record
        if plan is None:
            raise BusError(f"no plan of the run {run!r}", where=str(batch), next_step="check --run and --plan")
        return plan, contracts

    # ------------------------------------------------------------------ results

    def results_writer(self, *, patience_s: float | None = None) -> ResultsWriter:
        """A writer of results, to be used as a context manager; leaving it flushes.

        Args:
            patience_s: how long brokers may be away before results are given up; None: the bus's `timeout_s`.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return ResultsWriter(self._sender(self.topics.results, patience_s=patience_s), self.topics.results)

    def results_position(self) -> dict[int, int]:
        """The end of the results topic now, by partition: no result of a run published later stands before it.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._position(self.topics.results)

    def _position(self, topic: str) -> dict[int, int]:
        with self._translated(topic), self._consumer() as consumer:
            partitions = self._partitions(consumer, topic, self.timeout_s)
            return {one: self._end(consumer, topic, one) for one in partitions}

    def read_results(
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
        return ResultsReader(self, start, follow=follow, stop=stop, max_records=max_records, run=run)

    def case_ids(self, batch: Batch, run: str) -> Iterator[str]:
        """Ids (`execution_key`) of the run's cases in a batch, in the topic's order, also of records that are no case.

        Raises:
            ExpiredBatchError: records of the batch are no longer in the topic.
            BusError: the topic is missing or the brokers are away.
        """
        for message in self._slice(batch, run, self.timeout_s):
            if _run(message) == run:
                yield (message.key() or b"").decode("utf-8", "replace")

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

        Reads every record from `start` on, keeps ids and verdicts alone; what is no result is left to whoever collects.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        verdicts: dict[str, VerdictName] = {}

        def take(message: _Record) -> None:
            if _run(message) != run:
                return
            try:
                found = _VERDICT.decode(message.value() or b"")
            except (msgspec.MsgspecError, ValueError):
                return
            key = execution_key(found.case, found.repeat)
            if found.run == run and found.attempt == attempt and verdicts.get(key) not in _FINAL:
                verdicts[key] = found.verdict

        for _ in ResultsReader(self, start, follow=False, stop=lambda: False, max_records=2_000, run=run, take=take):
            pass
        return verdicts

    # ------------------------------------------------------------------ the fleet

    def order_partitions(self) -> int:
        """How many partitions the orders' topic has.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        topic = self.topics.batches
        with self._translated(topic), self._consumer() as consumer:
            return len(self._partitions(consumer, topic, self.timeout_s))

    def publish_orders(self, orders: Iterable[tuple[int, BatchOrder]]) -> None:
        """Writes orders, each to its partition.

        Raises:
            BusError: a delivery failed (the order may be in the topic or not).
        """
        topic = self.topics.batches
        with self._sender(topic) as sender:
            for partition, order in orders:
                sender.send(topic, msgspec.json.encode(order), key=order.batch, run=order.run, partition=partition)

    def join(
        self,
        group: str,
        *,
        on_assigned: Callable[[frozenset[int]], None] = lambda assigned: None,
        on_revoked: Callable[[frozenset[int], frozenset[int]], None] = lambda revoked, left: None,
    ) -> OrderConsumer:
        """A member of the consumer group that executes orders, to be used as a context manager.

        Args:
            group: its name.
            on_assigned: called within `poll` with all partitions that are ours from now on.
            on_revoked: called within `poll` and `close` with the partitions that go and those that stay. Only when it
                returns another member gets them, so whoever works on an order of theirs ends that first.
        """
        return OrderConsumer(self, group, on_assigned=on_assigned, on_revoked=on_revoked)

    def tell(self, *outcomes: Outcome) -> None:
        """Writes outcomes, in this order; they are acknowledged when this returns.

        Raises:
            BusError: a delivery failed.
        """
        topic = self.topics.outcomes
        with self._sender(topic) as sender:
            for outcome in outcomes:
                sender.send(topic, _encode_outcome(outcome), key=outcome.order, run=outcome.run)

    def outcomes_position(self) -> dict[int, int]:
        """The end of the outcomes' topic now, by partition: the outcomes of orders written later stand behind it.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._position(self.topics.outcomes)

    def outcomes(self, start: Mapping[int, int], run: str) -> list[Outcome]:
        """What was said of the run's orders between `start` and the end now; of one order in the order it was said.

        What is no outcome is left out.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        topic = self.topics.outcomes
        with self._translated(topic), self._consumer() as consumer:
            ends = {
                one: consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=self.timeout_s, cached=False)
                for one in self._partitions(consumer, topic, self.timeout_s)
            }
        found = []
        for partition, (first, end) in ends.items():
            begin = max(first, start.get(partition, 0))
            part = Batch(topic=topic, partition=partition, first=begin, end=max(begin, end))
            found += [_decode_outcome(message) for message in self._slice(part, run, self.timeout_s)]
        return [outcome for outcome in found if outcome is not None]

    def follow_outcomes(self, start: Mapping[int, int], run: str) -> OutcomesFollower:
        """What is said of the run's orders from `start` on, as it comes; to be used as a context manager.

        Connects when first polled. A partition left out is followed from its beginning.
        """
        return OutcomesFollower(self, start, run)

    # ------------------------------------------------------------------ shares of a target's limits

    def share(
        self, target: str, on_change: Callable[[ShareHolder], None] = lambda holder: None, *, patience_s: float = 0
    ) -> ShareHolder:
        """A part of the target's limits, to be used as a context manager; leaving it gives the part to the others.

        Args:
            target: whatever names it, the same for all who share.
            on_change: called with the holder when its part becomes another one, or none because of `trouble`, from a
                thread of the holder. Only when it returns, others get what is taken away.
            patience_s: how long brokers may be away once there was a part; at least the bus's `timeout_s`.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return ShareHolder(self, target, on_change, max(patience_s, self.timeout_s))

    # ------------------------------------------------------------------ dead letters

    def dead_letter(
        self,
        data: bytes,
        *,
        reason: str,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None = None,
        run: str | None = None,
    ) -> None:
        """Writes a record that nobody can use, unchanged, with its reason, origin and run as headers.

        It is on its way when this returns; `close` waits for it. Of one larger than a record of ours may be, the
        beginning is kept, and its size as the header `bytes`.
        """
        if self._dead is None:
            self._dead = self._sender(self.topics.dead_letters)
        about = {"reason": reason[:2000], "topic": topic, "partition": str(partition), "offset": str(offset)}
        kept = data[: MAX_RECORD_BYTES - 50_000]
        if len(kept) < len(data):
            about["bytes"] = str(len(data))
        self._dead.send(self.topics.dead_letters, kept, key=key, run=run, headers=about)
        log.warning("%s:%d:%d went to %s: %s", topic, partition, offset, self.topics.dead_letters, reason)

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters there are now, oldest first.

        Of each, `data` is the whole that was kept: with many large ones this is large.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        self.close()
        topic = self.topics.dead_letters
        letters: dict[tuple[int, int], DeadLetter] = {}
        requeued: dict[tuple[int, int], list[str]] = defaultdict(list)
        with self._translated(topic), self._consumer() as consumer:
            ends = [
                (one, *consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=self.timeout_s, cached=False))
                for one in self._partitions(consumer, topic, self.timeout_s)
            ]
        for partition, first, end in ends:
            whole = Batch(topic=topic, partition=partition, first=first, end=end)
            for message in self._slice(whole, None, self.timeout_s):
                headers = _headers(message)
                if _REQUEUED in headers:
                    requeued[partition, _number(headers.get("offset"))].append(headers[_REQUEUED])
                else:
                    letters[_place(message)] = _letter(message, headers)
        found = [
            msgspec.structs.replace(letter, requeued=tuple(requeued.get(place, ())))
            for place, letter in letters.items()
        ]
        return sorted(found, key=lambda one: (one.time or _LONG_AGO, one.partition, one.offset))

    def requeue(self, letter: DeadLetter, *, data: bytes | None = None, run: str | None = None) -> Batch:
        """Puts a dead letter back into the topic it came from, with its key and run, and gives the slice that holds it.

        It becomes a new record at the end of the partition it came from: no batch cut earlier holds it. The dead
        letter stays, marked with where it went.

        Args:
            letter: from `dead_letters`.
            data: other bytes instead of its own.
            run: another run instead of its own.

        Raises:
            BusError: the bytes would be a dead letter again, only their beginning was kept, the topic it came from is
                none of ours, or a delivery failed.
        """
        data, run = letter.data if data is None else data, letter.run if run is None else run
        if data is letter.data and letter.whole_bytes > len(data):
            raise BusError(
                f"of its {letter.whole_bytes} bytes only {len(data)} were kept",
                where=f"dead letter {letter.place}",
                next_step="give the whole record",
            )
        self._require_usable(letter, data, run)
        placed: list[tuple[int, int]] = []
        with self._sender(letter.topic) as sender:
            sender.send(
                letter.topic,
                data,
                key=letter.key,
                run=run,
                partition=letter.origin_partition,
                delivered=lambda message: placed.append(_place(message)),
            )
        [(partition, offset)] = placed
        batch = Batch(topic=letter.topic, partition=partition, first=offset, end=offset + 1)
        mark = {_REQUEUED: str(batch), "offset": str(letter.offset)}
        with self._sender(self.topics.dead_letters) as sender:
            sender.send(self.topics.dead_letters, b"", key=None, partition=letter.partition, headers=mark)
        return batch

    def _require_usable(self, letter: DeadLetter, data: bytes, run: str) -> None:
        where = f"dead letter {letter.place}"
        decoders: dict[str, msgspec.json.Decoder[Any]] = {self.topics.cases: _CASE, self.topics.results: _RESULT}
        if (decoder := decoders.get(letter.topic)) is None:
            raise BusError(f"its origin {letter.topic!r} is neither the cases' topic nor the results'", where=where)
        if not run:
            raise BusError("it has no run", where=where, next_step="name the run it belongs to (--run)")
        try:
            decoder.decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise BusError(
                f"it would come back: {error}",
                where=where,
                next_step="repair the record and give it (--with FILE), or use the version that wrote it",
            ) from error

    def _bury(self, message: _Record, reason: str) -> None:
        partition, offset = _place(message)
        self.dead_letter(
            message.value() or b"",
            reason=reason,
            topic=message.topic() or "",
            partition=partition,
            offset=offset,
            key=message.key(),
            run=_run(message),
        )

    # ------------------------------------------------------------------ librdkafka

    def _config(self, **more: Any) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "testops",
            "logger": _client_log,
            "error_cb": self._hear,
            "reconnect.backoff.max.ms": 2000,
            **self._options,
            **more,
        }

    def _hear(self, error: KafkaError) -> None:
        """Librdkafka tries again for ever; that a broker refused us it says here, and nowhere else."""
        if error.code() in _REFUSED:
            self._refused = error

    def _is_refused(self) -> bool:
        return self._refused is not None

    def _sender(self, topic: str, *, ahead: int = 100_000, patience_s: float | None = None) -> _Sender:
        """A producer for a topic that is there; of at most `ahead` records on their way."""
        patience_s = self.timeout_s if patience_s is None else patience_s
        with self._translated(topic):
            sender = _Sender(
                self,
                Producer(
                    self._config(
                        **{
                            "acks": "all",
                            "enable.idempotence": True,
                            "delivery.timeout.ms": int(patience_s * 1000),
                            "linger.ms": 10,
                            "compression.type": "lz4",
                            "partitioner": "murmur2_random",
                            "message.max.bytes": MAX_RECORD_BYTES,
                            "queue.buffering.max.kbytes": 65_536,
                            "queue.buffering.max.messages": ahead,
                        }
                    )
                ),
                patience_s,
            )
            sender.partitions(topic, self.timeout_s)
            return sender

    @contextmanager
    def _consumer(self, **more: Any) -> Iterator[Consumer]:
        consumer = Consumer(
            self._config(
                **{
                    "group.id": "testops-reader",  # librdkafka wants one; it is never joined
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "error",
                    "fetch.wait.max.ms": 100,
                    "fetch.error.backoff.ms": 100,
                    "queued.min.messages": 1000,
                    "queued.max.messages.kbytes": 16_384,
                    # As they are sent, compressed: results are much alike, and become fifty times as large.
                    "fetch.message.max.bytes": 131_072,
                    "max.poll.interval.ms": 86_400_000,  # a slow target may take long between two records
                    **more,
                }
            )
        )
        try:
            yield consumer
        finally:
            consumer.close()

    @contextmanager
    def _translated(self, where: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise self._error(error.args[0], where) from error

    def _error(self, error: KafkaError, where: str) -> BusError:
        if error.code() in _AWAY and self._refused is not None:
            error = self._refused
        what, next_step = f"Kafka at {self.bootstrap}: {error.str()}", "check that the brokers run; then repeat"
        if error.code() in _MISSING:
            what, next_step = "there is no such topic or partition", "create the topics (`make run` does)"
        elif error.code() in _REFUSED:
            next_step = "check the credentials, what they may do, and the certificates (TESTOPS_KAFKA_OPTIONS)"
        return BusError(what, where=where, next_step=next_step)

    def _metadata(self, client: Any, topic: str | None, timeout_s: float) -> Any:
        """What the cluster says of the topic, or of all; asked in short turns, so that a refusal is heard soon."""
        begin = time.monotonic()
        self._refused = None
        while True:
            left = begin + timeout_s - time.monotonic()
            try:
                found = client.list_topics(timeout=max(min(left, _TURN_S), 0.1), **({"topic": topic} if topic else {}))
            except KafkaException as error:
                client.poll(0)
                refused = self._is_refused() and time.monotonic() - begin > min(_TOPIC_GRACE_S, timeout_s)
                if error.args[0].code() not in _AWAY or refused or left <= _TURN_S:
                    raise
            else:
                self._refused = None
                return found

    def _partitions(self, client: Any, topic: str, timeout_s: float, *, grace_s: float = _TOPIC_GRACE_S) -> list[int]:
        """Partitions of the topic, all with a leader; waits for leaders, and shortly for the topic."""
        begin = time.monotonic()
        while True:
            left = begin + timeout_s - time.monotonic()
            found = self._metadata(client, topic, max(left, 0.1)).topics[topic]
            said = [found.error, *(part.error for part in found.partitions.values())]
            errors = [one for one in said if one is not None]
            if not errors and found.partitions:
                return sorted(found.partitions)
            waited = time.monotonic() - begin
            missing = not errors or any(one.code() in _MISSING for one in errors)
            if waited > timeout_s or (missing and waited > min(grace_s, timeout_s)):
                error = errors[0] if errors else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
                raise self._error(error, f"topic {topic}")
            time.sleep(0.1)

    def _end(self, consumer: Consumer, topic: str, partition: int) -> int:
        """End offset of a partition; asked again while a broker just started does not lead it yet."""
        place = TopicPartition(topic, partition)
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return int(consumer.get_watermark_offsets(place, timeout=self.timeout_s, cached=False)[1])
            except KafkaException as error:
                if time.monotonic() > deadline or error.args[0].code() in _REFUSED:
                    raise
                time.sleep(0.2)

    def _slice(self, batch: Batch, run: str | None, deadline_s: float) -> Iterator[_Record]:
        """Records of the batch that carry this run or none (`run=None`: all), in order."""
        if batch.first >= batch.end:
            return
        where = str(batch)
        with self._translated(where), self._consumer() as consumer:
            if batch.partition not in self._partitions(consumer, batch.topic, deadline_s):
                raise self._error(KafkaError(KafkaError._UNKNOWN_PARTITION), where)
            consumer.assign([TopicPartition(batch.topic, batch.partition, batch.first)])
            waiting_since = time.monotonic()
            ends_at, ends_since = -1, 0.0
            trouble: KafkaError | None = None
            while True:
                message = consumer.poll(0.2)
                now = time.monotonic()
                if message is not None:
                    offset, error = _place(message)[1], message.error()
                    if error is None or error.code() == KafkaError._PARTITION_EOF:
                        if offset >= batch.end:
                            return
                        ends_at, ends_since = offset, now
                    elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                        raise _expired(batch, f"offset {batch.first} is not in the topic any more")
                    elif error.fatal() or error.code() in _MISSING | _REFUSED:
                        raise self._error(error, where)
                    else:
                        trouble = error
                    if error is None:
                        if run is None or _run(message) in (run, None):
                            yield message
                        if offset + 1 >= batch.end:
                            return
                        waiting_since, ends_at, trouble = time.monotonic(), -1, None
                        continue
                if ends_at >= 0 and now - ends_since > min(_GONE_AFTER_S, deadline_s):
                    raise _expired(batch, f"the partition ends at {ends_at}, before the batch does")
                if now - waiting_since > deadline_s:
                    said = f" ({trouble.str()})" if trouble is not None else ""
                    raise BusError(
                        f"no record from Kafka at {self.bootstrap} for {deadline_s:g} s{said}",
                        where=where,
                        next_step="check that the brokers run; then repeat",
                    )


class ResultsWriter:
    """Results on their way to the topic. Not for use by several threads at once."""

    def __init__(self, sender: _Sender, topic: str) -> None:
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
    """What `Bus.read_results` gives: lists of results, and where reading stands."""

    def __init__(
        self,
        bus: Bus,
        start: Mapping[int, int],
        *,
        follow: bool,
        stop: Callable[[], bool],
        max_records: int,
        run: str | None,
        take: Callable[[_Record], None] | None = None,
    ) -> None:
        self._bus, self._follow, self._stop, self._max, self._run = bus, follow, stop, max_records, run
        self._take_instead = take
        self.positions: dict[int, int] = dict(start)
        """By partition: the offset after the last record of the lists given so far."""
        self.complete = False
        """The end was reached (never, when following)."""
        self._lists = self._read()

    def __next__(self) -> list[Result]:
        return next(self._lists)

    def close(self) -> None:
        """Leaves the topic before its end."""
        self._lists.close()

    def _read(self) -> Any:
        bus, topic = self._bus, self._bus.topics.results
        with bus._translated(topic), bus._consumer(**_RESULTS_READER) as consumer:
            partitions = bus._partitions(consumer, topic, bus.timeout_s)
            open_ends = {} if self._follow else {one: bus._end(consumer, topic, one) for one in partitions}
            starts = {one: self.positions.get(one, 0) for one in partitions}
            wanted = partitions if self._follow else [one for one in partitions if open_ends[one] != starts[one]]
            open_ends = {one: end for one, end in open_ends.items() if one in wanted and end > 0}
            if not self._follow and not open_ends:
                self.complete = True
                return
            consumer.assign([TopicPartition(topic, one, starts[one] or OFFSET_BEGINNING) for one in wanted])
            heard = time.monotonic()
            while not self._stop():
                found: list[Result] = []
                for message in consumer.consume(self._max, timeout=0.3 if self._follow else 0.1):
                    error = message.error()
                    if error is None:
                        heard = time.monotonic()
                        self._take(message, found)
                        partition, at = _place(message)
                        at += 1
                    elif error.code() == KafkaError._PARTITION_EOF:
                        heard = time.monotonic()
                        partition, at = _place(message)
                        open_ends.pop(partition, None)
                    elif error.fatal() or error.code() in _MISSING | _REFUSED:
                        raise bus._error(error, topic)
                    else:
                        log.info("%s: %s", topic, error.str())
                        continue
                    self.positions[partition] = at
                    if at >= open_ends.get(partition, at + 1):
                        del open_ends[partition]
                if found:
                    yield found
                    heard = time.monotonic()
                if not self._follow and not open_ends:
                    bus.close()
                    self.complete = True
                    return
                if not self._follow and time.monotonic() - heard > bus.timeout_s:
                    raise BusError(
                        f"no record from Kafka at {bus.bootstrap} for {bus.timeout_s:g} s",
                        where=topic,
                        next_step="check that the brokers run; then repeat",
                    )

    def _take(self, message: _Record, found: list[Result]) -> None:
        if self._take_instead is not None:
            self._take_instead(message)
            return
        if self._run is not None and _run(message) not in (self._run, None):
            return
        try:
            result = _RESULT.decode(message.value() or b"")
        except (msgspec.MsgspecError, ValueError) as error:
            self._bus._bury(message, str(error))
            return
        if self._run in (result.run, None):
            found.append(result)


class Delivered(Value, frozen=True, kw_only=True):
    """An order, and where it lies."""

    order: BatchOrder
    partition: int
    offset: int


class _Coordinator(msgspec.Struct):
    state: str = ""
    join_state: str = ""


class _Statistics(msgspec.Struct):
    """The part of librdkafka's statistics that says whether it is a member of its group."""

    cgrp: _Coordinator = msgspec.field(default_factory=_Coordinator)


_STATISTICS = msgspec.json.Decoder(_Statistics)


class OrderConsumer:
    """A member of the fleet's group: gives one order at a time. For one thread.

    While an order is out, `poll` goes on to be called (it keeps us in the group) and gives no other. `done` commits it;
    `again` has it given out once more; an order whose partition was revoked goes to another member if it is not done.

    Brokers that are away are waited for: `is_member` says how it stands.
    """

    def __init__(
        self,
        bus: Bus,
        group: str,
        *,
        on_assigned: Callable[[frozenset[int]], None],
        on_revoked: Callable[[frozenset[int], frozenset[int]], None],
    ) -> None:
        self._bus, self._topic = bus, bus.topics.batches
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._out: Delivered | None = None
        self._out_message: _Record | None = None
        self._waiting: deque[_Record] = deque()
        """Received, and not given out yet: not sought back, since a seek may fail and leave a record out."""
        self._to_commit: dict[int, int] = {}
        self._commit_again_at = 0.0
        self._coordinator = _Coordinator()
        self._said = ("", 0.0)
        self.assigned: frozenset[int] = frozenset()
        """Partitions that are ours."""
        self._consumer = Consumer(
            bus._config(
                **{
                    "group.id": group,
                    "partition.assignment.strategy": "cooperative-sticky",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",
                    "session.timeout.ms": _SESSION_MS,
                    "heartbeat.interval.ms": 2000,
                    # Longer than an order that is taken away may need to end.
                    "max.poll.interval.ms": 120_000,
                    "topic.metadata.refresh.interval.ms": 10_000,
                    "statistics.interval.ms": 1000,
                    "stats_cb": self._heard_statistics,
                    "on_commit": self._committed,
                    "queued.min.messages": 1,
                }
            )
        )
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commits what is done and leaves the group, so that others get its orders at once."""
        self._consumer.close()

    @property
    def is_member(self) -> bool:
        """Whether the group's coordinator answers and has us in the group."""
        return (self._coordinator.state, self._coordinator.join_state) == ("up", "steady")

    def poll(self, timeout_s: float) -> Delivered | None:
        """The next order, if one comes within this time and none is out.

        A record that is no order goes to the dead letters.

        Raises:
            BusError: librdkafka cannot go on.
        """
        if self._to_commit and time.monotonic() >= self._commit_again_at:
            self._commit(wait=False)
        received = self._consumer.poll(0 if self._waiting and self._out is None else timeout_s)
        if received is not None and (trouble := received.error()) is not None:
            self._complain(trouble)
        elif received is not None:
            self._waiting.append(received)
        if self._out is not None or not self._waiting:
            return None
        message = self._waiting.popleft()
        partition, offset = _place(message)
        try:
            order = _decode_order(message, partition)
        except (msgspec.MsgspecError, ValueError, SettingsError) as error:
            self._refuse(message, str(error))
            return None
        self._out, self._out_message = Delivered(order=order, partition=partition, offset=offset), message
        self._consumer.pause(self._consumer.assignment())
        return self._out

    def done(self) -> None:
        """The order that is out is done with: it is not given to anybody again."""
        out, message = self._take_in()
        if message is not None:
            self._to_commit[out.partition] = out.offset + 1
            self._commit(wait=False)

    def again(self) -> None:
        """The order that is out is to be given out again: to us, or to whom its partition belongs then."""
        _, message = self._take_in()
        if message is not None:
            self._waiting.appendleft(message)

    def _take_in(self) -> tuple[Delivered, _Record | None]:
        """The order that is out, with its record if its partition was ours all the time; others may come again."""
        assert self._out is not None
        out, message = self._out, self._out_message
        self._out = self._out_message = None
        if assigned := self._consumer.assignment():
            self._consumer.resume(assigned)
        return out, message

    def _refuse(self, message: _Record, reason: str) -> None:
        partition, offset = _place(message)
        try:
            self._bus._bury(message, reason)
            self._bus.close()
        except BusError as error:
            log.warning("%s", error)
            self._waiting.appendleft(message)
            return
        self._to_commit[partition] = offset + 1
        self._commit(wait=False)

    def _commit(self, *, wait: bool) -> None:
        self._commit_again_at = time.monotonic() + 2
        wanted = [TopicPartition(self._topic, partition, at) for partition, at in self._to_commit.items()]
        try:
            if not wait:
                self._consumer.commit(offsets=wanted, asynchronous=True)
                return
            for one in self._consumer.commit(offsets=wanted, asynchronous=False) or ():
                if one.error is None:
                    self._settled(one)
        except KafkaException as error:
            # Whoever gets the order again finds its outcome, and does nothing.
            log.warning("%s: not committed: %s", self._topic, error)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            if error is None and one.error is None:
                self._settled(one)
            else:
                log.info("%s:%d: not committed: %s", self._topic, one.partition, error or one.error)

    def _settled(self, one: TopicPartition) -> None:
        if self._to_commit.get(one.partition, one.offset + 1) <= one.offset:
            del self._to_commit[one.partition]

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        self.assigned |= {one.partition for one in partitions}
        if self._out is not None and partitions:
            consumer.pause(partitions)
        self._on_assigned(self.assigned)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = frozenset(one.partition for one in partitions)
        self._on_revoked(gone, self.assigned - gone)
        if self._to_commit:
            self._commit(wait=True)
        self._drop(consumer, partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """We were taken for dead: others may have the partitions already."""
        gone = frozenset(one.partition for one in partitions)
        self._on_revoked(gone, self.assigned - gone)
        self._drop(consumer, partitions)

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {one.partition for one in partitions}
        self.assigned -= gone
        self._to_commit = {partition: at for partition, at in self._to_commit.items() if partition not in gone}
        self._waiting = deque(one for one in self._waiting if one.partition() not in gone)
        if self._out is not None and self._out.partition in gone:
            self._out_message = None
        consumer.incremental_unassign(partitions)

    def _heard_statistics(self, text: str) -> None:
        with suppress(msgspec.MsgspecError):
            self._coordinator = _STATISTICS.decode(text).cgrp

    def _complain(self, error: KafkaError) -> None:
        """Says what is wrong once in a while: librdkafka says it many times a second.

        Raises:
            BusError: librdkafka cannot go on.
        """
        if error.fatal():
            raise self._bus._error(error, self._topic)
        said = self._bus._error(error, self._topic)
        if self._said[0] != str(said) or time.monotonic() - self._said[1] > 30:
            self._said = (str(said), time.monotonic())
            log.warning("%s", said)


class ShareHolder:
    """A member of the group of all who work on one target: some partitions of the topic of shares are its own.

    Nothing is ever written there. What matters is that Kafka gives each partition to one living member at most: a
    member that leaves, or was not heard of for `_SHARE_SESSION_MS`, loses its partitions to the others, and one that
    cannot reach Kafka for so long takes itself for dead.
    """

    def __init__(self, bus: Bus, target: str, on_change: Callable[[ShareHolder], None], patience_s: float) -> None:
        self._bus, self._topic, self._on_change = bus, bus.topics.shares, on_change
        self._patience_s = patience_s
        self._coordinator = _Coordinator()
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self.trouble: BusError | None = None
        """Why we are no member, and shall not become one: the group refuses us, or does not answer."""
        self.assigned: frozenset[int] = frozenset()
        """Partitions that are ours."""
        self._consumer = Consumer(
            bus._config(
                **{
                    "group.id": f"testops-target-{hashlib.sha256(target.encode()).hexdigest()[:16]}",
                    "partition.assignment.strategy": "cooperative-sticky",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "session.timeout.ms": _SHARE_SESSION_MS,
                    "heartbeat.interval.ms": 1500,
                    "statistics.interval.ms": 1000,
                    "stats_cb": self._heard_statistics,
                }
            )
        )
        try:
            with bus._translated(f"topic {self._topic}"):
                self.partitions = len(bus._partitions(self._consumer, self._topic, bus.timeout_s))
                """How many there are."""
        except BaseException:
            self._consumer.close()
            raise
        self._thread = threading.Thread(target=self._hold, name="share", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join(_SHARE_SESSION_MS / 1000)

    def wait(self, enough: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `enough` holds within this time; it is asked whenever the part changed.

        Raises:
            BusError: the group refuses us, or its coordinator does not answer for the bus's `timeout_s`.
        """
        with self._changed:
            self._changed.wait_for(lambda: enough() or self.trouble is not None, timeout_s)
            if self.trouble is not None:
                raise self.trouble
        return enough()

    def _hold(self) -> None:
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        heard, waits_s = time.monotonic(), self._bus.timeout_s
        while not self._leaving.is_set():
            message = self._consumer.poll(0.1)
            if self.assigned:
                waits_s = self._patience_s
            if self.assigned or (self._coordinator.state, self._coordinator.join_state) == ("up", "steady"):
                heard = time.monotonic()
            error = message.error() if message is not None else None
            if error is not None and (error.fatal() or error.code() in _MISSING | _REFUSED):
                self._give_up(self._bus._error(error, self._topic))
            elif time.monotonic() - heard > waits_s:
                self._give_up(self._bus._error(KafkaError(KafkaError._TIMED_OUT), self._topic))
        self._consumer.close()

    def _give_up(self, trouble: BusError) -> None:
        if self.trouble is None:
            self.trouble = trouble
            self._set(frozenset())

    def _set(self, assigned: frozenset[int]) -> None:
        self.assigned = assigned
        self._on_change(self)
        with self._changed:
            self._changed.notify_all()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)  # there is nothing to fetch
        self._set(self.assigned | {one.partition for one in partitions})

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._set(self.assigned - {one.partition for one in partitions})
        consumer.incremental_unassign(partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """We were taken for dead: others may have the partitions already."""
        self._revoked(consumer, partitions)

    def _heard_statistics(self, text: str) -> None:
        with suppress(msgspec.MsgspecError):
            self._coordinator = _STATISTICS.decode(text).cgrp


class OutcomesFollower:
    """Outcomes of a run's orders as they come. For one thread at a time. Brokers that are away are waited for."""

    def __init__(self, bus: Bus, start: Mapping[int, int], run: str) -> None:
        self._bus, self._start, self._run, self._topic = bus, dict(start), run, bus.topics.outcomes
        self._consumer: Consumer | None = None
        self._opened: AbstractContextManager[Consumer] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the topic."""
        if self._opened is not None:
            opened, self._opened, self._consumer = self._opened, None, None
            opened.__exit__(None, None, None)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The next outcomes, as soon as there are any, and none when none come within this time.

        What is no outcome is left out.

        Raises:
            BusError: the topic is missing, or Kafka refuses us; while nothing was read yet, also: the brokers are away.
        """
        with self._bus._translated(self._topic):
            consumer = self._consumer or self._open()
            deadline = time.monotonic() + timeout_s
            outcomes: list[Outcome] = []
            left = timeout_s
            while not outcomes and left >= 0:
                # asked for several, librdkafka waits for all of them
                for message in (*consumer.consume(1, timeout=left), *consumer.consume(1000, timeout=0)):
                    outcomes += self._read(message)
                left = deadline - time.monotonic()
            return outcomes

    def _read(self, message: _Record) -> list[Outcome]:
        error = message.error()
        if error is None:
            outcome = _decode_outcome(message) if _run(message) == self._run else None
            return [outcome] if outcome is not None else []
        if error.fatal() or error.code() in _MISSING | _REFUSED:
            raise self._bus._error(error, self._topic)
        if error.code() != KafkaError._PARTITION_EOF:
            log.info("%s: %s", self._topic, error.str())
        return []

    def _open(self) -> Consumer:
        opened = self._bus._consumer(**{"auto.offset.reset": "earliest"})
        consumer = opened.__enter__()
        try:
            partitions = self._bus._partitions(consumer, self._topic, self._bus.timeout_s)
            starts = ((one, self._start.get(one, 0) or OFFSET_BEGINNING) for one in partitions)
            consumer.assign([TopicPartition(self._topic, one, at) for one, at in starts])
        except BaseException as error:
            opened.__exit__(type(error), error, error.__traceback__)
            raise
        self._opened, self._consumer = opened, consumer
        return consumer


_RESULTS_READER = {
    "auto.offset.reset": "earliest",
    "queued.min.messages": 5_000,
    "queued.max.messages.kbytes": 16_384,
}


_PLACINGS = 4
"""How often records are sent again of which the brokers do not say where they are."""


class _Sender:
    """One idempotent producer with an account of what was not delivered. Leaving it as a context manager flushes."""

    def __init__(self, bus: Bus, producer: Producer, timeout_s: float) -> None:
        self._bus, self._producer, self._timeout_s = bus, producer, timeout_s
        self._sent = 0
        self._failed: list[tuple[str, KafkaError]] = []
        self._unplaced: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        else:
            self._producer.purge()
            self._producer.flush(1)

    def partitions(self, topic: str, timeout_s: float) -> list[int]:
        return self._bus._partitions(self._producer, topic, timeout_s)

    def send(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | bytes | None,
        run: str | None = None,
        partition: int = -1,
        headers: Mapping[str, str] | None = None,
        delivered: Callable[[_Record], None] | None = None,
    ) -> None:
        def report(error: KafkaError | None, message: _Record) -> None:
            if error is not None:
                self._failed.append((topic, error))
            elif delivered is not None and message.offset() is None:
                # The answer to the first attempt was lost, and the broker says of the second only: it is there already.
                self._unplaced.append(again)
            elif delivered is not None:
                delivered(message)

        def again() -> None:
            self.send(topic, data, key=key, run=run, partition=partition, headers=headers, delivered=delivered)

        pairs = [*(headers or {}).items()] + ([("run", run)] if run is not None else [])
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    topic,
                    data,
                    key=key,
                    partition=partition,
                    headers=[(name, text.encode()) for name, text in pairs],
                    on_delivery=report,
                )
                break
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise BusError("nothing can be delivered: the queue stays full", where=topic) from error
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise BusError(
                        f"the record {key!r} has {len(data)} bytes, and {MAX_RECORD_BYTES} is the limit",
                        where=topic,
                        next_step="make the case smaller",
                    ) from error
                raise self._bus._error(error.args[0], topic) from error
        self._sent += 1
        self._producer.poll(0)

    def flush(self, patience_s: float | None = None) -> None:
        """Waits until all is delivered; what was delivered nobody knows where goes once more, which is harmless."""
        self._flush(patience_s)
        for _ in range(_PLACINGS):
            unplaced, self._unplaced = self._unplaced, []
            for again in unplaced:
                again()
            if unplaced:
                self._flush()
        if left := len(self._unplaced):
            raise BusError(f"the brokers do not say where {left} records are", where="Kafka", next_step="repeat it")

    def _flush(self, patience_s: float | None = None) -> None:
        deadline = time.monotonic() + (self._timeout_s if patience_s is None else patience_s) + 5
        # In short turns, so that a signal's handler runs meanwhile.
        while (left := self._producer.flush(0.5)) and time.monotonic() < deadline:
            pass
        sent, failed = self._sent, self._failed
        self._sent, self._failed = 0, []
        if failed or left:
            why = f": {failed[0][1].str()}" if failed else ""
            self._producer.purge()
            raise BusError(
                f"{len(failed) + left} of {sent} records were not acknowledged{why}",
                where=failed[0][0] if failed else self._bus.bootstrap,
                next_step="check that the brokers run; then repeat (repeated records count once)",
            )


def encode_result(result: Result) -> bytes:
    """The result as JSON of at most `MAX_RESULT_BYTES`; evidence goes first, then failures after the twentieth."""
    data = _encode(result)
    if len(data) > MAX_RESULT_BYTES:
        steps = tuple(msgspec.structs.replace(step, request=None, response=None) for step in result.steps)
        result = msgspec.structs.replace(result, steps=steps)
        data = _encode(result)
    if len(data) > MAX_RESULT_BYTES:
        failures = tuple(
            msgspec.structs.replace(one, message=one.message[:2000], cause=one.cause[:2000], quote=one.quote[:2000])
            for one in result.failures[:20]
        )
        short = {"case_name": result.case_name[:2000], "reason": result.reason[:2000]}
        data = _encode(msgspec.structs.replace(result, failures=failures, steps=(), **short))
    return data


def _encode(result: Result) -> bytes:
    try:
        return msgspec.json.encode(result)
    except UnicodeEncodeError:
        # A lone surrogate, as a hostile answer's "\ud800" gives when Python's json reads it.
        return msgspec.json.encode(_encodable(msgspec.to_builtins(result)))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(one) for one in value]
    return value


def _without_schemas(contract: Contract) -> Contract:
    responses = {
        status: msgspec.structs.replace(
            response,
            content=dict.fromkeys(response.content, MediaContract()),
            headers={name: HeaderContract(required=one.required) for name, one in response.headers.items()},
        )
        for status, response in contract.responses.items()
    }
    return msgspec.structs.replace(contract, responses=responses)


def _decode_order(message: _Record, partition: int) -> BatchOrder:
    """The order, with every text in it usable.

    Raises:
        MsgspecError, ValueError, SettingsError: it is none.
    """
    order = _ORDER.decode(message.value() or b"")
    slices.parse(order.plan), slices.parse(order.batch)
    slices.parse_positions(order.results), slices.parse_positions(order.outcomes)
    if _run(message) != order.run:
        raise ValueError("the header `run` names another run, or none")
    if partition not in order.partitions:
        raise ValueError(f"it lies in partition {partition}, which is none of its own")
    if order.expires.tzinfo is None:
        raise ValueError("`expires` has no time zone")
    return order


def _encode_outcome(outcome: Outcome) -> bytes:
    if isinstance(outcome, Ended):
        outcome = msgspec.structs.replace(outcome, text=_encodable(outcome.text[:_LONGEST_TEXT]))
    return msgspec.json.encode(outcome)


def _decode_outcome(message: _Record) -> Outcome | None:
    try:
        return _OUTCOME.decode(message.value() or b"")
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("%s:%d:%d is no outcome: %s", message.topic(), *_place(message), error)
        return None


def _run(message: _Record) -> str | None:
    headers: Any = message.headers() or ()
    for name, data in headers:
        if name == "run":
            return data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return None


def _headers(message: _Record) -> dict[str, str]:
    headers: Any = message.headers() or ()
    return {name: data.decode("utf-8", "replace") for name, data in headers if isinstance(data, bytes)}


def _letter(message: _Record, headers: Mapping[str, str]) -> DeadLetter:
    """The dead letter, whoever wrote it: what a header does not say is unknown (-1 or empty)."""
    partition, offset = _place(message)
    kind, at_ms = message.timestamp()
    data = message.value() or b""
    return DeadLetter(
        partition=partition,
        offset=offset,
        time=datetime.fromtimestamp(at_ms / 1000, UTC) if kind else None,
        reason=headers.get("reason", ""),
        topic=headers.get("topic", ""),
        origin_partition=_number(headers.get("partition")),
        origin_offset=_number(headers.get("offset")),
        run=headers.get("run", ""),
        key=message.key(),
        data=data,
        whole_bytes=max(len(data), _number(headers.get("bytes"))),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else -1


def _place(message: _Record) -> tuple[int, int]:
    """Partition and offset (None is for messages that never met a broker)."""
    return message.partition() or 0, message.offset() or 0


def _expired(batch: Batch, what: str) -> ExpiredBatchError:
    return ExpiredBatchError(
        what, where=str(batch), next_step="clear the run's task `publish` (and what follows it) to publish it again"
    )
