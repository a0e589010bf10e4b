"""The servers of one machine: PostgreSQL, Apache Kafka, Airflow and the sample APIs, as children of one parent.

Every server is started by `process.Processes`, which writes down what it started and ends it with its parent;
each has its own state directory, usually below `.testops/`.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
"""The checkout that this package stands in: `dags/`, `targets/` and `.testops/` are beside it."""

HOST = "127.0.0.1"
"""The only address our servers listen on."""
