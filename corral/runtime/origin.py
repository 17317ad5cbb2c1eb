"""Runs that came from another machine: how they are marked, and what cannot be done with them."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from corral.errors import ConflictError
from corral.jsontypes import JsonObject
from corral.runtime.statements import Query
from corral.runtime.tables import runs

_FILE = "file"
_SCRUBBED = "scrubbed"
_SUM = 16  # digits of the file's sum that are kept


def imported_from(file_sum: str, *, scrubbed: bool) -> str:
    """``runs.origin`` of a run that came in a file with this sum."""
    words = [_FILE, file_sum[:_SUM], *([_SCRUBBED] if scrubbed else [])]
    return " ".join(words)


def require_made_here(run: str, origin: str | None) -> None:
    """Refuse to go on with a run that began elsewhere. Raises ``ConflictError``."""
    if origin is not None:
        raise ConflictError(
            f"The run {run} was imported: what it had begun went on, or not, where it was made.",
            hint=f"Go on from any point of it with a fork: `corral fork {run} --at N …`.",
        )


def require_content(run: str, origin: str | None) -> None:
    """Refuse to replay a run whose content was taken out. Raises ``ConflictError``."""
    if origin is not None and _SCRUBBED in origin.split():
        raise ConflictError(
            f"The run {run} was exported with --scrub: its content is not here, only its shape.",
            hint=f"Look at it with `corral trace {run}`, or ask for an export without --scrub.",
        )


def require_own_thread(connection: Connection, thread: str) -> None:
    """Refuse a new run in the thread of an imported one, which does not hold what that one said.

    Raises ``ConflictError``.
    """
    row = _IMPORTED.first(connection, {"thread": thread})
    if row is not None:
        raise ConflictError(
            f"The thread {thread} was imported with the run {row.id}, and cannot go on here.",
            hint=f"Go on from any point of the run with a fork: `corral fork {row.id} --at N …`.",
        )


_IMPORTED = Query(
    select(runs.c.id)
    .where(
        runs.c.thread_id == bindparam("thread"),
        runs.c.origin.is_not(None),
        runs.c.rewound.is_(None),
    )
    .order_by(runs.c.started_at.desc())
    .limit(1)
)


def changed_by_moving(origin: str | None) -> JsonObject:
    """What a fork of a run changes by itself, see ``entries.Parting``.

    The tools of another machine are not those here, and what it says of them, such as that a
    call may be made without asking, is not to be trusted: they are looked up again.
    """
    return {} if origin is None else {"machine": True}
