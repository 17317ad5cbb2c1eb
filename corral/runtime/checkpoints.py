"""LangGraph's checkpoints in Corral's own database.

One database, one writer, one transaction with everything else; the threads of a hundred agents
are committed together. Deserialising is strict: only plain values and chat messages are ever
built from a stored checkpoint. A thread grows linearly, because the messages channel stores
what was added (``DeltaChannel``) and this saver finds it again in two queries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select

from corral.runtime.database import Database
from corral.runtime.lease import fence
from corral.runtime.statements import Query, Statement
from corral.runtime.tables import checkpoint_writes, checkpoints

_Write = dict[str, Any]

_SMALL = 32_768
"""Bytes that are written without a hop to the thread that writes."""


def strict_serializer() -> JsonPlusSerializer:
    """A serializer that builds only LangGraph's list of safe types, whatever the data names."""
    return JsonPlusSerializer(allowed_msgpack_modules=None)


class DatabaseSaver(BaseCheckpointSaver[int]):
    """A checkpoint saver over ``Database``, asynchronous only."""

    def __init__(self, database: Database) -> None:
        super().__init__(serde=strict_serializer())
        self._database = database
        self._together: dict[str, tuple[list[_Write], asyncio.Task[None]]] = {}

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or the thread's newest that was not rewound."""
        thread, ns = _where(config)
        wanted = get_checkpoint_id(config)

        def work(connection: Connection) -> tuple[Any | None, Sequence[Any]]:
            if wanted:
                named = {"thread": thread, "ns": ns, "id": wanted}
                row = _NAMED.first(connection, named)
            else:
                row = _NEWEST.first(connection, {"thread": thread, "ns": ns})
            return row, _writes_of(connection, thread, ns, row.id) if row else ()

        row, writes = await self._database.read(work)
        if row is None:
            return None
        return self._tuple(row, writes)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  the base class names it so
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """A thread's checkpoints, newest first. ``filter`` compares metadata."""
        query = select(checkpoints).order_by(checkpoints.c.id.desc())
        if config is not None:
            thread, ns = _where(config)
            query = query.where(checkpoints.c.thread_id == thread, checkpoints.c.ns == ns)
        if before is not None and (last := get_checkpoint_id(before)):
            query = query.where(checkpoints.c.id < last)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        wanted = (filter or {}).items()
        matching = [row for row in rows if wanted <= json.loads(row.metadata).items()]
        for row in matching[:limit]:
            found = await self.aget_tuple(_config(row.thread_id, row.ns, row.id))
            if found is not None:
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002  values are stored inside the checkpoint
    ) -> RunnableConfig:
        """Store a checkpoint; committed when this returns."""
        thread, ns = _where(config)
        kind, data = self.serde.dumps_typed(checkpoint)
        row = {
            "thread_id": thread,
            "ns": ns,
            "id": checkpoint["id"],
            "parent_id": get_checkpoint_id(config),
            "type": kind,
            "data": data,
            "metadata": json.dumps(get_serializable_checkpoint_metadata(config, metadata)),
            "rewound": None,
        }

        allow = fence()

        def work(connection: Connection) -> None:
            allow(connection)
            _DELETE_CHECKPOINT.run(connection, row)
            _INSERT_CHECKPOINT.run(connection, row)

        await self._store(work, len(data))
        return _config(thread, ns, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what one task wrote on top of a checkpoint; the same task replaces its own."""
        thread, ns = _where(config)
        checkpoint = get_checkpoint_id(config)
        rows = []
        for index, (channel, value) in enumerate(writes):
            kind, data = self.serde.dumps_typed(value)
            rows.append(
                {
                    "thread_id": thread,
                    "ns": ns,
                    "checkpoint_id": checkpoint,
                    "task_id": task_id,
                    "idx": WRITES_IDX_MAP.get(channel, index),
                    "task_path": task_path,
                    "channel": channel,
                    "type": kind,
                    "data": data,
                }
            )

        if rows:
            await self._with_others(thread, rows)

    async def _with_others(self, thread: str, rows: list[_Write]) -> None:
        """Store rows with all that the thread has at the moment: at the end of a run it is told
        what each task wrote, one by one.
        """
        if thread not in self._together:
            together: list[_Write] = []
            self._together[thread] = together, asyncio.create_task(self._flush(thread, together))
        together, done = self._together[thread]
        together += rows
        await asyncio.shield(done)

    async def _flush(self, thread: str, rows: list[_Write]) -> None:
        del self._together[thread]
        allow = fence()

        def work(connection: Connection) -> None:
            allow(connection)
            for row in rows:
                _DELETE_WRITE.run(connection, row)
                _INSERT_WRITE.run(connection, row)

        await self._store(work, sum(len(row["data"]) for row in rows))

    async def _store(self, work: Callable[[Connection], None], size: int) -> None:
        """Write so many bytes. What they belong to is flushed when its run ends."""
        if size > _SMALL:
            await self._database.write(work, durable=False)
        else:
            await self._database.appended(work)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """What each channel was given since its last snapshot, see the base class.

        Ancestors are read nearest first, and no further than the snapshots.
        """
        thread, ns = _where(config)
        start = get_checkpoint_id(config)

        def work(connection: Connection) -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = {channel: {"writes": []} for channel in channels}
            missing = set(channels)
            for row in _ancestors(connection, thread, ns, start):
                for write in reversed(_writes_of(connection, thread, ns, row.id)):
                    if write.channel in missing:
                        found[write.channel]["writes"].append(self._write(write))
                values = self.serde.loads_typed((row.type, row.data))["channel_values"]
                for channel in missing & values.keys():
                    found[channel]["seed"] = values[channel]
                missing -= values.keys()
                if not missing:
                    break
            return found

        found = await self._database.read(work)
        for entry in found.values():
            entry["writes"].reverse()
        return found

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints of a thread and what was written on them."""

        def work(connection: Connection) -> None:
            for table in (checkpoint_writes, checkpoints):
                connection.execute(delete(table).where(table.c.thread_id == thread_id))

        await self._database.write(work)

    def _tuple(self, row: Row[Any], writes: Sequence[Row[Any]]) -> CheckpointTuple:
        parent = _config(row.thread_id, row.ns, row.parent_id) if row.parent_id else None
        checkpoint: Checkpoint = self.serde.loads_typed((row.type, row.data))
        # A rewind copies a row under an id of its own, without reading what is in it.
        checkpoint["id"] = row.id
        return CheckpointTuple(
            config=_config(row.thread_id, row.ns, row.id),
            checkpoint=checkpoint,
            metadata=json.loads(row.metadata),
            parent_config=parent,
            pending_writes=[self._write(write) for write in writes],
        )

    def _write(self, row: Row[Any]) -> PendingWrite:
        return (row.task_id, row.channel, self.serde.loads_typed((row.type, row.data)))


def _delete_one(table: Table) -> Statement:
    """Deletes the row with the same key."""
    return Statement(
        delete(table).where(*(key == bindparam(key.name) for key in table.primary_key))
    )


_DELETE_CHECKPOINT = _delete_one(checkpoints)
_INSERT_CHECKPOINT = Statement(insert(checkpoints))
_DELETE_WRITE = _delete_one(checkpoint_writes)
_INSERT_WRITE = Statement(insert(checkpoint_writes))


def _where(config: RunnableConfig) -> tuple[str, str]:
    configurable = config["configurable"]
    return str(configurable["thread_id"]), str(configurable.get("checkpoint_ns", ""))


def _config(thread: str, ns: str, checkpoint: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": checkpoint}}


def _writes_of(connection: Connection, thread: str, ns: str, checkpoint: str) -> Sequence[Row[Any]]:
    place = {"thread": thread, "ns": ns, "checkpoint": checkpoint}
    return _WRITES.all(connection, place)


def _ancestors(
    connection: Connection, thread: str, ns: str, checkpoint: str | None
) -> Iterator[Row[Any]]:
    """The rows of a checkpoint's ancestors, nearest first, without the checkpoint itself."""
    seen: set[str] = set()
    cursor = checkpoint
    while cursor is not None and cursor not in seen:
        seen.add(cursor)
        row = _NAMED.first(connection, {"thread": thread, "ns": ns, "id": cursor})
        if row is None:
            break
        if cursor != checkpoint:
            yield row
        cursor = row.parent_id


_HERE = (checkpoints.c.thread_id == bindparam("thread"), checkpoints.c.ns == bindparam("ns"))
_NAMED = Query(select(checkpoints).where(*_HERE, checkpoints.c.id == bindparam("id")))
_NEWEST = Query(
    select(checkpoints)
    .where(*_HERE, checkpoints.c.rewound.is_(None))
    .order_by(checkpoints.c.id.desc())
    .limit(1)
)
_WRITES = Query(
    select(checkpoint_writes)
    .where(
        checkpoint_writes.c.thread_id == bindparam("thread"),
        checkpoint_writes.c.ns == bindparam("ns"),
        checkpoint_writes.c.checkpoint_id == bindparam("checkpoint"),
    )
    .order_by(checkpoint_writes.c.task_path, checkpoint_writes.c.task_id, checkpoint_writes.c.idx)
)
