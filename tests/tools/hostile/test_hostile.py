"""Servers that mean harm: what they say is data, and what they claim is a claim.

Floods, garbage, huge lines and processes that die are in ``test_stdio.py``; schemas that hang who
reads them in ``test_definitions.py``; tokens for somebody else in ``oauth/test_login.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import ToolServerError
from corral.runtime.config import Settings, load_settings
from corral.runtime.events import ApprovalRequested, ToolFinished
from corral.tools.address import Address
from corral.tools.contract import CallOptions
from corral.tools.http import HttpServer
from corral.tools.inquiry import MAX_QUESTIONS, Inquiry, Reply, Sample, Sampled
from corral.tools.server import Timing
from corral.tools.stdio import StdioServer
from corral.tools.under_way import UnderWay
from tests.runtime.agents import result_of
from tests.tools.support import OPTIONS, QUICK, SERVERS, lean

pytestmark = pytest.mark.slow

SECRET = "sk-proj-" + "aZ9" * 15


def entry(settings: Settings, mode: str = "plain", **more: Any) -> Settings:
    """Settings with a lean server ``srv`` in them."""
    args = ["-S", "-E", str(SERVERS / "hostile.py"), mode, str(settings.workspace / "notes")]
    server = {"command": sys.executable, "args": args, "sandbox": False, **more}
    given = {"home": settings.home, "workspace": settings.workspace, "mcp": {"srv": server}}
    return load_settings(given)


def calling(tool: str, **args: Any) -> corral.RunOptions:
    call = {"name": tool, "args": args}
    model = corral.ScriptedModel([{"text": "", "tool_calls": [call]}, {"text": "Done."}])
    return corral.RunOptions(agent=corral.Agent(servers=("srv",), chat_model=model, facts=0))


@pytest.mark.parametrize("trust", [False, True])
async def test_a_claim_loosens_nothing_unless_it_is_trusted(
    settings: Settings, trust: bool
) -> None:
    async with corral.open(entry(settings, trust=trust)) as c:
        result = await c.run("Go.", calling("srv__reader"))
    assert result.status == ("completed" if trust else "paused")


async def test_a_secret_that_is_echoed_is_kept_nowhere(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", SECRET)
    opened = entry(settings, env={"KEY": "${SERVICE_API_KEY}"})
    async with corral.open(opened) as c:
        paused = await c.run("Go.", calling("srv__environment"))
        await c.approve(paused.approvals[0].id)
        events = [e async for e in c.stream_resume(paused.run, calling("srv__environment"))]
        assert result_of(events).status == "completed"
        shown = json.dumps([event.to_json() for event in events])
        traced = json.dumps([e.to_json() for e in await c.records.trace(paused.run)])
    assert SECRET not in shown + traced
    kept = b"".join(path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


async def test_it_cannot_answer_for_another_server(settings: Settings) -> None:
    """Names are prefixed by the server, so that no tool can stand in front of another's."""
    async with corral.open(entry(settings, "odd")) as c:
        (found,) = [server for server in await c.servers() if server.name == "srv"]
    assert all(str(tool["server"]) == "srv" for tool in found.tools)
    assert "files__read_file" not in {f"{t['server']}__{t['tool']}" for t in found.tools}
    assert "good is suspicious" in (found.error or ""), "a hidden character, at first use"


class Counting:
    """Counts what it is asked."""

    def __init__(self, run: str = "r-1") -> None:
        self.run = run
        self.asked = 0

    async def ask(self, inquiry: Inquiry, seconds: float) -> Reply:
        del inquiry, seconds
        self.asked += 1
        return Reply("decline")

    async def sample(self, wanted: Sample, seconds: float) -> Sampled:
        raise AssertionError(f"not allowed: {wanted}")


async def test_it_cannot_ask_for_ever_in_one_call(tmp_path: Path) -> None:
    script = tmp_path / "nagging.py"
    script.write_text(NAGGING)
    launch = lean()
    argv = (sys.executable, "-S", "-E", str(script))
    server = StdioServer("srv", type(launch)(argv, {}), timing=QUICK)
    desk = Counting()
    try:
        result = await server.call("nag", {}, CallOptions("key", desk=desk))
    finally:
        await server.aclose()
    answers = json.loads(result.text)
    assert desk.asked == MAX_QUESTIONS
    assert answers[: desk.asked] == ["decline"] * MAX_QUESTIONS
    assert set(answers[desk.asked :]) == {"cancel"}


async def test_of_two_runs_neither_is_asked_what_the_other_s_call_wants_to_know() -> None:
    """The two may be of two people; an old protocol does not say whose question it is."""
    calls, mine, theirs = UnderWay(), Counting("r-1"), Counting("r-2")
    question = Inquiry("form", "What is the name of your client?")
    both = asyncio.Barrier(3)

    async def call(desk: Counting) -> None:
        async with calls.call(CallOptions("key", desk=desk), 60.0):
            await both.wait()
            await both.wait()

    for desk, answer in ((mine, "decline"), (theirs, "cancel")):
        under_way = asyncio.gather(call(mine), call(desk))
        await both.wait()
        assert (await calls.asked(question)).action == answer
        await both.wait()
        await under_way
    assert (mine.asked, theirs.asked) == (1, 0)


NAGGING = """
import json, sys
def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")
    sys.stdout.flush()
def nag():
    answers = []
    form = {"type": "object", "properties": {}}
    for number in range(40):
        params = {"message": "Really?", "requestedSchema": form}
        send({"id": f"n{number}", "method": "elicitation/create", "params": params})
        while json.loads(line := sys.stdin.readline()).get("id") != f"n{number}":
            pass
        answers.append(json.loads(line)["result"]["action"])
    return {"content": [{"type": "text", "text": json.dumps(answers)}]}
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    match request.get("method"):
        case "initialize":
            info = {"name": "n", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
            send({"id": request["id"], "result": {**result, "serverInfo": info}})
        case "tools/list":
            tool = {"name": "nag", "description": "Nags.", "inputSchema": {"type": "object"}}
            send({"id": request["id"], "result": {"tools": [tool]}})
        case "tools/call":
            send({"id": request["id"], "result": nag()})
        case _:
            send({"id": request["id"], "error": {"code": -32601, "message": "no"}})
"""


@asynccontextmanager
async def trickling(head: bytes) -> AsyncIterator[int]:
    """A server that sends ``head`` and then one byte now and then, for ever; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while True:
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(b" ")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX-Slow:",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata:",
    ],
    ids=["head", "json", "stream"],
)
async def test_a_slow_loris_holds_nobody_up(head: bytes) -> None:
    async with trickling(head) as port:
        address = Address(f"http://127.0.0.1:{port}/mcp")
        server = HttpServer("slow", address, timing=Timing(startup=1.0, call=1.0))
        with pytest.raises(ToolServerError, match="did not answer within 1 s"):
            await server.list_tools()
        called = await server.call("any", {}, OPTIONS)
        assert called.text.startswith("The call was not made")
        await server.aclose()


async def test_an_answer_is_data_for_the_model_and_the_terminal(settings: Settings) -> None:
    async with corral.open(entry(settings)) as c:
        paused = await c.run("Go.", calling("srv__escapes"))
        assert [type(a).__name__ for a in paused.approvals] == ["Approval"]
        await c.approve(paused.approvals[0].id)
        events = [e async for e in c.stream_resume(paused.run, calling("srv__escapes"))]
    (called,) = [event for event in events if isinstance(event, ToolFinished)]
    assert called.text == "red plain\nnext"
    assert not [event for event in events if isinstance(event, ApprovalRequested)]
