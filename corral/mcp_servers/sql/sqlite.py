"""SQLite files: opened read-only, and every statement authorised while it is compiled.

Source: sqlite.org, "Defense Against The Dark Arts", "sqlite3_set_authorizer", "WAL: Read-Only
Databases".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corral.mcp_servers.sql import sqlite_schema
from corral.mcp_servers.sql.databases import Database
from corral.mcp_servers.sql.engine import (
    Listing,
    Result,
    Statement,
    lock_seconds,
    said_by,
)
from corral.mcp_servers.sql.values import Rows, Window, collect
from corral.mcp_servers.tool import ToolFault

_MiB = 1024 * 1024
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 16 * _MiB,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: _MiB,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SETTINGS = (
    "temp_store = MEMORY",  # no temporary files
    f"hard_heap_limit = {256 * _MiB}",  # a statement can only lower it
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",  # a file that shrinks would end the process
    "foreign_keys = ON",
)
_READS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_FUNCTION}
)
_CHANGES = _READS | {
    *(sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE),
    *(sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE),
    *(sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX, sqlite3.SQLITE_REINDEX),
    *(sqlite3.SQLITE_CREATE_VIEW, sqlite3.SQLITE_DROP_VIEW, sqlite3.SQLITE_ANALYZE),
    *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER),
    *(sqlite3.SQLITE_CREATE_VTABLE, sqlite3.SQLITE_DROP_VTABLE),
}
_READING_PRAGMAS = frozenset(
    {
        *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_list", "foreign_key_check", "database_list", "collation_list"),
        *("function_list", "module_list", "pragma_list", "compile_options"),
        *("integrity_check", "quick_check"),
    }
)
_PLAIN_PRAGMAS = frozenset(
    {
        *("user_version", "application_id", "schema_version", "encoding", "page_size"),
        *("page_count", "freelist_count", "journal_mode", "data_version"),
    }
)
_CATALOGUES = frozenset({"sqlite_master", "sqlite_schema"})
_REFUSED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})
_STORAGE = {int: "integer", float: "real", str: "text", bytes: "blob"}
_ERRORS = (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError, MemoryError)
_MEANINGS = {
    "not authorized": "SQLite refused the statement: it does what is not granted here",
    "attempt to write a readonly": "SQLite refused the statement: the database is only read here",
    "database is locked": "Another process holds the database; ask again when it is done",
    "unable to open database file": "The file cannot be opened, or its log cannot be read",
}
_WAL_VERSION_AT = 18  # of the file format: 2 is write-ahead logging


class Sqlite:
    """One SQLite file; each call opens it anew."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = Path(database.path)
        self._connection: sqlite3.Connection | None = None

    def query(self, statement: Statement, window: Window, seconds: float) -> Result:
        """See ``Engine``."""
        with self._reading(seconds) as connection:
            cursor = connection.execute(statement.sql, list(statement.parameters))
            return _result(cursor, window)

    def explain(self, statement: Statement, seconds: float) -> list[str]:
        """See ``Engine``. Each line is indented below the one that it belongs to."""
        with self._reading(seconds) as connection:
            sql = f"EXPLAIN QUERY PLAN {statement.sql}"
            steps = connection.execute(sql, list(statement.parameters)).fetchmany(1000)
        depths = {0: -1}
        for number, parent, *_ in steps:
            depths[number] = depths.get(parent, -1) + 1
        return [f"{'  ' * depths[number]}{detail}" for number, _, _, detail in steps]

    def execute(
        self, statements: Sequence[Statement], window: Window, seconds: float
    ) -> list[Result]:
        """See ``Engine``."""
        with self._opened(self._uri(write=True), seconds) as connection:
            connection.execute("BEGIN IMMEDIATE")
            results = []
            for statement in statements:
                connection.set_authorizer(_may_change)
                cursor = connection.execute(statement.sql, list(statement.parameters))
                results.append(_changed(cursor, window))
                connection.set_authorizer(None)
            connection.execute("COMMIT")
            return results

    def schema(self, table: str | None, window: Window, seconds: float) -> Listing:
        """See ``Engine``."""
        with self._reading(seconds) as connection:
            return sqlite_schema.listing(connection, table, window)

    def interrupt(self) -> None:
        """See ``Engine``."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    @contextmanager
    def _reading(self, seconds: float) -> Iterator[sqlite3.Connection]:
        uri = self._uri(write=False)
        before = _stamp(self._path)
        with self._opened(uri, seconds) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.set_authorizer(_may_read)
            yield connection
        if "immutable" in uri and _stamp(self._path) != before:
            raise ToolFault("Another process changed the database while it was read. Ask again.")

    def _uri(self, *, write: bool) -> str:
        """How the file is opened. ``immutable`` only where nobody has it open.

        A database with a write-ahead log cannot be read in a folder that is read-only unless the
        log is there, or the file is known to rest.
        """
        base = self._path.absolute().as_uri()
        if write:
            made = self._database.kind == "sqlite" and not self._path.exists()
            return f"{base}?mode={'rwc' if made else 'rw'}"
        rests = not Path(f"{self._path}-wal").exists()
        return f"{base}?mode=ro{'&immutable=1' if rests and _has_log(self._path) else ''}"

    @contextmanager
    def _opened(self, uri: str, seconds: float) -> Iterator[sqlite3.Connection]:
        if "rwc" not in uri and not self._path.is_file():
            raise ToolFault(f"There is no file {self._path}.")
        with said_by(*_ERRORS), _explained():
            connection = sqlite3.connect(
                uri,
                uri=True,
                timeout=lock_seconds(seconds),
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                for limit, value in _LIMITS.items():
                    connection.setlimit(limit, value)
                for setting in _SETTINGS:
                    connection.execute(f"PRAGMA {setting}")
                connection.text_factory = lambda data: data.decode("utf-8", "replace")
                self._connection = connection
                yield connection
            finally:
                self._connection = None
                connection.close()


@contextmanager
def _explained() -> Iterator[None]:
    """Say what SQLite means with its shortest messages."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = next((text for sign, text in _MEANINGS.items() if sign in str(error)), "")
        if not text:
            raise
        raise ToolFault(f"{text} ({error})") from error


def _may_read(action: int, one: Any, two: Any, *_: Any) -> int:
    return _verdict(action, one, two, _READS)


def _may_change(action: int, one: Any, two: Any, *_: Any) -> int:
    return _verdict(action, one, two, _CHANGES)


def _verdict(action: int, one: Any, two: Any, allowed: frozenset[int]) -> int:
    """SQLite asks this for each thing that a statement would do; ``one`` and ``two`` say to what.

    Source: sqlite.org/c3ref/c_alter_table.html.
    """
    if action == sqlite3.SQLITE_PRAGMA:
        name = str(one).lower()
        fine = name in _READING_PRAGMAS or (name in _PLAIN_PRAGMAS and two is None)
    elif action == sqlite3.SQLITE_FUNCTION:
        fine = str(two).lower() not in _REFUSED_FUNCTIONS
    elif action == sqlite3.SQLITE_UPDATE and one in _CATALOGUES:
        fine = True  # asked for table-valued functions as well; SQLite itself refuses to change it
    else:
        fine = action in allowed
    return sqlite3.SQLITE_OK if fine else sqlite3.SQLITE_DENY


def _result(cursor: sqlite3.Cursor, window: Window) -> Result:
    if cursor.description is None:
        raise ToolFault("The statement gives no rows.")
    kinds: list[dict[str, None]] = [{} for _ in cursor.description]
    rows = collect(_noted(cursor, kinds), window)
    columns = [
        {"name": str(entry[0]), "type": " or ".join(kind) or "null"}
        for entry, kind in zip(cursor.description, kinds, strict=True)
    ]
    return Result(columns, rows)


def _noted(
    rows: Iterable[Sequence[Any]], kinds: Sequence[dict[str, None]]
) -> Iterator[Sequence[Any]]:
    """The rows as they are; SQLite has a type for each value, so a column's are those in it."""
    for row in rows:
        for kind, value in zip(kinds, row, strict=True):
            if value is not None:
                kind[_STORAGE[type(value)]] = None
        yield row


def _changed(cursor: sqlite3.Cursor, window: Window) -> Result:
    result = Result([], Rows([], False, 0))
    if cursor.description is not None:
        result = _result(cursor, window)
        cursor.fetchall()  # the rest: only then are all rows changed and counted
    return result._replace(affected=cursor.rowcount if cursor.rowcount >= 0 else None)


def _has_log(path: Path) -> bool:
    """Whether the file is in WAL mode."""
    try:
        with path.open("rb") as file:
            return file.read(_WAL_VERSION_AT + 2)[_WAL_VERSION_AT:] == b"\2\2"
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int, int, bool]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0, False)
    log = Path(f"{path}-wal").exists()
    return (status.st_ino, status.st_size, status.st_mtime_ns, log)
