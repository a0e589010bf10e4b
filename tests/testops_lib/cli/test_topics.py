"""`testops topics`: what the library needs in Kafka, made outside of `make run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.kafka import Kafka
from testops_lib.bus.topics import Topics
from tests.paths import ROOT

pytestmark = pytest.mark.integration


def topics(bootstrap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TESTOPS_")}
    environment |= {
        "TESTOPS_KAFKA_BOOTSTRAP": bootstrap,
        "TESTOPS_KAFKA_PARTITIONS": "3",
        "TESTOPS_KAFKA_TIMEOUT_S": "20",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "testops_lib.cli", "topics", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_topics_are_missing_then_created_once_and_listed(tmp_path: Path) -> None:
    names = Topics()
    with Kafka(tmp_path, durable=False) as broker:
        bootstrap = broker.start()
        missing = topics(bootstrap, "list")
        assert missing.returncode == 1 and f"{names.cases}  missing" in missing.stdout
        for _ in range(2):
            created = topics(bootstrap, "create")
            assert created.returncode == 0, created.stderr
        listed = topics(bootstrap, "list")
    assert listed.returncode == 0, listed.stderr
    assert f"{names.cases}  3 partitions" in listed.stdout and f"{names.shares}  12 partitions" in listed.stdout
    assert len(listed.stdout.splitlines()) == len(names.__struct_fields__)


def test_a_broker_that_is_away_is_named() -> None:
    away = topics("127.0.0.1:1", "list")
    assert away.returncode == 2 and "127.0.0.1:1" in away.stderr and "Traceback" not in away.stderr
