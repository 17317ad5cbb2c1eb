"""Forks, pins, imports, the order in which effects end, and contents stored once"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns to runs and effects, and the table of blobs."""
    for column in (
        sa.Column("parent_run", sa.String()),
        sa.Column("fork_at", sa.Integer()),
        sa.Column("changes", sa.Text()),
        sa.Column("code", sa.Text()),
        sa.Column("pinned", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("origin", sa.Text()),
        sa.Column("rewound", sa.String()),
    ):
        op.add_column("runs", column)
    op.create_index("runs_by_parent", "runs", ["parent_run"])
    for column in (
        sa.Column("ended", sa.Integer()),
        sa.Column("asked", sa.Integer()),
        sa.Column("seen", sa.Integer()),
        sa.Column("request_blob", sa.String()),
        sa.Column("result_blob", sa.String()),
    ):
        op.add_column("effects", column)
    op.add_column("approvals", sa.Column("answer_result", sa.Text()))
    # What ended before this revision is taken to have ended in the order in which it was asked.
    op.execute("UPDATE effects SET ended = seq WHERE status IN ('finished', 'failed')")
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
