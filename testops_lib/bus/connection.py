"""The connection to one Kafka cluster: settings of every client, metadata, and librdkafka's errors as `BusError`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from testops_lib.errors import BusError

_client_log = logging.getLogger(f"{__name__}.librdkafka")
_client_log.addHandler(logging.NullHandler())  # quiet unless configured: failures are raised

_TOPIC_GRACE_S = 3.0
"""How long a topic may be unknown before it counts as missing: a broker just started learns its topics late."""

_TURN_S = 2.0
"""How long one request for metadata waits; between two requests librdkafka reports why the cluster does not answer."""

_NO_ID = "A" * 22
"""The topic id of zeros: brokers that know of none."""

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
"""The brokers do not answer, perhaps because they refuse us: librdkafka reports that reason separately."""


def is_final(error: KafkaError) -> bool:
    """Whether librdkafka cannot recover: a fatal error, a missing topic, or brokers that refuse us."""
    return error.fatal() or error.code() in _MISSING | _REFUSED


class Connection:
    """One Kafka cluster. Connects when first needed; every client has its own sockets.

    Args:
        bootstrap: `host:port[,host:port…]`.
        options: further librdkafka settings for every client, such as `security.protocol` or `sasl.password`.
        timeout_s: how long brokers may be away before a call gives up with `BusError`.
    """

    def __init__(self, bootstrap: str, *, options: Mapping[str, str] | None = None, timeout_s: float = 60) -> None:
        self.bootstrap, self.timeout_s = bootstrap, timeout_s
        self._options = dict(options or {})
        self._refusal: KafkaError | None = None

    # ------------------------------------------------------------------ clients

    def configuration(self, **options: Any) -> dict[str, Any]:
        """Settings of a client; `options` win."""
        return {
            "bootstrap.servers": self.bootstrap,
            "client.id": "testops",
            "logger": _client_log,
            "error_cb": self._on_error,
            "reconnect.backoff.max.ms": 2000,
            **self._options,
            **options,
        }

    @contextmanager
    def consumer(self, **options: Any) -> Iterator[Consumer]:
        """A consumer that reads by assign and seek; it never joins a group and commits nothing."""
        consumer = Consumer(
            self.configuration(
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
                    # Counted compressed: results are much alike, and become fifty times as large.
                    "fetch.message.max.bytes": 131_072,
                    "max.poll.interval.ms": 86_400_000,  # a slow target needs long between two records
                    **options,
                }
            )
        )
        try:
            yield consumer
        finally:
            consumer.close()

    # ------------------------------------------------------------------ metadata

    def metadata(self, client: Any, topic: str | None = None, timeout_s: float | None = None) -> Any:
        """The cluster's metadata of the topic, or of all topics.

        Raises:
            KafkaException: the brokers are away or refuse us.
        """
        timeout_s, begin = self.timeout_s if timeout_s is None else timeout_s, time.monotonic()
        self._refusal = None
        while True:
            left = begin + timeout_s - time.monotonic()
            try:
                answer = client.list_topics(timeout=max(min(left, _TURN_S), 0.1), **({"topic": topic} if topic else {}))
            except KafkaException as error:
                client.poll(0)  # runs `_on_error`
                is_refused = self._is_refused() and time.monotonic() - begin > min(_TOPIC_GRACE_S, timeout_s)
                if error.args[0].code() not in _AWAY or is_refused or left <= _TURN_S:
                    raise
            else:
                self._refusal = None
                return answer

    def partitions(
        self, client: Any, topic: str, timeout_s: float | None = None, *, grace_s: float = _TOPIC_GRACE_S
    ) -> list[int]:
        """Partitions of the topic, all with a leader; waits for leaders, and `grace_s` for the topic.

        Raises:
            BusError: there is no such topic, or a partition has no leader in time.
            KafkaException: the brokers are away or refuse us.
        """
        timeout_s, begin = self.timeout_s if timeout_s is None else timeout_s, time.monotonic()
        while True:
            left = begin + timeout_s - time.monotonic()
            about = self.metadata(client, topic, max(left, 0.1)).topics[topic]
            reported = [about.error, *(partition.error for partition in about.partitions.values())]
            errors = [error for error in reported if error is not None]
            if not errors and about.partitions:
                return sorted(about.partitions)
            waited = time.monotonic() - begin
            is_missing = not errors or any(error.code() in _MISSING for error in errors)
            if waited > timeout_s or (is_missing and waited > min(grace_s, timeout_s)):
                raise self.error(
                    errors[0] if errors else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), f"topic {topic}"
                )
            time.sleep(0.1)

    def end(self, consumer: Consumer, topic: str, partition: int) -> int:
        """End offset of a partition; asks again while a broker just started does not lead it yet.

        Raises:
            KafkaException: the brokers are away or refuse us.
        """
        place = TopicPartition(topic, partition)
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return int(consumer.get_watermark_offsets(place, timeout=self.timeout_s, cached=False)[1])
            except KafkaException as error:
                if time.monotonic() > deadline or error.args[0].code() in _REFUSED:
                    raise
                time.sleep(0.2)

    def ends(self, topic: str) -> dict[int, int]:
        """The end of the topic now: partition -> offset.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        with self.translated(topic), self.consumer() as consumer:
            return {partition: self.end(consumer, topic, partition) for partition in self.partitions(consumer, topic)}

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        with self.translated(topic), self.consumer() as consumer:
            return len(self.partitions(consumer, topic))

    def topic_id(self, topic: str) -> str:
        """The id that Kafka gave the topic when it was created; empty where the brokers give none (before 2.8).

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        with self.translated(f"topic {topic}"):
            admin = AdminClient(self.configuration())
            self.partitions(admin, topic)
            answer = admin.describe_topics(TopicCollection([topic]), request_timeout=self.timeout_s)[topic]
            topic_id = str(answer.result().topic_id or _NO_ID)
        return "" if topic_id == _NO_ID else topic_id

    # ------------------------------------------------------------------ errors

    @contextmanager
    def translated(self, where: str) -> Iterator[None]:
        """Raises what librdkafka raises in the block as `BusError`."""
        try:
            yield
        except KafkaException as error:
            raise self.error(error.args[0], where) from error

    def error(self, error: KafkaError, where: str) -> BusError:
        """What librdkafka reports as an error of ours: the place, the cause, what to do next."""
        if error.code() in _AWAY and self._refusal is not None:
            error = self._refusal
        what, next_step = f"Kafka at {self.bootstrap}: {error.str()}", "check that the brokers run; then repeat"
        if error.code() in _MISSING:
            what, next_step = "there is no such topic or partition", "create the topics: `testops topics create`"
        elif error.code() in _REFUSED:
            next_step = "check the credentials, what they may do, and the certificates (TESTOPS_KAFKA_OPTIONS)"
        return BusError(what, where=where, next_step=next_step)

    def silence(self, where: str, seconds: float, last_error: KafkaError | None) -> BusError:
        """No record came for so long; `last_error` is what librdkafka reported meanwhile."""
        cause = f" ({last_error.str()})" if last_error is not None else ""
        return BusError(
            f"no record from Kafka at {self.bootstrap} for {seconds:g} s{cause}",
            where=where,
            next_step="check that the brokers run; then repeat",
        )

    def timeout(self, where: str) -> BusError:
        """The brokers did not answer in time."""
        return self.error(KafkaError(KafkaError._TIMED_OUT), where)

    def _on_error(self, error: KafkaError) -> None:
        """Librdkafka retries for ever, and reports only here that a broker refused us."""
        if error.code() in _REFUSED:
            self._refusal = error

    def _is_refused(self) -> bool:
        return self._refusal is not None
