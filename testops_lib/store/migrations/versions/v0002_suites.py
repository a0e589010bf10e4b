"""Suites that last: members, their history, and what decided how they came to be."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
oldest_code = "0002"

TABLES = """
ALTER TABLE testops.runs ADD COLUMN suite text COLLATE "C" NOT NULL DEFAULT '';

CREATE TABLE testops.suite_members (
    id text COLLATE "C" PRIMARY KEY,
    suite text COLLATE "C" NOT NULL,
    operation text NOT NULL DEFAULT '',
    source text NOT NULL DEFAULT '',
    slot text NOT NULL DEFAULT '',
    position integer NOT NULL DEFAULT 0,
    generated text COLLATE "C" NOT NULL,
    current text COLLATE "C" NOT NULL,
    offered text NOT NULL DEFAULT '',
    edited boolean NOT NULL DEFAULT false,
    status text COLLATE "C" NOT NULL,
    who text NOT NULL DEFAULT '',
    why text NOT NULL DEFAULT '',
    changed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX suite_members_by_suite ON testops.suite_members (suite, status);

CREATE TABLE testops.suite_changes (
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    member text COLLATE "C" NOT NULL,
    suite text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL DEFAULT '',
    what text NOT NULL DEFAULT '',
    why text NOT NULL DEFAULT '',
    before text NOT NULL DEFAULT '',
    after text NOT NULL DEFAULT '',
    PRIMARY KEY (seq)
);
CREATE INDEX suite_changes_by_member ON testops.suite_changes (member, seq);

CREATE TABLE testops.suite_made (
    id text COLLATE "C" PRIMARY KEY,
    suite text COLLATE "C" NOT NULL,
    operation text NOT NULL DEFAULT '',
    source text NOT NULL DEFAULT '',
    document text NOT NULL
);
CREATE INDEX suite_made_by_suite ON testops.suite_made (suite);

COMMENT ON COLUMN testops.runs.suite IS 'whose cases it executes';
COMMENT ON COLUMN testops.suite_members.generated IS 'case that the source made';
COMMENT ON COLUMN testops.suite_members.current IS 'case that runs';
COMMENT ON COLUMN testops.suite_members.offered IS 'case that contradicts a change';
COMMENT ON COLUMN testops.suite_members.edited IS 'a person changed the case';
COMMENT ON COLUMN testops.suite_members.status IS 'draft, active, quarantined, rejected, retired';
COMMENT ON TABLE testops.suite_changes IS 'history of the members';
COMMENT ON TABLE testops.suite_made IS 'what decided the outcome of the last generation';
COMMENT ON COLUMN testops.suite_made.document IS 'JSON of Made';
"""


def upgrade() -> None:
    op.execute(TABLES)
