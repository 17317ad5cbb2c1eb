"""DuckDB files: opened read-only, with no way to other files, extensions or settings.

Source: duckdb.org/docs, "Securing DuckDB".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from duckdb import StatementType

from corral.mcp_servers.sql import duck_schema
from corral.mcp_servers.sql.databases import Database
from corral.mcp_servers.sql.engine import Listing, Result, Statement, said_by, words
from corral.mcp_servers.sql.values import Rows, Window, collect
from corral.mcp_servers.tool import ToolFault

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "memory_limit": "256MB",
    "threads": "2",
    "temp_directory": "",
    "lock_configuration": "true",
}
_READS = frozenset({StatementType.SELECT, StatementType.EXPLAIN})
_CHANGES_ROWS = frozenset(
    {StatementType.INSERT, StatementType.UPDATE, StatementType.DELETE, StatementType.MERGE_INTO}
)
_CHANGES = _READS | _CHANGES_ROWS | {StatementType.CREATE, StatementType.DROP, StatementType.ALTER}
_BATCH = 256


class Duck:
    """One DuckDB file; each call opens it anew, so that others can use it between."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = Path(database.path)
        self._connection: duckdb.DuckDBPyConnection | None = None

    def query(self, statement: Statement, window: Window, seconds: float) -> Result:
        """See ``Engine``."""
        del seconds
        with self._opened(write=False) as connection:
            return _run(connection, statement, window, _READS)

    def explain(self, statement: Statement, seconds: float) -> list[str]:
        """See ``Engine``."""
        del seconds
        with self._opened(write=False) as connection:
            parsed = _parsed(connection, statement, _CHANGES - {StatementType.EXPLAIN})
            sql = f"EXPLAIN {parsed.query}"
            found = connection.execute(sql, list(statement.parameters)).fetchall()
        return [line for row in found for line in str(row[-1]).splitlines()]

    def execute(
        self, statements: Sequence[Statement], window: Window, seconds: float
    ) -> list[Result]:
        """See ``Engine``."""
        del seconds
        with self._opened(write=True) as connection:
            connection.execute("BEGIN TRANSACTION")
            results = [_run(connection, one, window, _CHANGES) for one in statements]
            connection.execute("COMMIT")
            return results

    def schema(self, table: str | None, window: Window, seconds: float) -> Listing:
        """See ``Engine``."""
        del seconds
        with self._opened(write=False) as connection:
            return duck_schema.listing(connection, table, window)

    def interrupt(self) -> None:
        """See ``Engine``."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    @contextmanager
    def _opened(self, *, write: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        made = write and self._database.kind == "duckdb"
        if not made and not self._path.is_file():
            raise ToolFault(f"There is no file {self._path}.")
        with said_by(duckdb.Error, ValueError, OverflowError, MemoryError):
            try:
                connection = duckdb.connect(str(self._path), read_only=not write, config=_CONFIG)
            except duckdb.IOException as error:
                raise _not_opened(error) from error
            try:
                self._connection = connection
                yield connection
            finally:
                self._connection = None
                connection.close()


def _not_opened(error: duckdb.IOException) -> ToolFault:
    if "lock" in str(error).lower():
        return ToolFault(
            "Another process has the database open for writing, and DuckDB lets one do that at a "
            "time. Ask again when it is done."
        )
    return ToolFault(words(error))


def _parsed(
    connection: duckdb.DuckDBPyConnection, statement: Statement, allowed: frozenset[StatementType]
) -> duckdb.Statement:
    """The statement as DuckDB's own parser reads it."""
    found = connection.extract_statements(statement.sql)
    if len(found) != 1:
        raise ToolFault(f"Give one statement at a time; this is {len(found) or 'none'}.")
    if found[0].type not in allowed:
        names = ", ".join(sorted(one.name for one in allowed))
        raise ToolFault(f"{found[0].type.name} is not allowed here. Allowed: {names}.")
    return found[0]


def _run(
    connection: duckdb.DuckDBPyConnection,
    statement: Statement,
    window: Window,
    allowed: frozenset[StatementType],
) -> Result:
    parsed = _parsed(connection, statement, allowed)
    connection.execute(parsed.query, list(statement.parameters))
    described = connection.description or []
    columns = [{"name": str(entry[0]), "type": str(entry[1])} for entry in described]
    if parsed.type in _READS:
        return Result(columns, collect(_rows(connection), window))
    if parsed.type not in _CHANGES_ROWS:
        return Result([], Rows([], False, 0))
    if [column["name"] for column in columns] == ["Count"]:
        (count,) = connection.fetchone() or (None,)
        return Result([], Rows([], False, 0), count)
    returned = connection.fetchall()
    return Result(columns, collect(returned, window), len(returned))


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
    while batch := connection.fetchmany(_BATCH):
        yield from batch
