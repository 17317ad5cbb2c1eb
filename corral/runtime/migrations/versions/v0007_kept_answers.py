"""Answers of models that are kept to be given again"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, which is empty."""
    op.create_table(
        "kept_answers",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("embedding", sa.LargeBinary()),
        sa.Column("made_at", sa.String(), nullable=False),
        sa.Column("used_at", sa.String(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("kept_answers_by_run", "kept_answers", ["run_id"])
    op.create_index("kept_answers_by_scope", "kept_answers", ["scope", "made_at"])
    op.create_index("kept_answers_by_use", "kept_answers", ["used_at"])
