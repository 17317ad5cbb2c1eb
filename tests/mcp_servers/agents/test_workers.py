"""Agents by HTTP from two processes: a run belongs to its client, whichever process it reaches.

Only one of the two can answer while the other is stopped (``SIGSTOP``): so a test says which.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from corral.mcp_servers.agents.asking import READING
from tests.cli.conftest import new_place, place
from tests.cli.place import Place
from tests.cli.test_mcp_serve import hosts
from tests.mcp_servers.serving.service import ELICITS, envelope
from tests.mcp_servers.serving.web import ACCEPT, result
from tests.sandbox.inside import wait_until
from tests.tools.support import alive

__all__ = ["new_place", "place"]  # fixtures

pytestmark = pytest.mark.slow

CONFIG = """
servers = []

[agents.slow]
servers = []
model = "scripted:{scripts}/stuck.yaml"

[agents.careful]
servers = ["memory"]
facts = 0
model = "scripted:{scripts}/keep.yaml"
policy = {{rules = [{{tool = "memory__remember", action = "ask"}}]}}
"""
STUCK = '- {text: "Never said.", delay: 3600}\n'
KEEP = """
- tool_calls: [{name: memory__remember, args: {fact: "Tea is at four."}}]
- {text: "It is kept."}
"""

A_HUMAN_READS = 8 * READING


@dataclass(frozen=True)
class Site:
    """Where it is served, by which processes."""

    url: str
    token: str
    workers: tuple[int, ...]

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """In the body no other process answers."""
        others = [pid for pid in self.workers if pid != worker and alive(pid)]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def request(self, method: str, client: str = "mine", **params: Any) -> dict[str, Any]:
        """What ``httpx2`` sends, each time by a connection of its own."""
        head = {
            "Accept": ACCEPT,
            "Authorization": f"Bearer {self.token}",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method,
        }
        if name := params.get("name"):
            head["Mcp-Name"] = name
        body = {**params, "_meta": envelope(client, **ELICITS)}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": body}
        return {"json": message, "headers": head}

    async def at(self, worker: int, tool: str, client: str = "mine", **more: Any) -> dict[str, Any]:
        """What one process says to a call; ``more``: its arguments, and what goes beside them."""
        beside = {
            name: more.pop(name) for name in ("requestState", "inputResponses") if name in more
        }
        sent = self.request("tools/call", client, name=tool, arguments=more, **beside)
        async with httpx2.AsyncClient(timeout=60) as http:
            with self.only(worker):
                return result(await http.post(self.url, **sent))

    async def told(self, worker: int, tool: str, **args: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await self.at(worker, tool, **args))["result"]["structuredContent"]
        return found


def _workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
async def site(place: Place) -> AsyncIterator[Site]:
    (place.scripts / "stuck.yaml").write_text(STUCK)
    (place.scripts / "keep.yaml").write_text(KEEP)
    (place.workspace / "corral.toml").write_text(CONFIG.format(scripts=place.scripts))
    place.env["CORRAL_SERVE__IDLE"] = "1"
    async with _serving(place) as served:
        yield served
    await asyncio.to_thread(wait_until, lambda: not hosts(place), "the host to end", 60)


@asynccontextmanager
async def _serving(place: Place) -> AsyncIterator[Site]:
    process = await asyncio.create_subprocess_exec(
        *place.command("mcp", "serve", "agents", "--http", "--workers", "2"),
        env=place.env,
        cwd=place.workspace,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = "".join([(await process.stderr.readline()).decode() for _ in range(3)])
        url, token = re.search(r"at (\S+)", said), re.search(r"token: (\S+)", said)
        assert url, said
        assert token, said
        count = partial(_workers, process.pid)
        await asyncio.to_thread(wait_until, lambda: len(count()) == 2, "the workers", 60)
        served = Site(url[1], token[1], tuple(count()))
        for worker in served.workers:
            assert "tools" in (await _listed(served, worker))["result"]
        yield served
    finally:
        process.terminate()
        await process.wait()


async def _listed(site: Site, worker: int, token: str | None = None) -> dict[str, Any]:
    sent = site.request("tools/list")
    if token is not None:
        sent["headers"]["Authorization"] = f"Bearer {token}"
    async with httpx2.AsyncClient(timeout=60) as http:
        with site.only(worker):
            answer = await http.post(site.url, **sent)
    return result(answer) if answer.status_code == 200 else {"status": answer.status_code}


async def test_asked_at_one_answered_at_the_other_and_told_by_both(site: Site) -> None:
    one, other = site.workers
    asked = (await site.at(one, "careful", prompt="Keep it."))["result"]
    [(approval, form)] = asked["inputRequests"].items()
    assert "Tea is at four." in form["params"]["message"]
    yes = {approval: {"action": "accept", "content": {"allow": True}}}
    answer = {"requestState": asked["requestState"], "inputResponses": yes}
    await asyncio.sleep(A_HUMAN_READS)  # sooner it would count as given by the client itself
    stolen = await site.at(other, "careful", "theirs", prompt="Keep it.", **answer)
    assert "error" in stolen, "the question was asked of another client"
    done = (await site.at(other, "careful", prompt="Keep it.", **answer))["result"]
    told = done["structuredContent"]
    assert (told["status"], told["answer"]) == ("completed", "It is kept."), told
    for worker in site.workers:
        found = await site.told(worker, "run_result", run=told["run"])
        assert found["answer"] == "It is kept."


async def test_begun_at_one_and_cancelled_at_the_other_it_is_cancelled_for_both(
    site: Site,
) -> None:
    one, other = site.workers
    begun = await site.told(one, "slow", prompt="Work.", wait_seconds=0)
    assert (await site.told(other, "slow", prompt="Work.", wait_seconds=0))["run"] == begun["run"]
    uri = f"corral://runs/{begun['run']}"
    sent = site.request("subscriptions/listen", notifications={"resourceSubscriptions": [uri]})
    async with httpx2.AsyncClient(timeout=60) as http:
        with site.only(one):
            stream = await http.send(http.build_request("POST", site.url, **sent), stream=True)
            heard = _messages(stream)
            assert "acknowledged" in (await anext(heard))["method"]
        assert (await site.told(other, "run_cancel", run=begun["run"]))["status"] == "cancelled"
        changed = await anext(heard)
        assert changed["method"] == "notifications/resources/updated"
        assert changed["params"]["uri"] == uri
        await stream.aclose()
    for worker in site.workers:
        found = await site.told(worker, "run_status", run=begun["run"])
        assert found["status"] == "cancelled"


async def _messages(stream: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in stream.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line[6:])


async def test_every_process_knows_the_token_and_no_other(site: Site) -> None:
    for worker in site.workers:
        for wrong in ("none", "x" * len(site.token), site.token[:-1], f"{site.token}x"):
            assert (await _listed(site, worker, wrong))["status"] == 401
        assert "result" in await _listed(site, worker)


async def test_killed_in_the_middle_of_a_wait_its_run_is_found_by_the_same_call(
    site: Site,
) -> None:
    one, other = site.workers
    sent = site.request("tools/call", name="slow", arguments={"prompt": "Work."})
    async with httpx2.AsyncClient(timeout=60) as http:
        with site.only(one):
            calling = asyncio.create_task(http.post(site.url, **sent))
            while not (runs := await _runs(site, one)):
                assert not calling.done()
            os.kill(one, signal.SIGKILL)
            with pytest.raises(httpx2.TransportError):
                await calling
    again = await site.told(other, "slow", prompt="Work.", wait_seconds=0)
    assert [again["run"]] == runs
    assert again["status"] == "running"
    assert "was asked before" in again["notes"][0]
    assert (await site.told(other, "run_cancel", run=again["run"]))["status"] == "cancelled"


async def _runs(site: Site, worker: int) -> list[str]:
    return [one["run"] for one in (await site.told(worker, "runs_list"))["runs"]]
