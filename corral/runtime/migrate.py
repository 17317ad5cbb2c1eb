"""Opening a database: its schema is brought up to date by Alembic, or it is refused.

Alembic is imported only when there is something to do, so that a command that just reads
starts fast.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

import corral.memory.store
import corral.runtime.tables
import corral.tools.pin_store  # noqa: F401  likewise
from corral.errors import StorageError
from corral.runtime.database import Database, parse_url, storage_error

HEAD = "0009"
"""The newest revision in ``migrations/versions``."""

KNOWN = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""All revisions that this version of Corral can read, oldest first."""


_alembic = threading.Lock()  # Alembic keeps what it is doing in module globals


async def open_database(url: str) -> Database:
    """Open (and create or migrate) the database at ``url``.

    Raises ``StorageError`` when it is damaged, locked, or written by a newer Corral.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        _make_private(Path(parsed.database))
    database = Database(url)
    try:
        if await database.read(_revision) != HEAD:
            await database.write(_upgrade)
    except BaseException:
        await database.aclose()
        raise
    return database


def _make_private(path: Path) -> None:
    """A new database is its owner's alone: conversations are in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
            _make_shrinkable(path)
    except OSError as error:
        raise StorageError(
            f"The folder {path.parent} cannot be used: {error.strerror}.",
            hint="Set CORRAL_HOME to a folder of your own.",
        ) from error


def _make_shrinkable(path: Path) -> None:
    """Let free pages be given back without rewriting the whole file (disk.py).

    It is said before the first table, or not at all: when another process is faster, or the disk
    does not answer, the first ``corral gc`` does it.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as new:
        new.execute("PRAGMA auto_vacuum=INCREMENTAL")
        new.execute("PRAGMA journal_mode=WAL")


def _revision(connection: Connection) -> str | None:
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        if "alembic_version" in str(error):
            return None
        raise


def _upgrade(connection: Connection) -> None:
    from alembic import command  # heavy, and rarely needed
    from alembic.config import Config

    # Another process may have migrated it while this one waited for the lock.
    found = connection.dialect.has_table(connection, "alembic_version") and _revision(connection)
    if found == HEAD:
        return
    if found and found not in KNOWN:
        raise StorageError(
            f"The database is of revision {found}, which this Corral does not know.",
            hint="It was written by a newer Corral: upgrade this one, or set CORRAL_HOME.",
        )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        with _alembic:
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise storage_error(error, str(connection.engine.url)) from error
