"""How the entries of one run get into the database: in order, and no more often than is needed.

The start of an effect that may be made again is stored together with what the run stores next,
which mostly is its end: then both are one row, written once. One that takes its time is stored
after ``SOON``, so that whoever looks at the run sees what it is doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from corral.errors import StorageError
from corral.runtime.database import Database
from corral.runtime.entries import Entry, Text, end_entry, insert_entry, restart_entry
from corral.runtime.lease import fence

SOON = 0.02
"""Seconds for which the start of an effect that may be made again is kept back."""


@dataclass(frozen=True)
class _Write:
    """Something to store. What is small can be stored without a hop to the thread that writes."""

    work: Callable[[Connection], None]
    is_small: bool


_SEEN_OUTSIDE = "connection"
"""Others see such an effect at once, so its start is stored before it is made."""


class EntryWriter:
    """Stores the entries of one run. Used on one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept_back: dict[str, Entry] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, entry: Entry, *, repeatable: bool) -> None:
        """Store that an effect is about to be made.

        Before one that must not happen twice this returns only once the row is flushed.
        """
        if repeatable:
            self._kept_back[entry.path] = entry
            if entry.kind == _SEEN_OUTSIDE:
                await self._database.appended(self._with_kept_back(_NOTHING).work)
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(SOON, self._soon)
            return
        allow, store = fence(), self._with_kept_back(_start(entry)).work

        def work(connection: Connection) -> None:
            allow(connection)
            store(connection)

        await self._database.write(work)

    async def end(self, entry: Entry) -> None:
        """Store how an effect ended; a killed process does not lose it once this returns.

        Raises ``StorageError`` when somebody else has made it since.
        """
        write = self._ended(entry)
        if write.is_small:
            await self._database.appended(write.work)
        else:
            await self._database.write(write.work, durable=False)

    def end_soon(self, entry: Entry) -> None:
        """``end`` without waiting for it. Raises ``StorageError`` when the database is closed."""
        self._database.submit(self._ended(entry).work, durable=False)

    def flush(self) -> None:
        """Store what is kept back, before what is stored from now on."""
        if self._kept_back:
            self._database.submit(self._with_kept_back(_NOTHING).work, durable=False)

    def _ended(self, entry: Entry) -> _Write:
        started = self._kept_back.get(entry.path)
        if started is None or started.attempts > 1:
            return self._with_kept_back(_end(entry))
        del self._kept_back[entry.path]
        return self._with_kept_back(_whole(entry))

    def _with_kept_back(self, write: _Write) -> _Write:
        if not self._kept_back:
            return write
        writes = [*map(_start, self._kept_back.values()), write]
        self._kept_back.clear()

        def work(connection: Connection) -> None:
            for one in writes:
                one.work(connection)

        return _Write(work, all(one.is_small for one in writes))

    def _soon(self) -> None:
        self._timer = None
        with suppress(StorageError):  # closed: who waits for an end is told
            self.flush()


_NOTHING = _Write(lambda _connection: None, is_small=True)


def _start(entry: Entry) -> _Write:
    request = Text.of(entry.request)
    store = restart_entry if entry.attempts > 1 else insert_entry
    return _Write(lambda connection: store(connection, entry, request), request.blob is None)


def _end(entry: Entry) -> _Write:
    result = Text.of(entry.result)
    return _Write(lambda connection: end_entry(connection, entry, result), result.blob is None)


def _whole(entry: Entry) -> _Write:
    """Start and end of an effect at once."""
    request, result = Text.of(entry.request), Text.of(entry.result)

    def work(connection: Connection) -> None:
        try:
            insert_entry(connection, entry, request, result)
        except IntegrityError as error:
            raise StorageError(
                f"Effect {entry.seq} of run {entry.run} was stored by another process.",
                hint="See `corral trace` for what it did, and resume the run in one place.",
            ) from error

    return _Write(work, request.blob is None and result.blob is None)
