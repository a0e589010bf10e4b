"""What came of repeating failed cases within their run."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
oldest_code = "0004"

TABLE = """
CREATE TABLE testops.repetitions (
    run text COLLATE "C" NOT NULL,
    case_id text COLLATE "C" NOT NULL,
    repeat integer NOT NULL,
    verdict text COLLATE "C" NOT NULL,
    document text NOT NULL,
    PRIMARY KEY (run, case_id, repeat)
);
COMMENT ON TABLE testops.repetitions IS 'failed cases executed again, alone, within their run';
COMMENT ON COLUMN testops.repetitions.repeat IS 'from 1';
COMMENT ON COLUMN testops.repetitions.document IS 'JSON of Result';
"""


def upgrade() -> None:
    op.execute(TABLE)
