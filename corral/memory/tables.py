"""The tables of the long-term memory."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table, Text, UniqueConstraint

from corral.storage import metadata

memories = Table(
    "memories",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("thread", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    # Where it came from and whom it can be shown to (policies/labels.py), as JSON.
    Column("label", Text),
    UniqueConstraint("agent", "fingerprint", name="uq_memories_agent_fingerprint"),
)
"""One row a fact. ``fingerprint`` is equal for texts that differ only in case and spaces."""

memory_changes = Table(
    "memory_changes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("memory_id", Text, nullable=False),
    Column("thread_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("op", String, nullable=False),
    # The row of memories before and after, as JSON; null where there is none.
    Column("before", Text),
    Column("after", Text),
    # The rewind that has taken the change back; null for one that stands.
    Column("rewound", String),
    Index("memory_changes_by_memory", "memory_id"),
    Index("memory_changes_by_run", "run_id"),
)
"""One row a change that a run has made."""
