"""The configuration that the docs show for other MCP clients, tried with the SDK's client."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.house import docs, rules
from tests.mcp_servers.sql.support import shop

PAGE = rules.ROOT / "docs" / "tool-servers.md"
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "files": ("read_file", {"path": "note.txt"}, "hello"),
    "python": ("run_code", {"code": "open('note.txt').read()"}, "hello"),
    "sql": ("query", {"database": "shop", "sql": "SELECT name FROM shop LIMIT 1"}, "Ann"),
}


def shown() -> dict[str, Any]:
    """The servers of the one JSON block on the page."""
    (block,) = [
        one for one in docs.blocks(PAGE.name, PAGE.read_text("utf-8")) if one.language == "json"
    ]
    servers: dict[str, Any] = json.loads(block.text)["mcpServers"]
    return servers


def test_the_page_shows_what_is_tried_here() -> None:
    assert shown().keys() == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
async def test_the_shown_configuration_works(tmp_path: Path, name: str) -> None:
    home = tmp_path / "ann"
    workspace = home / "project"
    workspace.mkdir(parents=True)
    (workspace / "note.txt").write_text("hello")
    shop(workspace / "shop.db")
    own = home / ".config" / "corral"
    own.mkdir(parents=True)
    (own / "config.toml").write_text('[sql.shop]\npath = "shop.db"\n')
    entry = shown()[name]
    assert re.fullmatch("/home/ann/.*/corral", entry["command"])
    server = StdioServerParameters(
        command=str(Path(sys.executable).with_name("corral")),
        args=[part.replace("/home/ann", str(home)) for part in entry["args"]],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", **entry.get("env", {})},
        cwd="/",
    )
    tool, arguments, said = CALLS[name]
    async with Client(stdio_client(server)) as client:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error
        assert said in str(result.content)
