"""Snapshots of workspaces, rewinds, and a log of what changed in the memory"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables of rewinding; what is remembered by now was remembered by its run."""
    op.add_column("checkpoints", sa.Column("rewound", sa.String()))
    _snapshots()
    _rewinds()
    _memory_changes()


def _snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("root", sa.String(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("mirrored", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["thread_id"], ["threads.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("snapshots_by_thread", "snapshots", ["thread_id", "created_at"])
    op.create_index("snapshots_by_workspace", "snapshots", ["workspace"])
    op.create_table(
        "snapshot_folders",
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("tree", sa.String(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "folder"),
    )


def _rewinds() -> None:
    op.create_table(
        "rewinds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("to_run", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("target", sa.String(), nullable=True),
        sa.Column("created_at", sa.String(), nullable=False),
        sa.Column("finished_at", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["thread_id"], ["threads.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rewinds_by_thread", "rewinds", ["thread_id", "created_at"])


def _memory_changes() -> None:
    changes = op.create_table(
        "memory_changes",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("op", sa.String(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("rewound", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("memory_changes_by_memory", "memory_changes", ["memory_id"])
    op.create_index("memory_changes_by_run", "memory_changes", ["run_id"])
    facts = op.get_bind().execute(sa.text("SELECT * FROM memories ORDER BY created_at, id"))
    for fact in facts.mappings().all():
        row = {"memory_id": fact["id"], "thread_id": fact["thread"], "run_id": fact["run"]}
        op.get_bind().execute(
            sa.insert(changes).values(**row, op="remember", after=json.dumps(dict(fact)))
        )
