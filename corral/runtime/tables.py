"""The tables of the runtime. Alembic's migrations build them; a test holds the two together.

Identifiers are text, times are ISO 8601 text in UTC, JSON is text: the same on SQLite and on
PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from corral.storage import metadata

threads = Table(
    "threads",
    metadata,
    Column("id", String, primary_key=True),
    Column("title", Text, nullable=False),
    Column("workspace", Text, nullable=False),
    Column("created_at", String, nullable=False),
    Column("updated_at", String, nullable=False),
    # Who is running this thread now, see lease.py; null when nobody is.
    Column("lease", Text),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("thread_id", String, ForeignKey("threads.id"), nullable=False),
    Column("agent", String, nullable=False),
    Column("model", Text, nullable=False),
    # The agent as it was when the run started: a resume and a replay rebuild the graph from it.
    Column("spec", Text, nullable=False),
    Column("graph_version", String, nullable=False),
    Column("input", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("output", Text, nullable=False),
    Column("error", Text),
    Column("started_at", String, nullable=False),
    Column("finished_at", String),
    # Where the thread stood before the run: its checkpoint (null for a new thread) and step.
    Column("base_checkpoint", String),
    Column("base_step", Integer, nullable=False),
    # A fork: the run whose journal it shares, the effect at which it parted, what was changed.
    Column("parent_run", String),
    Column("fork_at", Integer),
    Column("changes", Text),
    # What the run was made by: versions and digests of the code, see fingerprint.py.
    Column("code", Text),
    # What the user calls it by in their accounts: a JSON list of words.
    Column("tags", Text),
    # Kept by gc whatever its age; 0 or 1.
    Column("pinned", Integer, nullable=False, server_default="0"),
    # For a run that came from another machine: where from.
    Column("origin", Text),
    # The rewind that took it back; null for a run that stands.
    Column("rewound", String),
    Index("runs_by_thread", "thread_id", "started_at"),
    Index("runs_by_parent", "parent_run"),
    Index("runs_by_status", "status", "finished_at", "origin"),
)

effects = Table(
    "effects",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("kind", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("request", Text, nullable=False),
    Column("result", Text),
    Column("attempts", Integer, nullable=False),
    Column("started_at", String, nullable=False),
    Column("duration_ms", Float),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cost_usd", Float, nullable=False),
    # Parts of the input and of the output, and how fast a model answered, see effects.Spend.
    Column("cached_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("reasoning_tokens", Integer, nullable=False, server_default="0"),
    Column("first_token_ms", Float),
    Column("generation_ms", Float),
    Column("answered_by", Text, nullable=False, server_default=""),
    # How many effects of the run had ended when this one did: the order of their ends.
    Column("ended", Integer),
    # The order in which effects were asked for, and how far that had come when this one ended:
    # what was asked for later may have come of it.
    Column("asked", Integer),
    Column("seen", Integer),
    # Where a long request or result is kept (blobs); the text column is then empty.
    Column("request_blob", String),
    Column("result_blob", String),
    UniqueConstraint("run_id", "path"),
)
# By these gc finds who needs a content; entries without one cost nothing.
for _column in (effects.c.request_blob, effects.c.result_blob):
    Index(
        f"effects_by_{_column.name}",
        _column,
        sqlite_where=_column.is_not(None),
        postgresql_where=_column.is_not(None),
    )

blobs = Table(
    "blobs",
    metadata,
    # The SHA-256 of the content, in hexadecimal.
    Column("digest", String, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""Contents that are stored once, compressed (zstandard), whoever refers to them."""

kept_answers = Table(
    "kept_answers",
    metadata,
    # The digest of the request that it answers.
    Column("key", String, primary_key=True),
    # The entry of the journal that holds it.
    Column("run_id", String, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", String, nullable=False),
    # The digest of all of the request but its last text, and what that text means.
    Column("scope", String, nullable=False),
    Column("embedding", LargeBinary),
    Column("made_at", String, nullable=False),
    Column("used_at", String, nullable=False),
    Column("expires_at", String, nullable=False),
    Column("hits", Integer, nullable=False),
    Index("kept_answers_by_run", "run_id"),
    Index("kept_answers_by_scope", "scope", "made_at"),
    Index("kept_answers_by_use", "used_at"),
)
"""Answers of models that are given again to who asks the same."""

approvals = Table(
    "approvals",
    metadata,
    Column("id", String, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False),
    Column("thread_id", String, nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", String, nullable=False),
    Column("tool", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("input_schema", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("always", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("answer_args", Text),
    Column("answer_reason", Text),
    # A result given by hand, in the tool's place.
    Column("answer_result", Text),
    Column("created_at", String, nullable=False),
    Column("answered_at", String),
    # What helps to decide, as it was when it was asked; see views.Approval.
    Column("context", Text),
    Column("answered_by", String),
    # When it counts as denied; of whom it is asked now, and since when.
    Column("expires_at", String),
    Column("asked_of", String),
    Column("escalated_at", String),
    UniqueConstraint("run_id", "path"),
    Index("approvals_by_status", "status", "created_at"),
    Index("approvals_by_expiry", "status", "expires_at"),
)

standing_rules = Table(
    "standing_rules",
    metadata,
    Column("id", String, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("created_at", String, nullable=False),
    # run, thread, project or user, and which of them; empty for the user and, in rows of old, for
    # the workspace.
    Column("scope", String, nullable=False, server_default="project"),
    Column("scope_id", Text, nullable=False, server_default=""),
    Column("until", String),
    # The approval whose answer it was.
    Column("approval", String),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", String, primary_key=True),
    Column("run_id", String, nullable=False),
    Column("thread_id", String, nullable=False),
    # The place of the call in its run, and whether it is being made (open; beside: while nobody
    # executes the run) or was cut off, so that what was asked is paid for and nothing came of it
    # (lost).
    Column("path", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("day", String, nullable=False),
    Column("agent", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cost_usd", Float, nullable=False),
    Column("calls", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("created_at", String, nullable=False),
    Index("reservations_by_run", "run_id"),
)
"""What calls that are being made may use, where a budget is shared with other runs."""

spent_before = Table(
    "spent_before",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("day", String, nullable=False),
    Column("thread_id", String, nullable=False),
    Column("agent", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_usd", Float, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False, server_default="0"),
    Column("reasoning_tokens", BigInteger, nullable=False, server_default="0"),
    Column("model_calls", Integer, nullable=False),
    Column("tool_calls", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("active_seconds", Float, nullable=False),
    Column("wall_seconds", Float, nullable=False),
    Index("spent_before_by_day", "day"),
)
"""What runs that were removed have spent: a cap is not reset by cleaning up."""

vault = Table(
    "vault",
    metadata,
    Column("thread_id", String, primary_key=True),
    Column("placeholder", String, primary_key=True),
    # Encrypted, see vault.py.
    Column("data", LargeBinary, nullable=False),
)
"""What the placeholders of a thread stand for."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("thread_id", String, primary_key=True),
    Column("ns", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("parent_id", String),
    Column("type", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("metadata", Text, nullable=False),
    # The rewind after which the thread does not stand here any more. What names a checkpoint by
    # its id finds it all the same: a replay, a fork, a later checkpoint that builds on it.
    Column("rewound", String),
)

checkpoint_writes = Table(
    "checkpoint_writes",
    metadata,
    Column("thread_id", String, primary_key=True),
    Column("ns", String, primary_key=True),
    Column("checkpoint_id", String, primary_key=True),
    Column("task_id", String, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("task_path", Text, nullable=False),
    Column("channel", String, nullable=False),
    Column("type", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", String, primary_key=True),
    Column("thread_id", String, ForeignKey("threads.id"), nullable=False),
    # The run before whose first change it was taken; null: taken by a rewind, to be undone by.
    Column("run_id", String),
    Column("workspace", Text, nullable=False),
    # The blob with the workspace's own folder (snapshots/trees.py); null when there is none,
    # and then the problem says why.
    Column("root", String),
    Column("problem", Text),
    Column("files", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    # 1 for the snapshot of a workspace that its rows of snapshot_folders mirror.
    Column("mirrored", Integer, nullable=False),
    Column("created_at", String, nullable=False),
    Index("snapshots_by_thread", "thread_id", "created_at"),
    Index("snapshots_by_workspace", "workspace"),
)
"""What a workspace held. The contents and the folders are blobs."""

snapshot_folders = Table(
    "snapshot_folders",
    metadata,
    Column("workspace", Text, primary_key=True),
    Column("folder", Text, primary_key=True),
    Column("tree", String, nullable=False),
    Column("files", Text, nullable=False),
)
"""How files looked when they were last read, so that an unchanged one is not read again."""

rewinds = Table(
    "rewinds",
    metadata,
    Column("id", String, primary_key=True),
    Column("thread_id", String, ForeignKey("threads.id"), nullable=False),
    # The run after which the thread stands again; null: at its beginning.
    Column("to_run", String),
    # applying (the files are being put back), done, undoing, undone.
    Column("status", String, nullable=False),
    # The snapshots of before the rewind and of what it puts back; null: the files stay.
    Column("before", String),
    Column("target", String),
    Column("created_at", String, nullable=False),
    Column("finished_at", String),
    Index("rewinds_by_thread", "thread_id", "created_at"),
)

served_runs = Table(
    "served_runs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    # The id that the run has, or will have when it begins.
    Column("run_id", String, nullable=False, unique=True),
    Column("thread_id", String, ForeignKey("threads.id"), nullable=False),
    # Whose it is, and what that client calls the order, so that it is not done twice.
    Column("owner", Text, nullable=False),
    Column("key", Text),
    # Under whose keys it goes on by itself, see hosting/place.py.
    Column("account", String, nullable=False),
    # What is to be done, as JSON, redacted.
    Column("work", Text, nullable=False),
    # queued, begun, interrupted (its host has ended and goes on with it when it is back), cancelled
    # or refused (it could not begin: the error).
    Column("state", String, nullable=False),
    Column("error", Text),
    # How often it was begun or gone on with since its journal last grew, and how long that was.
    Column("attempts", Integer, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("created_at", String, nullable=False),
    UniqueConstraint("owner", "key"),
    Index("served_runs_by_owner", "owner", "number"),
    Index("served_runs_by_thread", "thread_id"),
    Index("served_runs_by_state", "state"),
)
"""Runs of clients that come and go. Whoever has the handle and is the owner finds them again."""
