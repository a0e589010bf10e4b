"""A runner's exit codes: they tell its launcher what to do next."""

from __future__ import annotations

DONE = 0
"""The batch was executed. Failing tests are a result, not an error."""

RETRY = 1
"""The infrastructure failed (Kafka, a signal, the deadline): execute the batch again."""

CONFIGURATION = 2
"""Wrong settings, target or batch: a retry would end the same way."""

TARGET_DOWN = 3
"""The target is down, and its policy waits longer than a runner does: execute the batch again after a pause."""
