"""Indexes by which gc finds who needs a content"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the entries that have a content of their own; the others are not in it."""
    for column in ("request_blob", "result_blob"):
        has_one = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"effects_by_{column}",
            "effects",
            [column],
            sqlite_where=has_one,
            postgresql_where=has_one,
        )
