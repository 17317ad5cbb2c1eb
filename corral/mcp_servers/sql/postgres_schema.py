"""What is in a PostgreSQL database, from the catalogue; only what the role may see."""

from __future__ import annotations

from typing import Any

import psycopg

from corral.mcp_servers.sql.engine import Listing
from corral.mcp_servers.sql.values import Window
from corral.mcp_servers.tool import JsonObject

_Connection = psycopg.Connection[tuple[Any, ...]]

_MAX_COLUMNS = 2000
_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}
_FOUND = """
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    AND ($1::text IS NULL OR c.relname = $1 OR n.nspname || '.' || c.relname = $1)
"""
_TABLES = f"""
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples, obj_description(c.oid, 'pg_class'),
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) ELSE '' END
    {_FOUND} ORDER BY n.nspname, c.relname LIMIT $2 OFFSET $3
"""
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
    pg_get_expr(d.adbin, d.adrelid),
    EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY(i.indkey)
    )
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_INDEXES = """
    SELECT c.relname, i.indisunique, array(
        SELECT pg_get_indexdef(i.indexrelid, n, true) FROM generate_series(1, i.indnkeyatts) n
    )
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 ORDER BY 1
"""
_FOREIGN_KEYS = """
    SELECT k.confrelid::regclass::text,
    array(
        SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS u(num, n)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.n
    ),
    array(
        SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY AS u(num, n)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.n
    )
    FROM pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'f' ORDER BY k.conname
"""


def listing(connection: _Connection, table: str | None, window: Window) -> Listing:
    """Tables and views by schema and name."""
    ((total,),) = _rows(connection, f"SELECT count(*) {_FOUND}", table)
    tables = []
    for oid, schema, name, kind, rows, comment, definition in _rows(
        connection, _TABLES, table, window.limit, window.offset
    ):
        described: JsonObject = {"schema": schema, "name": name, "kind": _KINDS[kind]}
        described["rows_estimate"] = round(rows) if rows >= 0 else None
        described |= _details(connection, oid) | ({"comment": comment} if comment else {})
        tables.append(described | ({"definition": definition} if table is not None else {}))
    return Listing(tables, total)


def _details(connection: _Connection, table: int) -> JsonObject:
    return {
        "columns": [
            {
                "name": name,
                "type": declared,
                "nullable": nullable,
                "default": default,
                "primary_key": primary,
            }
            for name, declared, nullable, default, primary in _rows(connection, _COLUMNS, table)
        ],
        "indexes": [
            {"name": name, "unique": unique, "columns": columns}
            for name, unique, columns in _rows(connection, _INDEXES, table)
        ],
        "foreign_keys": [
            {"columns": columns, "references": target, "referenced_columns": referenced}
            for target, columns, referenced in _rows(connection, _FOREIGN_KEYS, table)
        ],
    }


def _rows(connection: _Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(sql.encode(), values).fetchmany(_MAX_COLUMNS)
