"""Code and commands that turn against the server that runs them, in the sandbox."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from tests.mcp_servers.test_sandboxed import connected, launched, text
from tests.sandbox.boxes import processes_with
from tests.sandbox.inside import wait_until
from tests.sandbox.test_broken import AGAINST_ITS_KEEPER, INTO_OTHERS

KILL_THE_GUEST = """
import os, signal
lines = open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()
os.kill(int(lines[1]), signal.SIGKILL)
"""


async def test_code_cannot_reach_into_the_server_or_other_sessions(tmp_path: Path) -> None:
    """The server's answers and what it says of its tools are trusted."""
    async with connected(launched("python", tmp_path)) as client:
        await text(client, "run_code", code="secret = 1", session="other")
        assert await text(client, "run_code", code=INTO_OTHERS) == "[]"


async def test_a_command_cannot_reach_into_the_server(tmp_path: Path) -> None:
    script = f"{INTO_OTHERS.rpartition('[found')[0]}"
    script += "print([found for pid in others if pid != os.getppid() for found in reach(pid)])"
    async with connected(launched("shell", tmp_path)) as client:
        command = ["/usr/bin/python3", "-c", script]
        assert await text(client, "run_command", command=command) == "[]"


async def test_who_kills_its_keeper_leaves_nothing(tmp_path: Path) -> None:
    token = "86413"
    async with connected(launched("python", tmp_path)) as client:
        code = AGAINST_ITS_KEEPER.format(token=token, name="SIGKILL")
        assert "broken from inside" in await text(client, "run_code", code=code)
        wait_until(lambda: not processes_with(token), "the end of what it left")
        assert await text(client, "run_code", code="1") == "1"


async def test_a_server_whose_guest_was_killed_ends(tmp_path: Path) -> None:
    async with connected(launched("python", tmp_path)) as client:
        await text(client, "run_code", code=KILL_THE_GUEST)
        with pytest.raises(MCPError, match="closed"):
            await asyncio.gather(
                *(text(client, "run_code", code="1", session=name) for name in "abc")
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["python", "shell"])
async def test_who_stops_what_looks_after_it_ends_the_server(tmp_path: Path, name: str) -> None:
    token = "86414"
    code = AGAINST_ITS_KEEPER.format(token=token, name="SIGSTOP")
    command = ["/usr/bin/python3", "-c", code]
    tools: dict[str, tuple[str, dict[str, Any]]] = {
        "python": ("run_code", {"code": code}),
        "shell": ("run_command", {"command": command}),
    }
    tool, arguments = tools[name]
    async with connected(launched(name, tmp_path)) as client:
        with pytest.raises(MCPError, match="closed"):
            await client.call_tool(tool, {**arguments, "timeout": 1})
    wait_until(lambda: not processes_with(token), "the end of what it left")
