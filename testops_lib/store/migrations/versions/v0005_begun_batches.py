"""Batches for which a runner was started, so that what may have been executed is looked for."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
oldest_code = "0005"

TABLE = """
CREATE TABLE testops.begun_batches (
    run text COLLATE "C" NOT NULL,
    batch text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    PRIMARY KEY (run, batch, attempt)
);
COMMENT ON TABLE testops.begun_batches IS 'batches for which a runner was started';
"""


def upgrade() -> None:
    op.execute(TABLE)
