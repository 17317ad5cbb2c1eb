"""The rows of the journal: how an entry is stored, and which entries a run has.

A fork shares its parent's past: nothing is copied. What it has of its parent is whatever does not
come after the effect at which it parted (``paths.comes_after``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from sqlalchemy import Column, Connection, Row, bindparam, insert, select, update

from corral.errors import (
    BudgetReached,
    CorralError,
    LimitReached,
    ModelError,
    OutOfTime,
    RunError,
    SandboxError,
    StoppedByUser,
    StorageError,
    ToolServerError,
)
from corral.jsontypes import Json, JsonObject, canonical
from corral.runtime import blobs
from corral.runtime.clock import now
from corral.runtime.effects import Outcome, Spend
from corral.runtime.paths import BESIDE, asked_about, comes_after
from corral.runtime.statements import Query, Statement
from corral.runtime.tables import effects, runs

ENDED = ("finished", "failed", "cancelled")
"""The statuses of an entry whose effect will not change any more in this execution."""

_ERRORS: dict[str, type[CorralError]] = {
    kind.__name__: kind
    for kind in (
        *(RunError, ModelError, ToolServerError, SandboxError, StorageError),
        *(LimitReached, OutOfTime, BudgetReached, StoppedByUser),
    )
}

_SPEND = tuple(field.name for field in fields(Spend))
"""The columns of what an effect used."""

_TOLD = ("scope", "answer")
"""What is stored of a ``LimitReached`` besides the words of every error."""


@dataclass(frozen=True)
class Entry:
    """One row of the journal, as the run holds it.

    ``run`` is the one that made it: in a fork's journal the parent, for what is shared.
    """

    run: str
    seq: int
    path: str
    kind: str
    name: str
    status: str
    digest: str
    request: JsonObject
    result: JsonObject | None = None
    attempts: int = 1
    started_at: str = ""
    duration_ms: float | None = None
    ended: int | None = None
    asked: int | None = None
    seen: int | None = None
    spend: Spend = field(default_factory=Spend)

    def outcome(self) -> Outcome:
        """What the finished effect gave; for a failed one its error is raised again."""
        result = self.result or {}
        if self.status == "failed":
            kind = _ERRORS.get(str(result.get("type")), RunError)
            told = {key: str(result[key]) for key in ("hint", *_TOLD) if key in result}
            raise kind(str(result.get("error", "")), **told)
        return Outcome(result, self.spend)


def in_doubt(entry: Entry) -> bool:
    """Whether nobody knows if the entry's effect happened: it began and has no end."""
    return entry.status in ("started", "cancelled") and not entry.result


def failure(error: CorralError) -> JsonObject:
    """An error as the result of the entry that it ended; ``Entry.outcome`` raises it again."""
    told: JsonObject = {key: getattr(error, key) for key in _TOLD if hasattr(error, key)}
    return {"type": type(error).__name__, "error": error.message, "hint": error.hint, **told}


@dataclass(frozen=True)
class Parting:
    """Where a fork left its parent, and what was changed there."""

    parent: str
    at: int
    changes: JsonObject


def parting(connection: Connection, run: str) -> Parting | None:
    """How a run came from another; ``None`` for one that is no fork."""
    row = _PARTING.one(connection, {"run": run})
    if row.parent_run is None:
        return None
    return Parting(row.parent_run, row.fork_at, json.loads(row.changes or "{}"))


def changed_since(connection: Connection, run: str) -> frozenset[str]:
    """What forks have changed on the way from the first run to this one, by name."""
    left = parting(connection, run)
    if left is None:
        return frozenset()
    return changed_since(connection, left.parent) | left.changes.keys()


def load_entries(connection: Connection, run: str) -> list[Entry]:
    """All entries of a run, by ``seq``, with what it shares.

    Raises ``StorageError`` for a damaged row, a missing content or a missing parent.
    """
    return entries_of(connection, journal_rows(connection, run))


def entries_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[Entry]:
    """The entries that rows of the journal hold. Raises as ``load_entries``."""
    contents = contents_of(connection, rows)
    return [_entry(row, contents) for row in rows]


def journal_rows(connection: Connection, run: str, *columns: Column[Any]) -> list[Row[Any]]:
    """The rows of ``load_entries``, as they are stored.

    ``columns`` of the table choose less of them: with ``run_id`` and what a ``JournalRow`` has.
    """
    own: list[Row[Any]]
    if columns:
        query = select(*columns).where(effects.c.run_id == run).order_by(effects.c.seq)
        own = list(connection.execute(query))
    else:
        own = _ENTRIES.all(connection, {"run": run})
    left = parting(connection, run)
    if left is None:
        return own
    mine = {row.path for row in own}
    parent: list[Any] = journal_rows(connection, left.parent, *columns)
    past: list[Row[Any]] = shared(parent, left)
    return sorted([row for row in past if row.path not in mine] + own, key=lambda row: row.seq)


class JournalRow(Protocol):
    """What ``shared`` looks at: a row of the table, or an ``Entry``."""

    @property
    def seq(self) -> int: ...  # noqa: D102  as Entry
    @property
    def path(self) -> str: ...  # noqa: D102  as Entry
    @property
    def kind(self) -> str: ...  # noqa: D102  as Entry
    @property
    def status(self) -> str: ...  # noqa: D102  as Entry
    @property
    def asked(self) -> int | None: ...  # noqa: D102  as Entry
    @property
    def seen(self) -> int | None: ...  # noqa: D102  as Entry


JournalRowT = TypeVar("JournalRowT", bound=JournalRow)


def shared(rows: Sequence[JournalRowT], left: Parting) -> list[JournalRowT]:
    """What a fork has of its parent's journal.

    Left out is what comes after the effect at which it parted, what is inside of that or around
    it, what never ended, a failure or a cut-off call that nothing came of, and a question or a
    connection without its call. When another model or agent takes over, or the parent ran on
    another machine, what a run found when it began is looked up again.
    """
    at = next((row for row in rows if row.seq == left.at), None)
    if at is None:
        raise StorageError(
            f"The run {left.parent}, which this one shares up to effect {left.at}, is incomplete.",
            hint="Restore the database from a backup; every other run stays readable.",
        )
    anew = ("prepare",) if {"model", "agent", "machine"} & left.changes.keys() else ()
    kept = [
        row
        for row in rows
        if row.status in ENDED
        and not f"{row.path}/".startswith(f"{at.path}/")
        and not at.path.startswith(f"{row.path}/")
        and row.kind not in anew
        and not follows(row, at)
    ]
    settled = [*kept, at]
    calls = {row.path for row in kept if row.kind not in BESIDE}
    return [
        row
        for row in kept
        if (row.status == "finished" or has_consequences(row, settled))
        and (row.kind not in BESIDE or asked_about(row.path) in calls)
    ]


def has_consequences(row: JournalRow, rows: Iterable[JournalRow]) -> bool:
    """Whether the graph went on after the effect: whatever it gave, the graph has taken it so."""
    return any(follows(other, row) for other in rows)


def follows(later: JournalRow, earlier: JournalRow) -> bool:
    """Whether the graph may have asked for the one because of what the other gave.

    What was under way beside it was asked for before it ended; questions are no one's asking.
    """
    if later.kind == "approval" or (later.asked or later.seq) <= (earlier.seen or 0):
        return False
    return comes_after(later.path, earlier.path)


def contents_of(connection: Connection, rows: Iterable[Row[Any]]) -> dict[str, bytes]:
    """The blobs that rows of the journal refer to, by digest."""
    wanted = {row.request_blob for row in rows} | {row.result_blob for row in rows}
    return blobs.get_all(connection, wanted - {None})


def _entry(row: Row[Any], contents: dict[str, bytes]) -> Entry:
    request = _loads(_text(row.request, row.request_blob, contents), row)
    result = _text(row.result, row.result_blob, contents)
    return Entry(
        run=row.run_id,
        seq=row.seq,
        path=row.path,
        kind=row.kind,
        name=row.name,
        status=row.status,
        digest=row.digest,
        request=request,
        result=None if result is None else _loads(result, row),
        attempts=row.attempts,
        started_at=row.started_at,
        duration_ms=row.duration_ms,
        ended=row.ended,
        asked=row.asked,
        seen=row.seen,
        spend=Spend(**{name: getattr(row, name) for name in _SPEND}),
    )


def _text(text: str | None, blob: str | None, contents: dict[str, bytes]) -> str | None:
    return text if blob is None else contents[blob].decode()


def _loads(text: str | None, row: Row[Any]) -> JsonObject:
    try:
        value: Json = json.loads(text or "")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StorageError(
            f"Entry {row.seq} of run {row.run_id} is damaged.",
            hint="The entries before it are readable with `corral trace`; start a new run.",
        )
    return value


@dataclass(frozen=True)
class Text:
    """A JSON text as it is stored: in its row, or as a blob when it is long."""

    inline: str
    blob: blobs.Packed | None = None

    @classmethod
    def of(cls, value: Json) -> Text:
        """The text of a value, compressed if it is long."""
        text = canonical(value)
        if len(text) <= blobs.INLINE:
            return cls(text)
        return cls("", blobs.pack(text.encode()))

    def store(self, connection: Connection) -> str | None:
        """Store the content beside the row; its digest goes into the row."""
        return None if self.blob is None else blobs.put(connection, self.blob)


def insert_entry(
    connection: Connection, entry: Entry, request: Text, result: Text | None = None
) -> None:
    """Store a new entry; one that has ended already with its result."""
    if result is None and entry.result is not None:
        result = Text.of(entry.result)
    _INSERT.run(
        connection,
        {
            "run_id": entry.run,
            "seq": entry.seq,
            "path": entry.path,
            "kind": entry.kind,
            "name": entry.name,
            "status": entry.status,
            "digest": entry.digest,
            "request": request.inline,
            "request_blob": request.store(connection),
            "result": result.inline if result else None,
            "result_blob": result.store(connection) if result else None,
            "attempts": entry.attempts,
            "started_at": entry.started_at or now(),
            "duration_ms": entry.duration_ms,
            "ended": entry.ended,
            "asked": entry.asked,
            "seen": entry.seen,
            **vars(entry.spend),
        },
    )


def restart_entry(connection: Connection, entry: Entry, request: Text) -> None:
    """Store that an entry's effect is about to be made once more."""
    _RESTART.run(
        connection,
        {
            "b_run": entry.run,
            "b_seq": entry.seq,
            "b_request": request.inline,
            "b_request_blob": request.store(connection),
            "b_attempts": entry.attempts,
            "b_started_at": entry.started_at,
            "b_asked": entry.asked,
        },
    )


def end_entry(connection: Connection, entry: Entry, result: Text) -> None:
    """Store how an entry's effect ended.

    Raises ``StorageError`` when its start is missing, or when somebody has made it again since.
    """
    row = {
        "b_run": entry.run,
        "b_seq": entry.seq,
        "b_path": entry.path,
        "b_attempts": entry.attempts,
        "b_status": entry.status,
        "b_result": result.inline,
        "b_result_blob": result.store(connection),
        "b_duration_ms": entry.duration_ms,
        "b_ended": entry.ended,
        "b_seen": entry.seen,
        **{f"b_{name}": value for name, value in vars(entry.spend).items()},
    }
    if _END.run(connection, row).rowcount != 1:
        raise StorageError(
            f"The start of effect {entry.seq} of run {entry.run} could not be stored.",
            hint="Check the disk and its free space, and resume the run.",
        )


def _changing(*names: str) -> Any:
    mine = (effects.c.run_id == bindparam("b_run"), effects.c.seq == bindparam("b_seq"))
    return update(effects).where(*mine).values({name: bindparam(f"b_{name}") for name in names})


_PARTING = Query(
    select(runs.c.parent_run, runs.c.fork_at, runs.c.changes).where(runs.c.id == bindparam("run"))
)
_ENTRIES = Query(
    select(effects).where(effects.c.run_id == bindparam("run")).order_by(effects.c.seq)
)
_INSERT = Statement(insert(effects))
_RESTART = Statement(
    _changing("request", "request_blob", "attempts", "started_at", "asked").values(
        status="started", result=None, result_blob=None, ended=None, seen=None
    )
)
_END = Statement(
    _changing(
        "status",
        "result",
        "result_blob",
        "duration_ms",
        "ended",
        "seen",
        *_SPEND,
    ).where(effects.c.path == bindparam("b_path"), effects.c.attempts == bindparam("b_attempts"))
)


def inherited(entry: Entry, run: str) -> bool:
    """Whether an entry of a run's journal was made by a run that it is a fork of."""
    return entry.run != run
