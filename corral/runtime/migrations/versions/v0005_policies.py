"""Approvals with a context, answers ahead with a scope, budgets, labels and the vault"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what policies keep; what is there stays as it is."""
    op.add_column("runs", sa.Column("tags", sa.Text()))
    op.create_index("runs_by_status", "runs", ["status", "finished_at", "origin"])
    op.add_column("approvals", sa.Column("context", sa.Text()))
    for name in ("answered_by", "expires_at", "asked_of", "escalated_at"):
        op.add_column("approvals", sa.Column(name, sa.String()))
    op.create_index("approvals_by_expiry", "approvals", ["status", "expires_at"])
    op.add_column("memories", sa.Column("label", sa.Text()))
    _standing_rules()
    _spending()
    _vault()


def _standing_rules() -> None:
    scope = sa.Column("scope", sa.String(), nullable=False, server_default="project")
    op.add_column("standing_rules", scope)
    scope_id = sa.Column("scope_id", sa.Text(), nullable=False, server_default="")
    op.add_column("standing_rules", scope_id)
    for name in ("until", "approval"):
        op.add_column("standing_rules", sa.Column(name, sa.String()))


def _spending() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("reservations_by_run", "reservations", ["run_id"])
    op.create_table(
        "spent_before",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("model_calls", sa.Integer(), nullable=False),
        sa.Column("tool_calls", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("active_seconds", sa.Float(), nullable=False),
        sa.Column("wall_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("spent_before_by_day", "spent_before", ["day"])


def _vault() -> None:
    op.create_table(
        "vault",
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("placeholder", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("thread_id", "placeholder"),
    )
