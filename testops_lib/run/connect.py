"""The bus that the settings name."""

from __future__ import annotations

from testops_lib.bus.client import Bus
from testops_lib.settings import Settings


def open_bus(settings: Settings) -> Bus:
    """The bus that the settings name."""
    return Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=settings.kafka_timeout_s)
