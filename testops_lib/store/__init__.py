"""PostgreSQL, schema `testops`: specs, suites, runs, cases, results, findings, reports."""

from __future__ import annotations

from testops_lib.store.cases import Cases
from testops_lib.store.database import SCHEMA_VERSION, Schema, is_usable
from testops_lib.store.migrate import Migration, pending
from testops_lib.store.reports import Reports
from testops_lib.store.results import CHANNEL, NO_RESULT, LiveFailure, Progress, Results
from testops_lib.store.runs import Run
from testops_lib.store.suites import Suites

__all__ = [
    "CHANNEL",
    "NO_RESULT",
    "SCHEMA_VERSION",
    "LiveFailure",
    "Migration",
    "Progress",
    "Run",
    "Schema",
    "Store",
    "is_usable",
    "pending",
]


class Store(Cases, Suites, Results, Reports):
    """The store of one database, over one connection; each duty is a class in a module of its own."""
