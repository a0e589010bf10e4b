"""The tables of the PostgreSQL schema `testops` as they are now; migrations lead here from any earlier version.

Used by Alembic and by the test that compares a migrated database with a fresh one; `Store` itself speaks SQL.
Ids are compared byte by byte (collation C): faster, and the same order on every server. JSON documents are kept as
`text`: `jsonb` refuses `\\u0000`, which hostile answers contain.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(schema="testops")


def _id(name: str) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


specs = Table(
    "specs",
    metadata,
    _id("hash"),
    Column("body", LargeBinary, nullable=False, comment="zlib"),
    PrimaryKeyConstraint("hash"),
)

runs = Table(
    "runs",
    metadata,
    _id("run"),
    Column("seq", BigInteger, Identity(always=True), nullable=False, comment="order in which runs were first opened"),
    _id("target"),
    _text("title"),
    _text("base_url"),
    _text("spec_hash"),
    Column("state", Text, nullable=False, server_default="open", comment="open, published, finished"),
    Column("opened", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("published_at", DateTime(timezone=True)),
    Column("finished", DateTime(timezone=True)),
    Column("settled", Text, comment="JSON of Settled: what it does"),
    Column("plan_batch", Text),
    Column("batches", ARRAY(Text), nullable=False, server_default="{}"),
    Column("positions", JSONB, comment="results topic: partition -> offset before any result of the run"),
    Column("passed", Boolean),
    Column("report", Text, comment="JSON of Report"),
    Column("suite", Text(collation="C"), nullable=False, server_default="", comment="whose cases it executes"),
    Column(
        "results_topic",
        Text(collation="C"),
        nullable=False,
        server_default="",
        comment="id of the topic that positions are of; empty: unknown",
    ),
    PrimaryKeyConstraint("run"),
    Index("runs_by_target", "target", "seq"),
)

cases = Table(
    "cases",
    metadata,
    _id("id"),
    _text("name"),
    _text("operation"),
    _text("intent"),
    _text("source"),
    Column("document", Text, nullable=False, comment="JSON of Case"),
    PrimaryKeyConstraint("id"),
)

run_groups = Table(
    "run_groups",
    metadata,
    _id("run"),
    _id("name"),
    Column("case_ids", ARRAY(Text(collation="C")), nullable=False, comment="in order"),
    Column("generation", Text, nullable=False, comment="JSON of Generation"),
    PrimaryKeyConstraint("run", "name"),
)

run_cases = Table(
    "run_cases",
    metadata,
    _id("run"),
    _id("case_id"),
    PrimaryKeyConstraint("run", "case_id"),
    comment="published cases",
)

begun_batches = Table(
    "begun_batches",
    metadata,
    _id("run"),
    _id("batch"),
    Column("attempt", Integer, nullable=False),
    PrimaryKeyConstraint("run", "batch", "attempt"),
    comment="batches for which a runner was started",
)

results_seq = Sequence("results_seq", metadata=metadata, schema="testops")

results = Table(
    "results",
    metadata,
    _id("run"),
    _id("case_id"),
    Column("attempt", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False, server_default=results_seq.next_value(), comment="order of storing"),
    Column("verdict", Text(collation="C"), nullable=False),
    _text("reason"),
    _text("operation"),
    Column("requests", Integer, nullable=False, server_default="0"),
    Column("elapsed_ms", Double, nullable=False, server_default=text("0")),
    Column("started", DateTime(timezone=True)),
    Column("document", Text, nullable=False, comment="JSON of Result"),
    PrimaryKeyConstraint("run", "case_id", "attempt"),
    Index("results_failed", "run", "seq", postgresql_where=text("verdict = 'failed'")),
)

repetitions = Table(
    "repetitions",
    metadata,
    _id("run"),
    _id("case_id"),
    Column("repeat", Integer, nullable=False, comment="from 1"),
    Column("verdict", Text(collation="C"), nullable=False),
    Column("document", Text, nullable=False, comment="JSON of Result"),
    PrimaryKeyConstraint("run", "case_id", "repeat"),
    comment="failed cases executed again, alone, within their run",
)

findings = Table(
    "findings",
    metadata,
    _id("target"),
    _id("fingerprint"),
    _text("operation"),
    _text("check_name"),
    _text("message"),
    Column("state", Text, nullable=False, comment="new, known, fixed, muted"),
    _id("first_seen_run"),
    _id("last_seen_run"),
    PrimaryKeyConstraint("target", "fingerprint"),
)

suite_members = Table(
    "suite_members",
    metadata,
    _id("id"),
    _id("suite"),
    _text("operation"),
    _text("source"),
    _text("slot"),
    Column("position", Integer, nullable=False, server_default="0"),
    Column("generated", Text(collation="C"), nullable=False, comment="case that the source made"),
    Column("current", Text(collation="C"), nullable=False, comment="case that runs"),
    Column("offered", Text, nullable=False, server_default="", comment="case that contradicts a change"),
    Column("edited", Boolean, nullable=False, server_default=text("false"), comment="a person changed the case"),
    Column("status", Text(collation="C"), nullable=False, comment="draft, active, quarantined, rejected, retired"),
    _text("who"),
    _text("why"),
    Column("changed", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("id"),
    Index("suite_members_by_suite", "suite", "status"),
)

suite_changes = Table(
    "suite_changes",
    metadata,
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    _id("member"),
    _id("suite"),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    _text("who"),
    _text("what"),
    _text("why"),
    _text("before"),
    _text("after"),
    PrimaryKeyConstraint("seq"),
    Index("suite_changes_by_member", "member", "seq"),
    comment="history of the members",
)

suite_made = Table(
    "suite_made",
    metadata,
    _id("id"),
    _id("suite"),
    _text("operation"),
    _text("source"),
    Column("document", Text, nullable=False, comment="JSON of Made"),
    PrimaryKeyConstraint("id"),
    Index("suite_made_by_suite", "suite"),
    comment="what decided the outcome of the last generation",
)
