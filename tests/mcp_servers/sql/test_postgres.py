"""PostgreSQL through the sql server: in the sandbox, behind the proxy and the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from corral.sandbox.registry import select_backend
from corral.tools.builder import builtin_provider
from corral.tools.contract import CallOptions, ToolProvider, ToolResult
from corral.tools.settings import BuiltinSettings, SqlSettings
from tests.mcp_servers.sql.pg import ESCAPED, PASSWORD, Postgres
from tests.mcp_servers.sql.support import ENDLESS

REFUSED = {
    "DELETE FROM shop": "syntax error",
    "SELECT 1; DELETE FROM shop": "multiple commands",
    "SELECT 1; COMMIT; DELETE FROM shop": "multiple commands",
    "WITH d AS (DELETE FROM shop RETURNING *) SELECT * FROM d": "data-modifying",
    "SELECT * INTO copied FROM shop": "INTO",
    "SELECT * FROM shop FOR UPDATE": "FOR UPDATE",
    "COPY shop TO PROGRAM 'id'": "syntax error",
    "COPY (SELECT 1) TO '/tmp/x'": "syntax error",
    "DO $$ BEGIN DELETE FROM shop; END $$": "syntax error",
    "CALL x()": "syntax error",
    "SET default_transaction_read_only = off": "syntax error",
    "COMMIT": "syntax error",
    "LOAD 'x'": "syntax error",
    "LOCK shop": "syntax error",
    "NOTIFY x": "syntax error",
    "SELECT adds()": "read-only transaction",
    "SELECT does('COMMIT')": "not implemented",
    "SELECT does('SET TRANSACTION READ WRITE')": "before any query",
    "SELECT does('CREATE TEMP TABLE x (y int) ON COMMIT DROP; DELETE FROM shop')": "read-only",
    "SELECT does('COPY shop TO PROGRAM ''id''')": "pg_execute_server_program",
    "SELECT nextval('numbers')": "read-only transaction",
    "SELECT setval('numbers', 9)": "read-only transaction",
    "SELECT set_config('transaction_read_only', 'off', true), adds()": "before any query",
    "SELECT set_config('default_transaction_read_only', 'off', false), adds()": "read-only",
    "SELECT pg_read_file('/etc/passwd')": "permission denied",
    "SELECT lo_export(1, '/tmp/x')": "permission denied",
    "SELECT pg_reload_conf()": "permission denied",
    "SELECT * FROM hidden": "permission denied",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@asynccontextmanager
async def sql(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, url: str, **fields: Any
) -> AsyncIterator[ToolProvider]:
    monkeypatch.setenv("TEST_DATABASE_URL", url)
    entry = SqlSettings.model_validate({"url_env": "TEST_DATABASE_URL", **fields})
    settings = BuiltinSettings(sql={"db": entry})
    provider = builtin_provider("sql", select_backend(), workspace, settings)
    try:
        yield provider
    finally:
        await provider.aclose()


async def call(provider: ToolProvider, tool: str, **arguments: Any) -> ToolResult:
    return await provider.call(tool, {"database": "db", **arguments}, CallOptions("key", 60.0))


async def rows(provider: ToolProvider, statement: str, *parameters: Any) -> list[Any]:
    result = await call(provider, "query", sql=statement, parameters=list(parameters))
    assert not result.is_error, result.text
    assert isinstance(result.structured, dict)
    found: list[Any] = result.structured["rows"]
    return found


async def refused(provider: ToolProvider, statement: str) -> str:
    result = await call(provider, "query", sql=statement)
    assert result.is_error, result.text
    return result.text


async def test_schema_query_and_explain(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url(sslmode="require")) as provider:
        found = (await call(provider, "schema")).structured
        assert isinstance(found, dict)
        tables = {table["name"]: table for table in found["tables"]}
        assert set(tables) == {"shop", "sale", "cheap"}
        assert tables["cheap"]["kind"] == "view"
        shop = tables["shop"]
        assert (shop["schema"], shop["rows_estimate"], shop["comment"]) == (
            "public",
            2,
            "all shops",
        )
        assert [one["type"] for one in shop["columns"]] == [
            *("integer", "text", "numeric(9,2)", "timestamp with time zone"),
        ]
        assert shop["columns"][0]["primary_key"]
        assert shop["indexes"] == [{"name": "shop_pkey", "unique": True, "columns": ["id"]}]
        assert tables["sale"]["foreign_keys"][0]["references"] == "shop"
        wanted = [[1, "Ann", "1.50", "infinity"]]
        assert await rows(provider, "SELECT * FROM shop WHERE id = $1", 1) == wanted
        plan = await call(
            provider, "explain", sql="SELECT * FROM shop WHERE id = $1", parameters=[1]
        )
        assert "shop" in plan.text
        assert (await call(provider, "explain", sql="ANALYZE DELETE FROM shop")).is_error


async def test_whatever_a_query_tries_nothing_changes(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url()) as provider:
        for statement, sign in REFUSED.items():
            assert sign in await refused(provider, statement), statement
        assert await rows(provider, "SELECT count(*) FROM shop") == [[2]]
    assert pg.run("SELECT count(*) FROM pg_tables WHERE tablename = 'copied'") == [(0,)]


async def test_nothing_stays_between_calls(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url()) as provider:
        await rows(provider, "SELECT pg_advisory_lock(7), set_config('search_path', 'x', false)")
        await rows(provider, "SELECT lo_create(0)")
        assert pg.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
        assert pg.run("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]
        assert await rows(provider, "SELECT current_setting('search_path')") == [
            ['"$user", public'],
        ]


async def test_values_of_every_kind(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = """
        SELECT 'NaN'::float8, '-infinity'::float4, 'NaN'::numeric, 12345678901234567890.5::numeric,
        '\\x00ff'::bytea, '{"a": [1]}'::jsonb, '{1,NULL}'::int[], '{1.5}'::numeric[],
        'infinity'::timestamptz, '4714-11-24 BC'::date, '1 year 2 days'::interval,
        'good'::mood, row(1, 'x'), int4range(1, 5), '127.0.0.1'::inet, true, NULL,
        9007199254740993::int8, '24:00'::time
    """
    async with sql(workspace, monkeypatch, pg.url()) as provider:
        assert await rows(provider, statement) == [
            [
                *("NaN", "-Infinity", "NaN", "12345678901234567890.5"),
                *("\\x00ff", '{"a": [1]}', [1, None], ["1.5"]),
                *("infinity", "4714-11-24 BC", "1 year 2 days"),
                *("good", ["1", "x"], "[1, 5)", "127.0.0.1", True, None),
                *("9007199254740993", "24:00:00"),
            ]
        ]
        result = await call(provider, "query", sql="SELECT 'good'::mood AS m, 1 AS n")
        assert isinstance(result.structured, dict)
        assert [one["type"] for one in result.structured["columns"]] == ["mood", "int4"]
        given = await rows(provider, "SELECT $1::int + 1, $2, $3::text[]", 41, "it's", ["a"])
        assert given == [[42, "it's", ["a"]]]


@pytest.mark.slow
async def test_statements_are_stopped_at_the_server(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url(), timeout=1) as provider:
        for statement in ("SELECT pg_sleep(60)", ENDLESS):
            begun = time.monotonic()
            assert "not done after 1 s" in await refused(provider, statement)
            assert time.monotonic() - begun < 10
            assert await rows(provider, "SELECT 1") == [[1]]
        assert await _active(pg) == 0


async def test_cancelling_a_call_cancels_the_statement(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url(), timeout=60) as provider:
        await rows(provider, "SELECT 1")
        under_way = asyncio.create_task(rows(provider, "SELECT pg_sleep(60)"))
        async with asyncio.timeout(20):
            while not await _active(pg):
                pass
            under_way.cancel()
            await asyncio.wait([under_way])
            while await _active(pg):
                pass


async def test_changes_are_all_or_nothing(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url("writer"), write=True) as provider:

        async def run(*statements: str) -> ToolResult:
            asked = [{"sql": one} for one in statements]
            return await call(provider, "execute", statements=asked)

        added = "INSERT INTO shop VALUES (3, 'Cem') RETURNING id"
        done = (await run(added, "UPDATE shop SET price = 1 WHERE id = 3")).structured
        assert isinstance(done, dict)
        assert [one["affected"] for one in done["results"]] == [1, 1]
        assert done["results"][0]["rows"] == [[3]]
        for second in (
            "SELECT 1/0",
            "/* /* */ */ COMMIT",
            "COPY shop FROM STDIN",
            "SELECT 1; COMMIT",
            "VACUUM",
        ):
            assert (await run("DELETE FROM shop", second)).is_error, second
            assert len(await rows(provider, "SELECT id FROM shop")) == 3
        assert "syntax error" in await refused(provider, "DELETE FROM shop")
        await run("DELETE FROM shop WHERE id = 3")


async def test_roles_that_could_leave_the_database_are_refused(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user, sign in (("corral", "superuser"), ("programs", "pg_execute_server_program")):
        async with sql(workspace, monkeypatch, pg.url(user)) as provider:
            assert sign in await refused(provider, "SELECT 1")


async def test_a_lost_connection_is_opened_again(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url()) as provider:
        await rows(provider, "SELECT 1")
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'"
        assert pg.run(ended) == [(True,)]
        assert await rows(provider, "SELECT 1") == [[1]]


async def test_a_server_that_is_not_there_is_told(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, "postgresql://u:p@localhost:1/x") as provider:
        assert "cannot be reached" in await refused(provider, "SELECT 1")
    async with sql(workspace, monkeypatch, pg.url("nobody")) as provider:
        assert "password authentication failed" in await refused(provider, "SELECT 1")


async def test_the_password_never_enters(
    pg: Postgres, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sql(workspace, monkeypatch, pg.url("clear", sslmode="disable")) as provider:
        assert await rows(provider, "SELECT 1") == [[1]]
        inside = [
            entry
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and b'"url_env"' not in _read(entry / "cmdline")
            if b"corral/mcp_servers" in _read(entry / "cmdline")
            and b"sql" in _read(entry / "cmdline")
        ]
        assert len(inside) >= 2
        for entry in inside:
            for secret in (PASSWORD.encode(), ESCAPED.encode(), b"TEST_DATABASE_URL"):
                assert secret not in _read(entry / "cmdline")
                assert secret not in _read(entry / "environ")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def _active(pg: Postgres) -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active'"
    ((count,),) = await asyncio.to_thread(pg.run, asked)
    return int(count)
