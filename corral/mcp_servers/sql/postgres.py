"""PostgreSQL: each call is one transaction, and a query can only be what a cursor can be.

The connection goes to the host's gateway, which logs in. A query is compiled as ``DECLARE CURSOR
FOR``: the server's grammar takes nothing there but a plain SELECT, VALUES or WITH that changes
nothing, so that COPY, DO, CALL, SET and the like are syntax errors. The transaction is read-only,
and its first snapshot is taken before the query, after which nothing can make it read-write.

Source: postgresql.org/docs, "DECLARE", "SET TRANSACTION", "Predefined Roles".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus

from corral.mcp_servers.sql import postgres_schema
from corral.mcp_servers.sql.databases import Database
from corral.mcp_servers.sql.engine import (
    Column,
    Listing,
    Result,
    Statement,
    lock_seconds,
    said_by,
    words,
)
from corral.mcp_servers.sql.text import first_word
from corral.mcp_servers.sql.values import Rows, Window, collect
from corral.mcp_servers.tool import ToolFault

_BATCH = 256
_CANCEL_SECONDS = 5.0
_CURSOR = "corral_query"
_TEXTS = ("text", "varchar", "bpchar", "name", "xml", '"char"')
_AS_WRITTEN = (
    *("date", "time", "timetz", "timestamp", "timestamptz", "interval", "numeric"),
    *("inet", "cidr", "uuid", "json", "jsonb"),
)
_TOO_MUCH = ("pg_execute_server_program", "pg_write_server_files")
_RIGHTS = """
    SELECT rolsuper, array(
        SELECT rolname FROM pg_roles
        WHERE rolname = ANY($1) AND pg_has_role(session_user, oid, 'MEMBER')
    ) FROM pg_roles WHERE rolname = session_user
"""
_TYPE_NAMES = b"SELECT oid::text, format_type(oid, NULL) FROM unnest($1::oid[]) AS t(oid)"
_TAKES = "A query is one SELECT, VALUES, TABLE or WITH that changes nothing."
_ROLE = (
    "Use a role of its own: CREATE ROLE reader LOGIN PASSWORD '…'; "
    "GRANT pg_read_all_data TO reader;"
)
_OWN_TRANSACTIONS = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"}
)
_AT_REST = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
_Connection = psycopg.Connection[tuple[Any, ...]]


class _Lenient(Loader):
    """Text as UTF-8; what is none is replaced, where the driver would fail."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "replace")


class Postgres:
    """One database of a server. The connection is kept, and cleared after each call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: _Connection | None = None
        self._interrupted = False

    def query(self, statement: Statement, window: Window, seconds: float) -> Result:
        """See ``Engine``."""
        with self._transaction(seconds, "READ ONLY") as connection:
            declare = f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR {statement.sql}"
            try:
                _run_one(connection, declare, statement.parameters)
            except psycopg.errors.SyntaxError as error:
                raise ToolFault(f"{words(error)}\n{_TAKES}") from error
            cursor = connection.cursor()
            rows = collect(_fetched(cursor), window)
            return Result(_columns(connection, cursor), rows)

    def explain(self, statement: Statement, seconds: float) -> list[str]:
        """See ``Engine``."""
        with self._transaction(seconds, "READ ONLY") as connection:
            sql = f"EXPLAIN (FORMAT TEXT) {statement.sql}"
            cursor = _run_one(connection, sql, statement.parameters)
            return [str(line) for (line,) in cursor.fetchmany(1000)]

    def execute(
        self, statements: Sequence[Statement], window: Window, seconds: float
    ) -> list[Result]:
        """See ``Engine``."""
        for statement in statements:
            word = first_word(statement.sql)
            if word in _OWN_TRANSACTIONS:
                raise ToolFault("The call is one transaction already: leave BEGIN and COMMIT out.")
            if word == "copy":
                raise ToolFault("COPY is not offered, as it moves files or streams. Use INSERT.")
        with self._transaction(seconds, "READ WRITE") as connection:
            results = [_changed(connection, statement, window) for statement in statements]
            connection.execute(b"COMMIT")
            return results

    def schema(self, table: str | None, window: Window, seconds: float) -> Listing:
        """See ``Engine``."""
        with self._transaction(seconds, "READ ONLY") as connection:
            return postgres_schema.listing(connection, table, window)

    def interrupt(self) -> None:
        """See ``Engine``. Asks the server to cancel, over a connection of its own."""
        connection, self._interrupted = self._connection, True
        if connection is not None and not connection.closed:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)

    @contextmanager
    def _transaction(self, seconds: float, mode: str) -> Iterator[_Connection]:
        """A transaction that is rolled back unless the body commits it."""
        with said_by(psycopg.Error, ValueError):
            connection = self._begun(f"BEGIN TRANSACTION {mode}")
            self._interrupted = False
            try:
                connection.execute(_bounds(seconds))  # its snapshot fixes the mode
                yield connection
            finally:
                self._clear(connection)

    def _begun(self, begin: str) -> _Connection:
        """A connection in a transaction; a new one where the kept one was lost meanwhile."""
        kept = self._connection
        if kept is not None and not kept.closed:
            with suppress(psycopg.OperationalError):
                kept.execute(begin.encode())
                return kept
            kept.close()
        self._connection = self._connect()
        self._connection.execute(begin.encode())
        return self._connection

    def _connect(self) -> _Connection:
        connection = self._reached()
        for name in (*_TEXTS, *_AS_WRITTEN):
            connection.adapters.register_loader(name, _Lenient)
        try:
            self._check_rights(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _reached(self) -> _Connection:
        try:
            return psycopg.connect(
                host="127.0.0.1",
                port=self._database.port,
                user="corral",
                dbname=self._database.name,
                sslmode="disable",  # to the gateway; it encrypts the way to the server
                gssencmode="disable",
                client_encoding="utf8",
                connect_timeout=20,
                autocommit=True,
                prepare_threshold=None,
                cursor_factory=RawCursor,
            )
        except psycopg.OperationalError as error:
            _, said, why = str(error).partition("FATAL:")
            reason = why.strip() if said else "it cannot be reached from here"
            raise ToolFault(f"The PostgreSQL server gave no connection: {reason}") from error

    def _check_rights(self, connection: _Connection) -> None:
        """Refuse a role that could leave the database: no transaction is read-only to it.

        A superuser's SELECT can write files of the server and run its programs.
        """
        row = connection.execute(_RIGHTS.encode(), [list(_TOO_MUCH)]).fetchone()
        superuser, roles = row or (True, [])
        if superuser:
            raise ToolFault(f"The database's URL names a superuser, which is refused. {_ROLE}")
        if roles:
            raise ToolFault(
                f"The role in the database's URL is in {', '.join(roles)}, which is refused. "
                f"{_ROLE}"
            )

    def _clear(self, connection: _Connection) -> None:
        """Leave nothing for the next call: no transaction, setting, lock or temporary table.

        A connection that was interrupted is closed: the server may cancel what comes next on it.
        """
        try:
            status = connection.info.transaction_status
            if self._interrupted or status not in _AT_REST:
                raise psycopg.OperationalError("the connection is not clean")
            if status != TransactionStatus.IDLE:
                connection.execute(b"ROLLBACK")
            connection.execute(b"DISCARD ALL")
        except psycopg.Error:
            connection.close()


def _bounds(seconds: float) -> bytes:
    """What the server itself ends a statement for, should nobody be there to cancel it."""
    return (
        f"SELECT set_config('statement_timeout', '{round(seconds * 1000) + 1000}', true), "
        f"set_config('lock_timeout', '{round(lock_seconds(seconds) * 1000)}', true), "
        f"set_config('idle_in_transaction_session_timeout', '60000', true), "
        f"set_config('extra_float_digits', '1', true)"
    ).encode()


def _fetched(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Iterator[Sequence[Any]]:
    while True:
        cursor.execute(f"FETCH FORWARD {_BATCH} FROM {_CURSOR}".encode())
        batch = cursor.fetchall()
        yield from batch
        if len(batch) < _BATCH:
            return


def _run_one(
    connection: _Connection, sql: str, parameters: Sequence[Any]
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Run what the server must find to be one statement.

    Outside of a pipeline the driver sends a text without parameters as a script.
    """
    with connection.pipeline():
        return connection.cursor().execute(sql.encode(), list(parameters))


def _changed(connection: _Connection, statement: Statement, window: Window) -> Result:
    cursor = _run_one(connection, statement.sql, statement.parameters)
    affected = cursor.rowcount if cursor.rowcount >= 0 else None
    if cursor.description is None:
        return Result([], Rows([], False, 0), affected)
    return Result(_columns(connection, cursor), collect(cursor, window), affected)


def _columns(connection: _Connection, cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[Column]:
    """The names and types of a result; the server names the types that the driver does not know."""
    described = cursor.description or []
    types = [column.type_display for column in described]
    unknown = [column.type_code for column in described if column.type_display.isdecimal()]
    if unknown:
        found = connection.execute(_TYPE_NAMES, [unknown]).fetchall()
        names = {str(oid): str(name) for oid, name in found}
        types = [names.get(kind, kind) for kind in types]
    return [
        {"name": column.name, "type": kind} for column, kind in zip(described, types, strict=True)
    ]
