"""Runs of those who come and go, by their handles"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, which is empty."""
    op.create_table(
        "served_runs",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["thread_id"], ["threads.id"]),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("run_id"),
        sa.UniqueConstraint("owner", "key"),
    )
    op.create_index("served_runs_by_owner", "served_runs", ["owner", "number"])
    op.create_index("served_runs_by_thread", "served_runs", ["thread_id"])
    op.create_index("served_runs_by_state", "served_runs", ["state"])
