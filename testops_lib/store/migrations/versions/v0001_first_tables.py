"""Specs, runs, cases, results and findings."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
oldest_code = "0001"

TABLES = """
CREATE TABLE testops.specs (
    hash text COLLATE "C" PRIMARY KEY,
    body bytea NOT NULL
);

CREATE TABLE testops.runs (
    run text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    target text COLLATE "C" NOT NULL,
    title text NOT NULL DEFAULT '',
    base_url text NOT NULL DEFAULT '',
    spec_hash text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'open',
    opened timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    finished timestamptz,
    plan text,
    plan_batch text,
    batches text[] NOT NULL DEFAULT '{}',
    positions jsonb,
    passed boolean,
    report text
);
CREATE INDEX runs_by_target ON testops.runs (target, seq);

CREATE TABLE testops.cases (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    operation text NOT NULL DEFAULT '',
    intent text NOT NULL DEFAULT '',
    source text NOT NULL DEFAULT '',
    document text NOT NULL
);

CREATE TABLE testops.run_groups (
    run text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    case_ids text[] COLLATE "C" NOT NULL,
    generation text NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE TABLE testops.run_cases (
    run text COLLATE "C" NOT NULL,
    case_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (run, case_id)
);

CREATE SEQUENCE testops.results_seq;
CREATE TABLE testops.results (
    run text COLLATE "C" NOT NULL,
    case_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    seq bigint NOT NULL DEFAULT nextval('testops.results_seq'),
    verdict text COLLATE "C" NOT NULL,
    reason text NOT NULL DEFAULT '',
    operation text NOT NULL DEFAULT '',
    requests integer NOT NULL DEFAULT 0,
    elapsed_ms double precision NOT NULL DEFAULT 0,
    started timestamptz,
    document text NOT NULL,
    PRIMARY KEY (run, case_id, attempt)
);
CREATE INDEX results_failed ON testops.results (run, seq) WHERE verdict = 'failed';

CREATE TABLE testops.findings (
    target text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    operation text NOT NULL DEFAULT '',
    check_name text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    state text NOT NULL,
    first_seen_run text COLLATE "C" NOT NULL,
    last_seen_run text COLLATE "C" NOT NULL,
    PRIMARY KEY (target, fingerprint)
);

COMMENT ON TABLE testops.run_cases IS 'published cases';
COMMENT ON COLUMN testops.specs.body IS 'zlib';
COMMENT ON COLUMN testops.runs.seq IS 'order in which runs were first opened';
COMMENT ON COLUMN testops.runs.state IS 'open, published, finished';
COMMENT ON COLUMN testops.runs.plan IS 'JSON of Plan';
COMMENT ON COLUMN testops.runs.positions IS 'results topic: partition -> offset before any result of the run';
COMMENT ON COLUMN testops.runs.report IS 'JSON of Report';
COMMENT ON COLUMN testops.cases.document IS 'JSON of Case';
COMMENT ON COLUMN testops.run_groups.case_ids IS 'in order';
COMMENT ON COLUMN testops.run_groups.generation IS 'JSON of Generation';
COMMENT ON COLUMN testops.results.seq IS 'order of storing';
COMMENT ON COLUMN testops.results.document IS 'JSON of Result';
COMMENT ON COLUMN testops.findings.state IS 'new, known, fixed, muted';
"""


def upgrade() -> None:
    op.execute(TABLES)
