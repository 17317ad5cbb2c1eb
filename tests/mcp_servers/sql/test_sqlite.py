"""SQLite files through the sql server: what is read, what is refused, and what hostile files do."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.mcp_servers.client import ENVELOPE, RawClient
from tests.mcp_servers.sql.support import ENDLESS, refused, rows, shop, sql_server
from tests.sandbox.inside import wait_until

REFUSED = (
    "INSERT INTO shop (id) VALUES (9)",
    "UPDATE shop SET name = 'x'",
    "DELETE FROM shop RETURNING id",
    "DROP TABLE shop",
    "CREATE TABLE more (x)",
    "CREATE TEMP TABLE more (x)",
    "ATTACH 'other.db' AS other",
    "ATTACH ':memory:' AS other",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT x",
    "REINDEX",
    "ANALYZE",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA hard_heap_limit = 0",
    "PRAGMA temp_store_directory = '.'",
    "PRAGMA user_version = 7",
    "SELECT load_extension('x')",
    "SELECT 1; SELECT 2",
    "UPDATE sqlite_master SET sql = 'x'",
    "EXPLAIN DELETE FROM shop",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return shop(tmp_path / "it's a shop?.db")


@pytest.fixture
def client(file: Path) -> Iterator[RawClient]:
    with sql_server({"name": "db", "path": str(file), "timeout": 5}) as made:
        yield made


@pytest.fixture
def patient(file: Path) -> Iterator[RawClient]:
    with sql_server({"name": "db", "path": str(file), "timeout": 100}) as made:
        yield made


@pytest.fixture
def writer(file: Path) -> Iterator[RawClient]:
    with sql_server({"name": "db", "path": str(file), "write": True, "timeout": 5}) as made:
        yield made


def run(client: RawClient, *statements: str | tuple[str, list[Any]]) -> list[dict[str, Any]]:
    made = [(one, []) if isinstance(one, str) else one for one in statements]
    asked = [{"sql": sql, "parameters": values} for sql, values in made]
    result = client.call("execute", database="db", statements=asked)
    assert not result.get("isError"), result["content"][0]["text"]
    found: list[dict[str, Any]] = result["structuredContent"]["results"]
    return found


def test_tools_say_what_they_do(client: RawClient, writer: RawClient) -> None:
    listed = {tool["name"]: tool for tool in client.request("tools/list")["result"]["tools"]}
    assert set(listed) == {"list_databases", "schema", "query", "explain"}
    assert all(tool["annotations"]["readOnlyHint"] for tool in listed.values())
    assert all("outputSchema" in tool for tool in listed.values())
    more = {tool["name"]: tool for tool in writer.request("tools/list")["result"]["tools"]}
    assert more["execute"]["annotations"]["destructiveHint"]
    assert client.text("list_databases") == "db (sqlite)"
    assert writer.text("list_databases") == "db (sqlite, writable)"


def test_the_schema(client: RawClient) -> None:
    result = client.call("schema", database="db")["structuredContent"]
    tables = {table["name"]: table for table in result["tables"]}
    assert result["total"] == 3
    assert tables["cheap"]["kind"] == "view"
    table = tables["shop"]
    assert table["rows_estimate"] == 3
    assert table["columns"][1] == {
        "name": "name",
        "type": "TEXT",
        "nullable": False,
        "default": "'x'",
        "primary_key": False,
    }
    assert table["indexes"] == [{"name": "by_name", "unique": True, "columns": ["name"]}]
    (key,) = tables["sale"]["foreign_keys"]
    assert key == {"columns": ["shop"], "references": "shop", "referenced_columns": ["id"]}
    one = client.call("schema", database="db", table="CHEAP")["structuredContent"]
    assert one["tables"][0]["definition"].startswith("CREATE VIEW cheap")
    paged = client.call("schema", database="db", offset=1, limit=1)["structuredContent"]
    assert (paged["tables"][0]["name"], paged["next_offset"]) == ("sale", 2)
    assert "no table 'none'" in client.fault("schema", database="db", table="none")


def test_a_query_and_its_pages(client: RawClient) -> None:
    result = client.call(
        "query", database="db", sql="SELECT * FROM shop WHERE id > ? ORDER BY id", parameters=[1]
    )
    assert result["structuredContent"] == {
        "columns": [
            {"name": "id", "type": "integer"},
            {"name": "name", "type": "text"},
            {"name": "price", "type": "real"},
        ],
        "rows": [[2, "Bob", 2.5], [3, "Cem", None]],
        "shortened_cells": 0,
        "next_offset": None,
    }
    assert result["content"][0]["text"].splitlines()[1] == '[2, "Bob", 2.5]'
    first = client.call("query", database="db", sql="SELECT id FROM shop ORDER BY id", limit=2)
    assert first["structuredContent"]["next_offset"] == 2
    assert "offset=2" in first["content"][0]["text"]
    assert rows(client, "SELECT id FROM shop ORDER BY id", offset=2) == [[3]]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_would_change_anything_is_refused(client: RawClient, file: Path, sql: str) -> None:
    before = file.read_bytes()
    refused(client, sql)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_values_that_json_has_no_word_for(client: RawClient) -> None:
    sql = "SELECT 9e999, -9e999, x'00ff', 9007199254740993, CAST(x'ff61' AS TEXT), '\x1b[31m'"
    assert rows(client, sql) == [
        ["Infinity", "-Infinity", "\\x00ff", "9007199254740993", "�a", "\x1b[31m"]
    ]
    assert rows(client, "SELECT ?, ?, ?, ?", 1, 1.5, "it's", None) == [[1, 1.5, "it's", None]]
    assert "must be of type string" in refused(client, "SELECT ?", {"a": 1})
    assert "a list of these" in refused(client, "SELECT ?", [{"a": 1}])


def test_long_cells_and_long_results_are_bounded(client: RawClient) -> None:
    long = client.call("query", database="db", sql="SELECT printf('%.*c', 1000000, 'x')")
    assert long["structuredContent"]["shortened_cells"] == 1
    assert len(long["structuredContent"]["rows"][0][0]) < 5000
    many = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1000) "
    result = client.call(
        "query", database="db", sql=f"{many}SELECT printf('%.*c', 3000, 'x') FROM r", limit=1000
    )["structuredContent"]
    assert 10 < len(result["rows"]) < 100
    assert result["next_offset"] == len(result["rows"])


@pytest.mark.parametrize("sql", [ENDLESS, "SELECT count(*) FROM pragma_function_list a, b, b c"])
def test_a_query_without_end_is_stopped(file: Path, sql: str) -> None:
    sql = sql.replace(" b", " pragma_function_list b", 1).replace("b c", "pragma_function_list c")
    with sql_server({"name": "db", "path": str(file), "timeout": 0.5}) as client:
        rows(client, "SELECT 1")
        begun = time.monotonic()
        assert "not done after 0.5 s" in refused(client, sql)
        assert time.monotonic() - begun < 3
        assert rows(client, "SELECT 1") == [[1]]


@pytest.mark.slow
def test_what_cannot_be_interrupted_is_ended(file: Path) -> None:
    with sql_server({"name": "db", "path": str(file), "timeout": 0.5}) as client:
        pattern = f"%{'a' * 900}b%"  # one step of SQLite's machine, of a minute or more
        sql = "SELECT printf('%.*c', 15000000, 'a') LIKE ?"
        assert "not done after 0.5 s" in refused(client, sql, pattern)
        assert rows(client, "SELECT 1") == [[1]]


def test_cancelling_stops_the_statement(client: RawClient) -> None:
    assert rows(client, "SELECT 1") == [[1]]
    number = client.send(
        "tools/call", {"name": "query", "arguments": {"database": "db", "sql": ENDLESS}}
    )
    client.notify("notifications/cancelled", {"requestId": number})
    begun = time.monotonic()
    assert rows(client, "SELECT 1") == [[1]]  # the next message answers this one
    assert time.monotonic() - begun < 4


def test_progress_is_reported_to_who_asks(file: Path) -> None:
    with sql_server({"name": "db", "path": str(file), "timeout": 0.5}) as client:
        params = {"name": "query", "arguments": {"database": "db", "sql": ENDLESS}}
        body = {**params, "_meta": {**ENVELOPE, "progressToken": "t"}}
        message = {"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": body}
        client.write(json.dumps(message).encode() + b"\n")
        first = client.receive()
        assert (first["method"], first["params"]["progressToken"]) == (
            "notifications/progress",
            "t",
        )
        while client.receive().get("id") != "x":
            pass


def test_calls_at_the_same_time(client: RawClient) -> None:
    asked = {"name": "query", "arguments": {"database": "db", "sql": "SELECT count(*) FROM shop"}}
    numbers = {client.send("tools/call", asked) for _ in range(12)}
    answers = [client.receive() for _ in numbers]
    assert {answer["id"] for answer in answers} == numbers
    assert all(one["result"]["structuredContent"]["rows"] == [[3]] for one in answers)


def test_a_library_that_crashes_is_started_again(patient: RawClient) -> None:
    assert rows(patient, "SELECT 1") == [[1]]
    asked = {"name": "query", "arguments": {"database": "db", "sql": ENDLESS}}
    patient.send("tools/call", asked)
    server = patient.process.pid
    tasks = Path(f"/proc/{server}/task").iterdir()
    (worker,) = [one for task in tasks for one in (task / "children").read_text().split()]
    used = psutil.Process(int(worker)).cpu_times
    before = used().user
    wait_until(lambda: used().user > before + 0.2, "the query, which never rests")
    os.kill(int(worker), signal.SIGKILL)
    said = patient.receive()["result"]["content"][0]["text"]
    assert "killed by SIGKILL" in said
    assert rows(patient, "SELECT 1") == [[1]]


def test_the_workers_end_with_the_server(file: Path) -> None:
    with sql_server({"name": "db", "path": str(file)}) as client:
        assert rows(client, "SELECT 1") == [[1]]
        client.send(
            "tools/call", {"name": "query", "arguments": {"database": "db", "sql": ENDLESS}}
        )
        assert _processes_with(file)
        client.process.kill()
        client.process.wait()
        wait_until(lambda: not _processes_with(file), "the end of the workers")


def _processes_with(file: Path) -> list[str]:
    """The processes in whose command line the file stands."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and str(file) in (entry / "cmdline").read_text():
                found.append(entry.name)
    return found


@pytest.mark.slow
def test_memory_is_bounded(patient: RawClient) -> None:
    many = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1000) "
    sql = f"{many}SELECT randomblob(1000000) FROM r UNION SELECT randomblob(1000000) FROM r"
    assert "memory" in refused(patient, sql)
    assert "too big" in refused(patient, "SELECT zeroblob(100000000)")


def test_changes_are_all_or_nothing(writer: RawClient) -> None:
    done = run(
        writer,
        ("INSERT INTO shop VALUES (?, ?, ?)", [4, "Dee", 1]),
        "UPDATE shop SET price = 9 WHERE id > 2 RETURNING id",
        "CREATE TABLE made (x)",
    )
    assert [one["affected"] for one in done] == [1, 2, None]
    assert sorted(done[1]["rows"]) == [[3], [4]]
    wrong = [{"sql": "DELETE FROM shop"}, {"sql": "INSERT INTO shop (id) VALUES (1), (1)"}]
    assert "UNIQUE" in writer.fault("execute", database="db", statements=wrong)
    assert rows(writer, "SELECT count(*) FROM shop") == [[4]]
    for sql in ("COMMIT", "ATTACH 'x' AS y", "PRAGMA writable_schema = 1", "SAVEPOINT x"):
        asked = [{"sql": "DELETE FROM shop"}, {"sql": sql}]
        assert "not granted" in writer.fault("execute", database="db", statements=asked)
    assert rows(writer, "SELECT count(*) FROM shop") == [[4]]


def test_a_writable_database_is_only_read_by_a_query(writer: RawClient) -> None:
    refused(writer, "DELETE FROM shop")
    assert rows(writer, "SELECT count(*) FROM shop") == [[3]]


def test_a_change_that_takes_too_long_changes_nothing(file: Path) -> None:
    database = {"name": "db", "path": str(file), "write": True, "timeout": 0.5}
    with sql_server(database) as client:
        asked = [{"sql": "DELETE FROM shop"}, {"sql": ENDLESS}]
        said = client.fault("execute", database="db", statements=asked)
        assert "Nothing was changed" in said
        assert rows(client, "SELECT count(*) FROM shop") == [[3]]


def test_somebody_elses_lock_is_waited_for_and_told(file: Path) -> None:
    with (
        sql_server({"name": "db", "path": str(file), "timeout": 0.5}) as client,
        closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        assert "Another process holds" in refused(client, "SELECT * FROM shop")
        other.execute("COMMIT")
        assert rows(client, "SELECT count(*) FROM shop") == [[3]]


def test_a_live_log_is_read(client: RawClient, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("INSERT INTO shop VALUES (4, 'Dee', 1)")
        assert rows(client, "SELECT count(*) FROM shop") == [[4]]
        live.execute("INSERT INTO shop VALUES (5, 'Eve', 1)")
        assert rows(client, "SELECT count(*) FROM shop") == [[5]]
    assert rows(client, "SELECT count(*) FROM shop") == [[5]]


@pytest.mark.parametrize("at", [20, 100, 4096])
def test_a_damaged_file_is_told(tmp_path: Path, at: int) -> None:
    file = shop(tmp_path / "damaged.db")
    data = bytearray(file.read_bytes())
    data[at:] = b"\xff" * len(data[at:])
    file.write_bytes(data)
    with sql_server({"name": "db", "path": str(file)}) as client:
        assert refused(client, "SELECT * FROM shop, sale")
        client.call("schema", database="db")
        assert "SELECT" not in client.text("list_databases")


def test_names_that_try_to_be_more(tmp_path: Path) -> None:
    name = "a\"; DROP TABLE x; --\nview [evil] 't'"
    quoted = name.replace('"', '""')
    with closing(sqlite3.connect(tmp_path / "odd.db")) as made:
        made.execute(f'CREATE TABLE "{quoted}" ("{quoted}" TEXT, x)')
        made.execute("CREATE VIEW broken AS SELECT * FROM nowhere")
        made.commit()
    with sql_server({"name": "db", "path": str(tmp_path / "odd.db")}) as client:
        result = client.call("schema", database="db")
        table, broken = result["structuredContent"]["tables"]
        assert table["name"] == table["columns"][0]["name"] == name
        assert "nowhere" in broken["note"]
        lines = result["content"][0]["text"].splitlines()
        assert not any(line.startswith("view [evil]") for line in lines)


def test_a_huge_schema_comes_in_bounded_pages(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "huge.db")) as made:
        columns = ", ".join(f"column_{n}" for n in range(1500))
        for number in range(300):
            made.execute(f"CREATE TABLE t{number:03} ({columns if number < 3 else 'x'})")
        made.commit()
    with sql_server({"name": "db", "path": str(tmp_path / "huge.db")}) as client:
        seen, offset = [], 0
        while offset is not None:
            result = client.call("schema", database="db", offset=offset, limit=200)
            assert len(result["content"][0]["text"]) < 200_000
            page = result["structuredContent"]
            seen += [table["name"] for table in page["tables"]]
            offset = page["next_offset"]
        assert seen == [f"t{number:03}" for number in range(300)]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with sql_server(
        {"name": "db", "path": str(tmp_path / "none.db")},
        {"name": "text", "path": str(tmp_path / "text.db")},
        {"name": "new", "path": str(tmp_path / "new.db"), "kind": "sqlite", "write": True},
    ) as client:
        assert "no file" in refused(client, "SELECT 1")
        assert "not a database" in client.fault("query", database="text", sql="SELECT * FROM x")
        assert client.fault("query", database="nope", sql="SELECT 1")
        assert not list(tmp_path.glob("none.db*"))
        asked = [{"sql": "CREATE TABLE x (y)"}]
        assert client.text("execute", database="new", statements=asked) == "1: done"
    with sql_server() as client:
        assert "[sql.NAME]" in client.text("list_databases")
