"""The journal of one run: write-ahead rows, found again by where in the graph they were asked.

An entry is inserted as ``started`` before its effect happens and becomes ``finished`` or
``failed`` after. The journal decides what has happened; the checkpoint only saves work.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Executable, bindparam, insert, select, update

from corral.errors import (
    CorralError,
    LimitReached,
    ModelError,
    RunError,
    SandboxError,
    StorageError,
    ToolServerError,
)
from corral.jsontypes import Json, JsonObject, canonical, digest
from corral.policies.limits import Spent
from corral.policies.loops import CallRecord
from corral.runtime.clock import now
from corral.runtime.database import Database
from corral.runtime.effects import Effect, Outcome, Spend
from corral.runtime.messages import Transcripts, encode
from corral.runtime.tables import effects

_ERRORS: dict[str, type[CorralError]] = {
    kind.__name__: kind
    for kind in (RunError, ModelError, ToolServerError, SandboxError, StorageError, LimitReached)
}


@dataclass(frozen=True)
class Entry:
    """One row of the journal, as the run holds it."""

    seq: int
    path: str
    kind: str
    name: str
    status: str
    digest: str
    request: JsonObject
    result: JsonObject | None = None
    attempts: int = 1
    duration_ms: float | None = None
    spend: Spend = field(default_factory=Spend)

    def outcome(self) -> Outcome:
        """What the finished effect gave; for a failed one its error is raised again."""
        result = self.result or {}
        if self.status == "failed":
            kind = _ERRORS.get(str(result.get("type")), RunError)
            raise kind(str(result.get("error", "")), hint=str(result.get("hint", "")))
        return Outcome(result, self.spend)


class Journal:
    """The entries of one run, in memory and on disk. One process writes it at a time."""

    def __init__(self, database: Database, run: str, entries: list[Entry]) -> None:
        self.run = run
        self._database = database
        self._by_path = {entry.path: entry for entry in entries}
        self._next = max((entry.seq for entry in entries), default=0) + 1
        self._transcripts = Transcripts()
        self.spent = Spent()
        self.calls: list[CallRecord] = []
        for entry in sorted(entries, key=lambda entry: entry.seq):
            if entry.kind == "model":
                self._transcripts.load(_node(entry.path), entry.seq, entry.request)
            self._count(entry)

    @classmethod
    async def load(cls, database: Database, run: str) -> Journal:
        """The journal as the database holds it."""
        return cls(database, run, await load_entries(database, run))

    def find(self, path: str) -> Entry | None:
        """The entry at this place in the graph."""
        return self._by_path.get(path)

    def entries(self) -> list[Entry]:
        """All entries in the order in which they were first asked for."""
        return sorted(self._by_path.values(), key=lambda entry: entry.seq)

    def identify(self, effect: Effect) -> str:
        """The digest by which an asked effect is compared with a recorded one."""
        if not effect.transcript:
            return digest(effect.request)
        return digest({**effect.request, "messages": self._transcripts.digests(effect.transcript)})

    async def start(self, path: str, effect: Effect, identity: str) -> Entry:
        """Record that the effect is about to be made.

        Before an effect that must not happen twice this returns only once the row is flushed;
        for one that may be made again the row is on its way.
        """
        before = self._by_path.get(path)
        statement: Executable
        if before is not None:
            request = before.request if effect.transcript else effect.request
            entry = replace(before, status="started", request=request, attempts=before.attempts + 1)
            statement, row = _RESTART, _restart_row(self.run, entry)
        else:
            entry = Entry(
                seq=self._next,
                path=path,
                kind=effect.kind,
                name=effect.name,
                status="started",
                digest=identity,
                request=self._stored_request(path, effect),
            )
            self._next += 1
            statement, row = _INSERT, _new_row(self.run, entry)
        self._by_path[path] = entry
        written = self._database.submit(
            lambda connection: connection.execute(statement, row), durable=not effect.repeatable
        )
        if not effect.repeatable:
            await asyncio.wrap_future(written)
        return entry

    def full_request(self, entry: Entry) -> JsonObject:
        """The entry's request with all messages of its transcript, not only the added ones."""
        by_seq = {other.seq: other for other in self._by_path.values()}
        request = dict(entry.request)
        after = request.pop("after", None)
        while after is not None:
            earlier = by_seq[after].request
            request["messages"] = [*earlier["messages"], *request["messages"]]
            after = earlier.get("after")
        return request

    def waiting(self, path: str, name: str, request: JsonObject) -> Entry:
        """A new entry for a question to a human; ``insert`` stores it with the question."""
        entry = Entry(
            seq=self._next,
            path=path,
            kind="approval",
            name=name,
            status="waiting",
            digest=digest(request),
            request=request,
        )
        self._next += 1
        self._by_path[path] = entry
        return entry

    def insert(self, connection: Connection, entry: Entry) -> None:
        """Store a new entry inside a transaction of the caller's."""
        connection.execute(_INSERT, _new_row(self.run, entry))

    def _stored_request(self, path: str, effect: Effect) -> JsonObject:
        if not effect.transcript:
            return effect.request
        node = _node(path)
        digests = self._transcripts.digests(effect.transcript)
        after, first = self._transcripts.delta(node, digests)
        self._transcripts.remember(node, self._next, digests)
        added = [encode(message) for message in effect.transcript[first:]]
        return {**effect.request, "after": after, "messages": added}

    async def finish(self, entry: Entry, outcome: Outcome, duration_ms: float) -> None:
        """Record what the effect gave; on disk when this returns."""
        done = replace(
            entry,
            status="finished",
            result=outcome.value,
            duration_ms=duration_ms,
            spend=outcome.spend,
        )
        await self._end(done)
        self._count(done)

    async def fail(self, entry: Entry, error: CorralError, duration_ms: float) -> None:
        """Record that the effect failed, and how; a resume makes it again."""
        result = {"type": type(error).__name__, "error": error.message, "hint": error.hint}
        await self._end(replace(entry, status="failed", result=result, duration_ms=duration_ms))

    async def _end(self, entry: Entry) -> None:
        self._by_path[entry.path] = entry
        row = _end_row(self.run, entry)

        def work(connection: Connection) -> None:
            if connection.execute(_END, row).rowcount != 1:
                raise StorageError(
                    f"The start of effect {entry.seq} of run {self.run} could not be stored.",
                    hint="Check the disk and its free space, and resume the run.",
                )

        await self._database.write(work, durable=entry.kind == "tool")

    def _count(self, entry: Entry) -> None:
        if entry.status != "finished":
            return
        self.spent = self.spent.plus(
            steps=1 if entry.kind == "model" else 0,
            input_tokens=entry.spend.input_tokens,
            output_tokens=entry.spend.output_tokens,
            cost_usd=entry.spend.cost_usd,
        )
        if entry.kind == "tool":
            args = digest(entry.request.get("args"))
            self.calls.append(CallRecord(entry.name, args, digest(entry.result)))


async def load_entries(database: Database, run: str) -> list[Entry]:
    """All entries of a run, oldest first."""

    def work(connection: Connection) -> list[Entry]:
        rows = connection.execute(
            select(effects).where(effects.c.run_id == run).order_by(effects.c.seq)
        )
        return [
            Entry(
                seq=row.seq,
                path=row.path,
                kind=row.kind,
                name=row.name,
                status=row.status,
                digest=row.digest,
                request=_loads(row.request, run, row.seq),
                result=None if row.result is None else _loads(row.result, run, row.seq),
                attempts=row.attempts,
                duration_ms=row.duration_ms,
                spend=Spend(row.input_tokens, row.output_tokens, row.cost_usd),
            )
            for row in rows
        ]

    return await database.read(work)


def _loads(text: str, run: str, seq: int) -> JsonObject:
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise StorageError(
            f"Entry {seq} of run {run} is damaged.",
            hint="The entries before it are readable with `corral trace`; start a new run.",
        )
    return value


def _node(path: str) -> str:
    """Where in the graph, without the step: ``3.model#0`` and ``5.model#0`` are one node."""
    head, _, tail = path.rpartition(".")
    return head.rstrip("0123456789") + tail


_INSERT = insert(effects)
_MINE = (effects.c.run_id == bindparam("b_run"), effects.c.seq == bindparam("b_seq"))
_RESTART = (
    update(effects)
    .where(*_MINE)
    .values(
        {
            "status": "started",
            "request": bindparam("b_request"),
            "attempts": bindparam("b_attempts"),
            "result": None,
        }
    )
)
_END = (
    update(effects)
    .where(*_MINE)
    .values(
        {
            name: bindparam(f"b_{name}")
            for name in (
                "status",
                "result",
                "duration_ms",
                "input_tokens",
                "output_tokens",
                "cost_usd",
            )
        }
    )
)


def _new_row(run: str, entry: Entry) -> dict[str, object]:
    return {
        "run_id": run,
        "seq": entry.seq,
        "path": entry.path,
        "kind": entry.kind,
        "name": entry.name,
        "status": entry.status,
        "digest": entry.digest,
        "request": canonical(entry.request),
        "result": None,
        "attempts": entry.attempts,
        "started_at": now(),
        "duration_ms": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0.0,
    }


def _restart_row(run: str, entry: Entry) -> dict[str, object]:
    return {
        "b_run": run,
        "b_seq": entry.seq,
        "b_request": canonical(entry.request),
        "b_attempts": entry.attempts,
    }


def _end_row(run: str, entry: Entry) -> dict[str, object]:
    return {
        "b_run": run,
        "b_seq": entry.seq,
        "b_status": entry.status,
        "b_result": canonical(entry.result),
        "b_duration_ms": entry.duration_ms,
        "b_input_tokens": entry.spend.input_tokens,
        "b_output_tokens": entry.spend.output_tokens,
        "b_cost_usd": entry.spend.cost_usd,
    }
