"""The sql server as it is used: in the sandbox, by an agent, and by any MCP client."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

import corral
from corral.runtime.config import Settings, load_settings
from corral.sandbox.registry import select_backend
from corral.tools.builder import builtin_provider
from corral.tools.contract import CallOptions, ToolProvider
from corral.tools.settings import BuiltinSettings, SqlSettings
from tests.cli.place import Place
from tests.mcp_servers.sql.pg import Postgres
from tests.mcp_servers.sql.support import duck_shop, shop


@pytest.fixture
def data(workspace: Path) -> Path:
    made = workspace / "data"
    made.mkdir()
    return made


@asynccontextmanager
async def sql(workspace: Path, **entries: Any) -> AsyncIterator[ToolProvider]:
    made = {name: SqlSettings.model_validate(entry) for name, entry in entries.items()}
    settings = BuiltinSettings(sql=made)
    provider = builtin_provider("sql", select_backend(), workspace, settings)
    try:
        yield provider
    finally:
        await provider.aclose()


async def query(provider: ToolProvider, database: str, statement: str) -> str:
    args = {"database": database, "sql": statement}
    return (await provider.call("query", args, CallOptions("key", 60.0))).text


async def change(provider: ToolProvider, database: str, *statements: str) -> str:
    args = {"database": database, "statements": [{"sql": one} for one in statements]}
    return (await provider.call("execute", args, CallOptions("key", 60.0))).text


async def test_files_of_both_kinds_are_read_and_changed(workspace: Path, data: Path) -> None:
    lite, duck = shop(data / "a.db"), duck_shop(data / "b.duckdb")
    (data / "read").mkdir()
    kept = shop(data / "read" / "c.db")
    async with sql(
        workspace,
        lite={"path": "data/a.db", "write": True},
        duck={"path": str(duck), "write": True},
        kept={"path": "data/read/c.db"},
    ) as provider:
        for name in ("lite", "duck"):
            assert "1 row affected" in await change(provider, name, "DELETE FROM shop WHERE id = 1")
            assert "[2]" in await query(provider, name, "SELECT count(*) FROM shop")
        assert "[3]" in await query(provider, "kept", "SELECT count(*) FROM shop")
        assert "must be one of 'lite', 'duck'" in await change(provider, "kept", "SELECT 1")
    with closing(sqlite3.connect(lite)) as changed, closing(sqlite3.connect(kept)) as same:
        assert changed.execute("SELECT count(*) FROM shop").fetchone() == (2,)
        assert same.execute("SELECT count(*) FROM shop").fetchone() == (3,)


async def test_a_live_log_of_a_read_only_file_is_read(workspace: Path, data: Path) -> None:
    file = shop(data / "live.db")
    async with sql(workspace, live={"path": str(file)}) as provider:
        counted = "SELECT count(*) FROM shop"
        for count in (4, 5):
            with closing(sqlite3.connect(file, isolation_level=None)) as live:
                live.execute("PRAGMA journal_mode = WAL")
                live.execute("INSERT INTO shop (id, name) VALUES (?, ?)", (count, f"n{count}"))
                assert f"[{count}]" in await query(provider, "live", counted)
            assert f"[{count}]" in await query(provider, "live", counted)


async def test_other_files_and_networks_are_out_of_reach(workspace: Path, data: Path) -> None:
    (workspace / "secret.txt").write_text("canary")
    async with sql(workspace, duck={"path": str(duck_shop(data / "b.duckdb"))}) as provider:
        for path in (workspace / "secret.txt", "/etc/passwd", "https://example.com/x.csv"):
            said = await query(provider, "duck", f"SELECT * FROM read_text('{path}')")
            assert "canary" not in said
            assert "disabled" in said or "rror" in said


def options(*turns: Mapping[str, Any]) -> corral.RunOptions:
    model = corral.ScriptedModel(turns)
    return corral.RunOptions(agent=corral.Agent(servers=("sql",), chat_model=model, facts=0))


async def test_an_agent_reads_freely_and_asks_before_it_changes(
    settings: Settings, workspace: Path, data: Path
) -> None:
    file = shop(data / "a.db")
    own = load_settings(
        {
            "home": settings.home,
            "workspace": workspace,
            "sql": {"shop": {"path": "data/a.db", "write": True}},
        }
    )
    count = {"database": "shop", "sql": "SELECT count(*) AS n FROM shop"}
    delete = {"database": "shop", "statements": [{"sql": "DELETE FROM shop"}]}
    asked = options(
        {"text": "Counting.", "tool_calls": [{"name": "sql__query", "args": count}]},
        {"text": "Counting again.", "tool_calls": [{"name": "sql__query", "args": count}]},
        {"text": "Deleting.", "tool_calls": [{"name": "sql__execute", "args": delete}]},
        {"text": "Done."},
    )
    async with corral.open(own) as c:
        result = await c.run("How many?", asked)
        assert result.status == "paused"
        trace = await c.records.trace(result.run)
    calls = [effect for effect in trace if effect.kind == "tool"]
    assert [call.name for call in calls] == ["sql__query", "sql__query"]
    assert '"rows":[[3]]' in json.dumps(calls[0].result, separators=(",", ":"))
    with closing(sqlite3.connect(file)) as same:
        assert same.execute("SELECT count(*) FROM shop").fetchone() == (3,)


async def test_a_connection_to_postgres_is_in_the_journal_without_the_password(
    settings: Settings, workspace: Path, pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_URL", pg.url(sslmode="require"))
    own = load_settings(
        {
            "home": settings.home,
            "workspace": workspace,
            "sql": {"shop": {"url_env": "SHOP_URL"}},
        }
    )
    count = {"database": "shop", "sql": "SELECT count(*) FROM shop"}
    calls = [{"name": "sql__query", "args": count}]
    asked = options(
        {"text": "", "tool_calls": calls}, {"text": "", "tool_calls": calls}, {"text": "2"}
    )
    async with corral.open(own) as c:
        result = await c.run("How many?", asked)
        assert result.status == "completed"
        trace = await c.records.trace(result.run)
    reached = [effect for effect in trace if effect.kind == "connection"]
    assert reached
    assert reached[0].name == f"localhost:{pg.port}"
    for entry in settings.home.rglob("*"):
        assert not entry.is_file() or b"correct horse" not in entry.read_bytes()


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Place:
    return Place(settings.home, settings.workspace, tmp_path)


async def test_any_client_can_use_it(
    place: Place, tmp_path: Path, pg: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(tmp_path / "a.db")
    folder = tmp_path / "config" / "corral"
    folder.mkdir(parents=True)
    text = f'[sql.lite]\npath = "{tmp_path / "a.db"}"\n[sql.pg]\nurl_env = "SHOP_URL"\n'
    (folder / "config.toml").write_text(text)
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "CORRAL_HOME": str(place.home),
        "CORRAL_WORKSPACE": str(place.workspace),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "SHOP_URL": pg.url(),
    }
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "corral.cli", "mcp", "serve", "sql"],
        env=env,
        cwd="/",
    )
    async with Client(stdio_client(server)) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == {"list_databases", "schema", "query", "explain"}
        for database, count in (("lite", 3), ("pg", 2)):
            args = {"database": database, "sql": "SELECT count(*) FROM shop"}
            result = await client.call_tool("query", args)
            assert result.structured_content is not None, result.content
            assert result.structured_content["rows"] == [[count]]
