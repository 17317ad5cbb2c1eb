"""DuckDB files through the sql server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp_servers.client import RawClient
from tests.mcp_servers.sql.support import ENDLESS, duck_shop, refused, rows, sql_server

REFUSED = (
    "INSERT INTO shop VALUES (9, 'x', 1)",
    "DELETE FROM shop RETURNING id",
    "CREATE TEMP TABLE more AS SELECT 1",
    "DROP TABLE shop",
    "ATTACH 'other.duckdb'",
    "COPY shop TO 'out.csv'",
    "EXPORT DATABASE 'out'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '8GB'",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CHECKPOINT",
    "BEGIN",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT content FROM read_text('/etc/passwd')",
    "SELECT * FROM read_parquet('https://example.com/x')",
    "SELECT 1; SELECT 2",
    "EXPLAIN ANALYZE DELETE FROM shop",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return duck_shop(tmp_path / "it's a shop.duckdb")


@pytest.fixture
def client(file: Path) -> Iterator[RawClient]:
    with sql_server({"name": "db", "path": str(file), "timeout": 100}) as made:
        yield made


def test_schema_query_and_explain(client: RawClient) -> None:
    assert client.text("list_databases") == "db (duckdb)"
    result = client.call("schema", database="db")["structuredContent"]
    view, table = result["tables"]
    assert (view["name"], view["kind"], table["rows_estimate"]) == ("cheap", "view", 3)
    assert [column["type"] for column in table["columns"]] == ["INTEGER", "VARCHAR", "DECIMAL(9,2)"]
    assert table["columns"][0]["primary_key"]
    assert table["indexes"][0] == {"name": "by_name", "unique": False, "columns": ["name"]}
    assert rows(client, "SELECT * FROM shop WHERE id > ? ORDER BY id", 1) == [
        [2, "Bob", "2.50"],
        [3, "Cem", None],
    ]
    assert rows(client, "SELECT id FROM shop ORDER BY id", offset=1, limit=1) == [[2]]
    assert "shop" in client.text("explain", database="db", sql="SELECT * FROM shop WHERE id = 1")


@pytest.mark.slow
@pytest.mark.parametrize("sql", REFUSED)
def test_what_would_do_more_than_read_is_refused(client: RawClient, file: Path, sql: str) -> None:
    before = file.read_bytes()
    refused(client, sql)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_values_that_json_has_no_word_for(client: RawClient) -> None:
    sql = """
        SELECT 'nan'::DOUBLE, '-infinity'::DOUBLE, 'infinity'::TIMESTAMP, 'infinity'::DATE,
        DATE '2020-02-03', INTERVAL '3 days 4 hours', '\\xAA'::BLOB, [1, NULL], {'a': 1},
        MAP {'k': 1.5::DOUBLE}, 170141183460469231731687303715884105727::HUGEINT, '{"a":1}'::JSON,
        TIME '10:00', '290000-01-01'::DATE, 0.1::DECIMAL(3, 2)
    """
    assert rows(client, sql) == [
        [
            *("NaN", "-Infinity", "infinity", "infinity"),
            *("2020-02-03", "3 days 4:00:00", "\\xaa", [1, None], {"a": 1}),
            *({"k": 1.5}, "170141183460469231731687303715884105727", '{"a":1}'),
            *("10:00:00", "290000-01-01", "0.10"),
        ]
    ]


@pytest.mark.slow
def test_bombs_end_and_leave_a_server_that_answers(file: Path) -> None:
    with sql_server({"name": "db", "path": str(file), "timeout": 1}) as client:
        assert rows(client, "SELECT 1") == [[1]]
        for sql in (ENDLESS, "SELECT count(*) FROM range(10000000000) a, range(1000) b"):
            begun = time.monotonic()
            assert "not done after 1 s" in refused(client, sql)
            assert time.monotonic() - begun < 5
        assert rows(client, "SELECT 1") == [[1]]


def test_memory_is_bounded(client: RawClient) -> None:
    assert "emory" in refused(client, "SELECT a FROM range(100000000) t(a) ORDER BY a DESC")
    assert rows(client, "SELECT 1") == [[1]]


def test_changes_are_all_or_nothing(file: Path) -> None:
    with sql_server({"name": "db", "path": str(file), "write": True}) as client:
        asked = [
            {"sql": "INSERT INTO shop VALUES (?, ?, 1)", "parameters": [4, "Dee"]},
            {"sql": "UPDATE shop SET price = 9 WHERE id > 2 RETURNING id"},
            {"sql": "CREATE TABLE made (x INTEGER)"},
        ]
        result = client.call("execute", database="db", statements=asked)["structuredContent"]
        assert [one["affected"] for one in result["results"]] == [1, 2, None]
        wrong = [{"sql": "DELETE FROM shop"}, {"sql": "COMMIT"}]
        assert "not allowed" in client.fault("execute", database="db", statements=wrong)
        wrong = [{"sql": "DELETE FROM shop"}, {"sql": "COPY shop TO 'x.csv'"}]
        assert "not allowed" in client.fault("execute", database="db", statements=wrong)
        assert rows(client, "SELECT count(*) FROM shop") == [[4]]
        refused(client, "DELETE FROM shop")


def test_somebody_who_writes_is_named(client: RawClient, file: Path) -> None:
    code = f"import duckdb; c = duckdb.connect({str(file)!r}); print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert "Another process" in refused(client, "SELECT 1")
        writer.communicate(b"\n")
    assert rows(client, "SELECT count(*) FROM shop") == [[3]]


@pytest.mark.parametrize("at", [16, 4096, 8192, 12288])
def test_a_damaged_file_is_told(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at:] = b"\xff" * len(data[at:])
    file.write_bytes(data)
    with sql_server({"name": "db", "path": str(file)}) as client:
        assert refused(client, "SELECT * FROM shop")
        assert client.text("list_databases") == "db (duckdb)"
