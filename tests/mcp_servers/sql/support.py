"""The sql server with databases of a test's own, and hostile statements for all of them."""

from __future__ import annotations

import json
import sqlite3
import sys
import sysconfig
from pathlib import Path
from typing import Any

import duckdb

from tests.mcp_servers.client import FOLDER, RawClient

PACKAGES = [sysconfig.get_path("purelib")]

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
"""A query without end in every dialect."""


def sql_server(*databases: dict[str, Any]) -> RawClient:
    """The server over these databases, started the way the sandbox starts it."""
    config = json.dumps({"databases": databases, "packages": PACKAGES})
    return RawClient([sys.executable, "-I", "-S", str(FOLDER), "sql", "--config", config])


def shop(path: Path) -> Path:
    """A SQLite file with a table, a view, an index and a reference."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', price REAL);
            CREATE TABLE sale (shop INTEGER REFERENCES shop (id), at TEXT);
            CREATE VIEW cheap AS SELECT * FROM shop WHERE price < 2;
            CREATE UNIQUE INDEX by_name ON shop (name);
            INSERT INTO shop VALUES (1, 'Ann', 1.5), (2, 'Bob', 2.5), (3, 'Cem', NULL);
            ANALYZE;
            """
        )
    connection.close()
    return path


def duck_shop(path: Path) -> Path:
    """The same as a DuckDB file."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            """
            CREATE TABLE shop (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, price DECIMAL(9, 2));
            CREATE VIEW cheap AS SELECT * FROM shop WHERE price < 2;
            CREATE INDEX by_name ON shop (name);
            INSERT INTO shop VALUES (1, 'Ann', 1.5), (2, 'Bob', 2.5), (3, 'Cem', NULL);
            """
        )
    return path


def rows(client: RawClient, sql: str, *parameters: Any, **more: Any) -> list[list[Any]]:
    """What a query gives; the only database is ``db``."""
    arguments = {"database": "db", "sql": sql, "parameters": list(parameters), **more}
    result = client.call("query", **arguments)
    assert not result.get("isError"), result["content"][0]["text"]
    found: list[list[Any]] = result["structuredContent"]["rows"]
    return found


def refused(client: RawClient, sql: str, *parameters: Any) -> str:
    """What is said of a query that must fail."""
    return client.fault("query", database="db", sql=sql, parameters=list(parameters))
