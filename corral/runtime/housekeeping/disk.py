"""The room that a database takes, and giving back what is free in it.

SQLite keeps the pages of deleted rows for later. They are returned in small steps, so that
other processes can write in between, and the write-ahead log is emptied: what was deleted is then
in no file any more.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, func, inspect, select, text

from corral.errors import StorageError
from corral.runtime import database as databases
from corral.runtime.database import Database, parse_url
from corral.runtime.lease import is_held
from corral.runtime.tables import threads

PATIENCE_MS = 2000
"""How long to wait for others to let go of the write-ahead log."""

_PAGES = 2000  # of one step: 8 MB, a fraction of a second
_INCREMENTAL = 2


async def used(database: Database) -> int:
    """The bytes that the database takes on the disk, its write-ahead log included."""
    if not database.is_sqlite:
        size = select(func.pg_database_size(func.current_database()))
        return int(await database.read(lambda c: c.execute(size).scalar_one()))
    path = _file(database)
    return sum(part.stat().st_size for part in (path, wal(path)) if part.exists())


async def give_back(database: Database) -> str | None:
    """Return the room of what was deleted to the system.

    What could not be done, and how to do it, in words; ``None`` when all was.
    """
    if not database.is_sqlite:
        await asyncio.to_thread(_vacuum_tables, database.url)
        return None
    held = select(threads.c.lease).where(threads.c.lease.is_not(None))
    leases = await database.read(lambda c: c.execute(held).scalars().all())
    is_busy = any(map(is_held, leases))
    try:
        return await asyncio.to_thread(_shrink, _file(database), is_busy=is_busy)
    except sqlite3.Error as error:
        raise StorageError(
            f"What was deleted is free in {_file(database)}, but its room could not be given back: "
            f"{error}",
            hint="Run `corral gc` again when there is some free disk space.",
        ) from error


def wal(path: Path) -> Path:
    """The write-ahead log of a SQLite file."""
    return path.with_name(f"{path.name}-wal")


def _file(database: Database) -> Path:
    return Path(parse_url(database.url).database or "")


def _shrink(path: Path, *, is_busy: bool) -> str | None:
    seconds = databases.BUSY_SECONDS
    with closing(sqlite3.connect(path, timeout=seconds, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        if _value(connection, "auto_vacuum") == _INCREMENTAL:
            _free_pages(connection)
        elif is_busy:
            return (
                "A run is going on, and a database of an older Corral has to be rewritten as a "
                "whole to become smaller: run `corral gc` again when nothing runs."
            )
        else:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("VACUUM")
        connection.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")
        blocked, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if not blocked:
        return None
    return (
        f"Another process is reading the database, so that {wal(path).name} still holds what was "
        "deleted: run `corral gc` again when it is done."
    )


def _free_pages(connection: sqlite3.Connection) -> None:
    free = _value(connection, "freelist_count")
    while free:
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
        before, free = free, _value(connection, "freelist_count")
        if free >= before:  # others delete faster than this gives back
            return


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _vacuum_tables(url: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            connection.execute(text(f'VACUUM "{table}"'))
    engine.dispose()
