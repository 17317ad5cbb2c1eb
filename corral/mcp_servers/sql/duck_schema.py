"""What is in a DuckDB file, from its own catalogue functions."""

from __future__ import annotations

from typing import Any

import duckdb

from corral.mcp_servers.sql.engine import Listing
from corral.mcp_servers.sql.values import Window
from corral.mcp_servers.tool import JsonObject

_MAX_COLUMNS = 2000
_FOUND = """
    FROM (
        SELECT schema_name, table_name AS name, 'table' AS kind, estimated_size AS rows, sql
        FROM duckdb_tables() WHERE NOT internal AND database_name = current_database()
        UNION ALL
        SELECT schema_name, view_name, 'view', NULL, sql
        FROM duckdb_views() WHERE NOT internal AND database_name = current_database()
    )
    WHERE $1 IS NULL OR lower(name) = lower($1) OR lower(schema_name || '.' || name) = lower($1)
"""
_COLUMNS = """
    SELECT column_name, data_type, is_nullable, column_default FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = $1 AND table_name = $2
    ORDER BY column_index
"""
_CONSTRAINTS = """
    SELECT constraint_type, constraint_column_names, referenced_table, referenced_column_names
    FROM duckdb_constraints()
    WHERE database_name = current_database() AND schema_name = $1 AND table_name = $2
"""
_INDEXES = """
    SELECT index_name, is_unique, expressions FROM duckdb_indexes()
    WHERE database_name = current_database() AND schema_name = $1 AND table_name = $2
"""


def listing(connection: duckdb.DuckDBPyConnection, table: str | None, window: Window) -> Listing:
    """Tables and views by schema and name."""
    ((total,),) = _rows(connection, f"SELECT count(*) {_FOUND}", table)
    page = "ORDER BY schema_name, name LIMIT $2 OFFSET $3"
    found = _rows(connection, f"SELECT * {_FOUND} {page}", table, window.limit, window.offset)
    tables = []
    for schema, name, kind, rows, sql in found:
        described: JsonObject = {"schema": schema, "name": name, "kind": kind}
        described |= {"rows_estimate": rows} | _details(connection, schema, name)
        tables.append(described | ({"definition": sql or ""} if table is not None else {}))
    return Listing(tables, total)


def _details(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> JsonObject:
    constraints = _rows(connection, _CONSTRAINTS, schema, table)
    primary = {name for kind, names, *_ in constraints if kind == "PRIMARY KEY" for name in names}
    return {
        "columns": [
            {
                "name": name,
                "type": declared,
                "nullable": bool(nullable),
                "default": default,
                "primary_key": name in primary,
            }
            for name, declared, nullable, default in _rows(connection, _COLUMNS, schema, table)
        ],
        "indexes": [
            {"name": name, "unique": bool(unique), "columns": _parts(expressions)}
            for name, unique, expressions in _rows(connection, _INDEXES, schema, table)
        ],
        "foreign_keys": [
            {"columns": columns, "references": target, "referenced_columns": referenced}
            for kind, columns, target, referenced in constraints
            if kind == "FOREIGN KEY"
        ],
    }


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[Any]:
    return connection.execute(sql, values).fetchmany(_MAX_COLUMNS)


def _parts(expressions: object) -> list[str]:
    """The columns of an index, which DuckDB gives as the text of a list."""
    return [part.strip(" '\"") for part in str(expressions).strip("[]").split(",")]
