"""A run keeps what it was opened with."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
oldest_code = "0003"

COLUMN = """
ALTER TABLE testops.runs RENAME COLUMN plan TO settled;
COMMENT ON COLUMN testops.runs.settled IS 'JSON of Settled: what it does';
"""


def upgrade() -> None:
    op.execute(COLUMN)
