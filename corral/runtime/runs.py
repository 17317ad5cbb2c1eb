"""Runs and threads as rows: created before anything happens, ended when it is over."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from corral.errors import ConflictError, NotFoundError
from corral.jsontypes import JsonObject, canonical
from corral.runtime import lease as leases
from corral.runtime.approvals.answers import close_questions_in, find_run
from corral.runtime.clock import now
from corral.runtime.entries import Entry, Parting, Text, insert_entry, parting
from corral.runtime.origin import require_made_here, require_own_thread
from corral.runtime.statements import Query, Statement
from corral.runtime.tables import checkpoints, rewinds, runs, threads
from corral.runtime.views import RunStatus

_TITLE = 80

STOPPED_BY_USER = "stopped by the user"

STEP_OF_A_NEW_THREAD = -2
"""The superstep at which LangGraph sees a thread that has no checkpoint."""


@dataclass(frozen=True)
class Position:
    """Where a thread stands: its newest checkpoint (``None``: it is new) and superstep."""

    checkpoint: str | None
    step: int


@dataclass(frozen=True)
class NewRun:
    """A run about to be created; a ``thread`` that is not there yet is made with it.

    ``code`` says what made it. A fork has ``left`` another run, and may have the entry there
    ``replaced`` by one with a result of its own. ``attached`` is the entry of its files. ``id`` is
    one that was promised to somebody (``new_run_id``); ``None``: any.
    """

    thread: str
    agent: str
    model: str
    spec: JsonObject
    graph_version: str
    prompt: str
    workspace: str
    code: JsonObject = field(default_factory=dict)
    left: Parting | None = None
    replaced: Entry | None = None
    attached: Entry | None = None
    tags: tuple[str, ...] = ()
    id: str | None = None


@dataclass(frozen=True)
class RunRow:
    """A run as stored."""

    id: str
    thread: str
    agent: str
    model: str
    spec: JsonObject
    graph_version: str
    prompt: str
    status: RunStatus
    output: str
    base: Position
    workspace: str
    code: JsonObject | None = None
    left: Parting | None = None
    origin: str | None = None
    rewound: str | None = None
    tags: tuple[str, ...] = ()


def new_thread_id() -> str:
    """An id that no thread has."""
    return f"t-{secrets.token_hex(4)}"


def new_run_id() -> str:
    """An id that no run has, to be promised before the run begins; nobody can guess it."""
    return f"r-{secrets.token_hex(12)}"


def create(connection: Connection, new: NewRun, lease: str) -> RunRow:
    """Store a run (and its thread, if new) with its input, and take the thread's lease.

    Raises ``ConflictError`` when the thread is being run or rewound, waits for an answer, or was
    imported.
    """
    if not _THREAD.first(connection, {"thread": new.thread}):
        thread = {
            "id": new.thread,
            "title": new.prompt[:_TITLE],
            "workspace": new.workspace,
            "created_at": now(),
            "updated_at": now(),
        }
        _NEW_THREAD.run(connection, thread)
    leases.take(connection, new.thread, lease)
    refuse_if_rewinding(connection, new.thread)
    require_own_thread(connection, new.thread)
    _refuse_if_unfinished(connection, new.thread)
    close_questions_in(connection, new.thread, "the thread went on without this call")
    base = _position(connection, new.thread)
    run = _free_id(connection, new)
    row: dict[str, Any] = {
        "id": run,
        "thread_id": new.thread,
        "agent": new.agent,
        "model": new.model,
        "spec": canonical(new.spec),
        "graph_version": new.graph_version,
        "input": new.prompt,
        "status": "running",
        "output": "",
        "started_at": now(),
        "base_checkpoint": base.checkpoint,
        "base_step": base.step,
        "code": canonical(new.code),
        "tags": canonical(list(new.tags)) if new.tags else None,
        **_parting(new.left),
    }
    _NEW_RUN.run(connection, row)
    for entry in filter(None, (new.replaced, new.attached)):
        insert_entry(connection, replace(entry, run=run), Text.of(entry.request))
    _CHANGE_THREAD.run(connection, {"thread": new.thread, "updated_at": now()})
    return load(connection, run)


def _free_id(connection: Connection, new: NewRun) -> str:
    if new.id is None:
        return f"r-{secrets.token_hex(5)}"
    if _STATUS.first(connection, {"run": new.id}):
        raise ConflictError(
            f"The run {new.id} has begun already.", hint="`corral runs` shows how it stands."
        )
    return new.id


def _parting(left: Parting | None) -> dict[str, Any]:
    return {
        "parent_run": left and left.parent,
        "fork_at": left and left.at,
        "changes": left and canonical(left.changes),
    }


def _position(connection: Connection, thread: str) -> Position:
    """Where a thread stands, read under its lease: nobody can move it on in between."""
    newest = _NEWEST.first(connection, {"thread": thread})
    if newest is None:
        return Position(None, STEP_OF_A_NEW_THREAD)
    return Position(newest.id, json.loads(newest.metadata)["step"])


def refuse_if_rewinding(connection: Connection, thread: str) -> None:
    """Raise ``ConflictError`` when a rewind of the thread was cut off before its end."""
    if _HALF_REWOUND.first(connection, {"thread": thread}):
        raise ConflictError(
            f"A rewind of the thread {thread} was cut off: not all of its files are back.",
            hint=f"Finish it with `corral rewind {thread}`, or take it back with "
            f"`corral rewind {thread} --undo`.",
        )


def _refuse_if_unfinished(connection: Connection, thread: str) -> None:
    row = _UNFINISHED.first(connection, {"thread": thread})
    if row is None:
        return
    why = "waits for an approval" if row.status == "paused" else "was cut off"
    raise ConflictError(
        f"The run {row.id} of the thread {thread} {why}.",
        hint=f"Go on with `corral resume {row.id}`, or give it up with `corral cancel {row.id}`.",
    )


def reopen(connection: Connection, run: str, graph_version: str, lease: str) -> RunRow:
    """Mark a run as running again and take its thread's lease.

    Raises ``ConflictError`` for a run that is completed, imported or rewound, that somebody runs,
    that another version of the graph has made, or whose thread has gone on since.
    """
    row = load(connection, run)
    require_made_here(row.id, row.origin)
    if row.status == "completed":
        raise ConflictError(
            f"The run {row.id} is completed; there is nothing to resume.",
            hint=f"Say what you want next: `corral run --thread {row.thread} …`.",
        )
    if row.graph_version != graph_version:
        raise ConflictError(
            f"The run {row.id} was made by the graph {row.graph_version}, "
            f"which is {graph_version} now.",
            hint="It can be looked at with `corral trace`; start a new run to go on.",
        )
    refuse_if_rewinding(connection, row.thread)
    if row.rewound is not None:
        raise ConflictError(
            f"The run {row.id} was taken back by a rewind of its thread.",
            hint=f"`corral rewind {row.thread} --undo` brings it back.",
        )
    newest = connection.execute(
        select(runs.c.id)
        .where(runs.c.thread_id == row.thread, runs.c.rewound.is_(None))
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(1)
    ).scalar()
    if newest != row.id:
        raise ConflictError(
            f"The thread {row.thread} has gone on with the run {newest} since.",
            hint=f"Say what you want there: `corral run --thread {row.thread} …`.",
        )
    leases.take(connection, row.thread, lease)
    connection.execute(update(runs).where(runs.c.id == row.id).values(status="running", error=None))
    return row


@dataclass(frozen=True)
class Ending:
    """How a run stands when its process lets go of it."""

    status: RunStatus
    output: str
    error: str | None


def end(connection: Connection, run: RunRow, ending: Ending, lease: str) -> None:
    """Store how the run stands and give the lease back.

    Raises ``ConflictError`` when another process goes on with the run.
    """
    leases.require(connection, leases.Hold(run.thread, lease))
    finished_at = None if ending.status == "paused" else now()
    _END.run(connection, {"run": run.id, **vars(ending), "finished_at": finished_at})
    leases.release(connection, run.thread, lease)


def abandon(connection: Connection, lease: str) -> None:
    """Stop the run that holds this lease, if there is one: its caller left as it began."""
    thread = leases.thread_under(connection, lease)
    if thread is None:
        return
    connection.execute(
        update(runs)
        .where(runs.c.thread_id == thread, runs.c.status == "running")
        .values(status="stopped", error=STOPPED_BY_USER, finished_at=now())
    )
    leases.release(connection, thread, lease)


def load(connection: Connection, run: str) -> RunRow:
    """A run by its id or a unique beginning of it. Raises ``NotFoundError``."""
    found = find_run(connection, run)
    row = _RUN.one(connection, {"run": found})
    return RunRow(
        id=row.id,
        thread=row.thread_id,
        agent=row.agent,
        model=row.model,
        spec=json.loads(row.spec),
        graph_version=row.graph_version,
        prompt=row.input,
        status=row.status,
        output=row.output,
        base=Position(row.base_checkpoint, row.base_step),
        workspace=row.workspace,
        code=json.loads(row.code) if row.code else None,
        left=parting(connection, row.id),
        origin=row.origin,
        rewound=row.rewound,
        tags=tuple(json.loads(row.tags)) if row.tags else (),
    )


def workspace_of(connection: Connection, thread: str) -> str:
    """The folder that a thread works in. Raises ``NotFoundError`` when there is no such thread."""
    found = connection.execute(select(threads.c.workspace).where(threads.c.id == thread)).scalar()
    if found is None:
        raise NotFoundError(f"There is no thread {thread!r}.", hint="See `corral threads`.")
    return str(found)


_THREAD = Query(select(threads.c.id).where(threads.c.id == bindparam("thread")))
_NEW_THREAD = Statement(insert(threads), ("id", "title", "workspace", "created_at", "updated_at"))
_CHANGE_THREAD = Statement(
    update(threads).where(threads.c.id == bindparam("thread")), ("updated_at",)
)
_RUN = Query(
    select(runs, threads.c.workspace)
    .join(threads, threads.c.id == runs.c.thread_id)
    .where(runs.c.id == bindparam("run"))
)
_STATUS = Query(select(runs.c.status).where(runs.c.id == bindparam("run")))
_NEW_RUN = Statement(
    insert(runs),
    (
        *("id", "thread_id", "agent", "model", "spec", "graph_version", "input", "status"),
        *("output", "started_at", "base_checkpoint", "base_step", "code", "tags"),
        *("parent_run", "fork_at", "changes"),
    ),
)
_END = Statement(
    update(runs).where(runs.c.id == bindparam("run")),
    ("status", "output", "error", "finished_at"),
)
_UNFINISHED = Query(
    select(runs.c.id, runs.c.status).where(
        runs.c.thread_id == bindparam("thread"),
        or_(runs.c.status == "running", runs.c.status == "paused"),
        runs.c.rewound.is_(None),
    )
)
_HALF_REWOUND = Query(
    select(rewinds.c.id).where(
        rewinds.c.thread_id == bindparam("thread"),
        or_(rewinds.c.status == "applying", rewinds.c.status == "undoing"),
    )
)
_NEWEST = Query(
    select(checkpoints.c.id, checkpoints.c.metadata)
    .where(
        checkpoints.c.thread_id == bindparam("thread"),
        checkpoints.c.ns == "",
        checkpoints.c.rewound.is_(None),
    )
    .order_by(checkpoints.c.id.desc())
    .limit(1)
)
