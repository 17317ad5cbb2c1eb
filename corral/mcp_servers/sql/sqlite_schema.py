"""What is in a SQLite file. Names are values to every statement here, never part of one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from corral.mcp_servers.sql.engine import Listing
from corral.mcp_servers.sql.values import Window
from corral.mcp_servers.tool import JsonObject

_TABLES = """
    FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    AND (?1 IS NULL OR name = ?1 COLLATE NOCASE)
"""
_MAX_COLUMNS = 2000
_HIDDEN = 1  # of a virtual table; generated columns are 2 and 3


def listing(connection: sqlite3.Connection, table: str | None, window: Window) -> Listing:
    """Tables and views by name."""
    (total,) = _rows(connection, f"SELECT count(*) {_TABLES}", table)[0]
    page = "ORDER BY name LIMIT ?2 OFFSET ?3"
    found = _rows(
        connection,
        f"SELECT type, name, sql {_TABLES} {page}",
        table,
        window.limit,
        window.offset,
    )
    guesses = _estimates(connection)
    tables = []
    for kind, name, sql in found:
        described: JsonObject = {"name": name, "kind": kind, "rows_estimate": guesses.get(name)}
        tables.append(described | _details(connection, name, kind))
        if table is not None:
            tables[-1]["definition"] = sql or ""
    return Listing(tables, total)


def _details(connection: sqlite3.Connection, name: str, kind: str) -> JsonObject:
    try:
        columns = [
            {
                "name": column,
                "type": declared,
                "nullable": not required and not key,
                "default": default,
                "primary_key": key > 0,
            }
            for _, column, declared, required, default, key, hidden in _rows(
                connection, "SELECT * FROM pragma_table_xinfo(?)", name
            )
            if hidden != _HIDDEN
        ]
    except sqlite3.DatabaseError as error:  # a view of what is gone, a module that is not there
        return {"columns": [], "indexes": [], "foreign_keys": [], "note": str(error)}
    if kind == "view":
        return {"columns": columns, "indexes": [], "foreign_keys": []}
    return {
        "columns": columns,
        "indexes": _indexes(connection, name),
        "foreign_keys": _foreign_keys(connection, name),
    }


def _indexes(connection: sqlite3.Connection, table: str) -> list[JsonObject]:
    listed = _rows(connection, 'SELECT name, "unique" FROM pragma_index_list(?)', table)
    return [
        {
            "name": name,
            "unique": bool(unique),
            "columns": [
                column or "(expression)"
                for (column,) in _rows(connection, "SELECT name FROM pragma_index_info(?)", name)
            ],
        }
        for name, unique in listed
    ]


def _foreign_keys(connection: sqlite3.Connection, table: str) -> list[JsonObject]:
    sql = 'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq'
    keys: dict[int, JsonObject] = {}
    for number, target, column, referenced in _rows(connection, sql, table):
        empty: JsonObject = {"columns": [], "references": target, "referenced_columns": []}
        key = keys.setdefault(number, empty)
        key["columns"].append(column)
        key["referenced_columns"] += [referenced] if referenced else []
    return list(keys.values())


def _estimates(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows per table as the last ANALYZE left them."""
    try:
        found = _rows(connection, "SELECT tbl, stat FROM sqlite_stat1")
    except sqlite3.DatabaseError:
        return {}
    estimates: dict[str, int] = {}
    for table, stat in found:
        count = str(stat).split(" ")[0]
        if count.isdecimal():
            estimates[str(table)] = max(int(count[:18]), estimates.get(str(table), 0))
    return estimates


def _rows(connection: sqlite3.Connection, sql: str, *values: Any) -> Sequence[Any]:
    return connection.execute(sql, values).fetchmany(_MAX_COLUMNS)
