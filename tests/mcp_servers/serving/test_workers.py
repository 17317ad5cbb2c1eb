"""Several processes behind one address: nobody notices which of them answers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from corral.mcp_servers.serving.announcing import running
from tests.interop.tools import ROOT
from tests.mcp_servers.serving.service import ELICITS, envelope
from tests.mcp_servers.serving.web import ACCEPT, result
from tests.tools.support import alive, until

pytestmark = pytest.mark.slow


class Address:
    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.head = {
            "Accept": ACCEPT,
            "Authorization": f"Bearer {token}",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
        }

    async def call(self, tool: str, **params: Any) -> dict[str, Any]:
        """Each time on a connection of its own, so that any process may get it."""
        body = {"name": tool, "arguments": {}, "_meta": envelope("mine", **ELICITS), **params}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body}
        head = {**self.head, "Mcp-Name": tool}
        async with httpx2.AsyncClient(timeout=60) as client:
            answer = result(await client.post(self.url, json=message, headers=head))
        answered: dict[str, Any] = answer["result"]
        return answered

    async def process(self) -> int:
        return int((await self.call("refuse"))["content"][0]["text"])

    async def processes(self, unlike: frozenset[int] = frozenset()) -> set[int]:
        """Both of them, once both have answered."""
        seen: set[int] = set()
        async with asyncio.timeout(200):
            while len(seen) < 2:
                seen |= set(await asyncio.gather(*(self.process() for _ in range(8)))) - unlike
        return seen


@asynccontextmanager
async def serving(home: Path, count: int = 2) -> AsyncIterator[tuple[Address, int]]:
    command = [sys.executable, "-m", "tests.mcp_servers.serving.workers", str(home), str(count)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        yield Address(*line.split()), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_they_share_the_work_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path) as (address, parent):
        both = await address.processes()
        assert parent not in both
        dead = min(both)
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not alive(dead))
        after = await address.processes(frozenset({dead}))
    await until(lambda: not any(alive(pid) for pid in both | after))


async def test_a_question_of_one_is_answered_to_any(tmp_path: Path) -> None:
    async with serving(tmp_path) as (address, _):
        await address.processes()
        answer = {"may": {"action": "accept", "content": {"allow": True}}}
        first = await address.call("ask")
        for _ in range(8):
            state = first["requestState"]
            said = await address.call("ask", requestState=state, inputResponses=answer)
            assert said["content"][0]["text"] == "accept"


@pytest.mark.parametrize("count", [1, 2])
async def test_a_signal_ends_them_with_nothing_left_behind(tmp_path: Path, count: int) -> None:
    async with serving(tmp_path, count) as (address, pid):
        assert await address.process()
        assert [one.pid for one in running(tmp_path)] == [pid]
    assert {path.name for path in (tmp_path / "serve").iterdir()} == {"key"}
