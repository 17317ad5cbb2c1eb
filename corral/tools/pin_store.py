"""What is kept of servers in the database: pins by server name, which is what a user trusts in
every folder, and which programs speak an older protocol.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, Connection, String, Table, Text, delete, insert, select

from corral.jsontypes import canonical
from corral.storage import Storage, metadata
from corral.tools.pins import Pin, Pins

tool_servers = Table(
    "tool_servers",
    metadata,
    Column("name", String, primary_key=True),
    Column("instructions", Text, nullable=False),
    Column("trusted_at", String, nullable=False),
)

tool_pins = Table(
    "tool_pins",
    metadata,
    Column("server", String, primary_key=True),
    Column("tool", Text, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("definition", Text, nullable=False),
)

tool_eras = Table(
    "tool_eras",
    metadata,
    Column("key", String, primary_key=True),
    Column("found_at", String, nullable=False),
)
"""Programs that were found to speak a protocol of before 2026-07-28."""

_REMEMBERED = timedelta(days=7)


class DatabaseEras:
    """An ``EraStore``. What was found out is forgotten after a week: programs are updated."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def is_legacy(self, key: str) -> bool:
        """See ``EraStore``."""
        since = (datetime.now(UTC) - _REMEMBERED).isoformat(timespec="seconds")
        query = select(tool_eras.c.key).where(tool_eras.c.key == key, tool_eras.c.found_at > since)
        found = await self._storage.read(lambda connection: connection.execute(query).first())
        return found is not None

    async def found_legacy(self, key: str) -> None:
        """See ``EraStore``."""

        def work(connection: Connection) -> None:
            connection.execute(delete(tool_eras).where(tool_eras.c.key == key))
            connection.execute(insert(tool_eras), {"key": key, "found_at": _now()})

        await self._storage.write(work, durable=False)


class DatabasePins:
    """A ``PinStore``. All methods may be called concurrently, from several processes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def load(self, server: str) -> Pins | None:
        """See ``PinStore``."""
        return await self._storage.read(lambda connection: _load(connection, server))

    async def first(self, pins: Pins) -> Pins:
        """See ``PinStore``."""

        def work(connection: Connection) -> Pins:
            known = _load(connection, pins.server)
            if known is None:
                _insert(connection, pins)
            return known or pins

        return await self._storage.write(work)

    async def trust(self, pins: Pins) -> None:
        """See ``PinStore``."""

        def work(connection: Connection) -> None:
            _delete(connection, pins.server)
            _insert(connection, pins)

        await self._storage.write(work)

    async def forget(self, server: str) -> None:
        """See ``PinStore``."""
        await self._storage.write(lambda connection: _delete(connection, server))


def _load(connection: Connection, server: str) -> Pins | None:
    known = select(tool_servers).where(tool_servers.c.name == server)
    row = connection.execute(known).one_or_none()
    if row is None:
        return None
    rows = connection.execute(select(tool_pins).where(tool_pins.c.server == server))
    pins = (Pin(one.tool, one.fingerprint, json.loads(one.definition)) for one in rows)
    return Pins(server, {pin.tool: pin for pin in pins}, row.instructions)


def _insert(connection: Connection, pins: Pins) -> None:
    server = {"name": pins.server, "instructions": pins.instructions, "trusted_at": _now()}
    connection.execute(insert(tool_servers), server)
    rows = [
        {
            "server": pins.server,
            "tool": pin.tool,
            "fingerprint": pin.fingerprint,
            "definition": canonical(pin.definition),
        }
        for pin in pins.tools.values()
    ]
    if rows:
        connection.execute(insert(tool_pins), rows)


def _delete(connection: Connection, server: str) -> None:
    connection.execute(delete(tool_pins).where(tool_pins.c.server == server))
    connection.execute(delete(tool_servers).where(tool_servers.c.name == server))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
