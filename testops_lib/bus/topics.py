"""Names of the topics, and the largest records in them."""

from __future__ import annotations

from testops_lib.model import Value

MAX_RECORD_BYTES = 8_000_000
"""A case, a plan record or a dead letter above this is refused (`message.max.bytes` of the producer)."""

MAX_CONTRACT_BYTES = 4_000_000
"""A contract above this is published without its schemas: statuses and media types are still judged."""

MAX_RESULT_BYTES = 900_000
"""A result above this loses its evidence; Kafka's own limit is 1,048,588 bytes with overhead (`max.message.bytes`)."""


class Topics(Value, frozen=True, kw_only=True):
    """Names of the topics."""

    cases: str = "testops.cases"
    plans: str = "testops.plans"
    results: str = "testops.results"
    notifications: str = "testops.notifications"
    dead_letters: str = "testops.dead-letters"
    batches: str = "testops.batches"
    """Orders: batches handed to the fleet."""
    outcomes: str = "testops.outcomes"
    """What became of orders."""
    shares: str = "testops.shares"
