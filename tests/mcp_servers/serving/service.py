"""A service whose calls wait until a test lets them go, and a client that sends what it wants."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types

from corral.agents.hosting.contract import Report
from corral.errors import ConflictError, NotFoundError, RunError
from corral.mcp_servers.agents.outcome import run_result
from corral.mcp_servers.serving.contract import (
    AskFirst,
    AsTask,
    Caller,
    Elicited,
    Exchange,
    Identity,
    NoAnswer,
    Question,
    TaskState,
)
from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.serving.stdio import serve_stream

KEY = b"k" * 32
SECRET = "sk-of-the-inside-4711"
LOG = Path("/home/somebody/logs/host.log")
ERRORS = {
    "refuse": ConflictError("The run has ended.", hint="Start another one."),
    "lose": RunError("The run host ended.", hint=f"See what it says in {LOG}."),
    "move": ConflictError(f"This conversation works in {LOG.parent}, not here."),
}
FAILED = Report("r-1", "t-1", "worker", "failed", error=f"There is no model {LOG.parent}/m.gguf.")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"allow": {"type": "boolean"}},
    "required": ["allow"],
}
TOOLS = ("wait", "add", "ask", "progress", "crash", "refuse", "lose", "move", "fail", "work", "big")


@dataclass
class Waiting:
    """One call of ``wait``."""

    caller: Caller
    exchange: Exchange
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: str = ""


class GatedService:
    """Implements ``contract.Service``."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.callers: list[Caller] = []
        self.answered: list[Elicited] = []
        self.began = asyncio.Event()

    @property
    def identity(self) -> Identity:
        return Identity("gated", "Gated", "1", "Call a tool.")

    async def tools(self, caller: Caller) -> Sequence[types.Tool]:
        number = {"type": "integer"}
        add = {"type": "object", "properties": {"left": number, "right": number}}
        schemas = {"add": {**add, "required": ["left", "right"], "additionalProperties": False}}
        plain = {"type": "object", "additionalProperties": False}
        return [types.Tool(name=name, input_schema=schemas.get(name, plain)) for name in TOOLS]

    async def call(
        self, caller: Caller, tool: str, args: dict[str, Any], exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        self.callers.append(caller)
        if tool in ERRORS:
            raise ERRORS[tool]
        match tool:
            case "wait":
                return await self._wait(caller, exchange)
            case "add":
                return text(str(args["left"] + args["right"]))
            case "ask":
                return await self._ask(caller, exchange)
            case "progress":
                for done in (1, 1, 2):
                    await exchange.progress(done, 2, f"step {done}")
                return text("done")
            case "crash":
                raise RuntimeError(f"the key is {SECRET}, in /home/somebody")
            case "fail":
                return run_result(FAILED)
            case "work":
                return AsTask("task-1")
            case _:
                return text("x" * 1_000_000)

    async def _wait(self, caller: Caller, exchange: Exchange) -> types.CallToolResult:
        waiting = Waiting(caller, exchange)
        self.waiting.append(waiting)
        self.began.set()
        try:
            await waiting.go_on.wait()
        except asyncio.CancelledError:
            waiting.ended = "cancelled"
            raise
        waiting.ended = "finished"
        return text("waited")

    async def _ask(self, caller: Caller, exchange: Exchange) -> types.CallToolResult:
        question = Question("May it?", SCHEMA)
        if caller.asks == "push":
            try:
                self.answered.append(await exchange.ask(question))
            except NoAnswer:
                return text("nobody answered", is_error=True)
        elif "may" in exchange.answers and exchange.state == "approval-1":
            self.answered.append(exchange.answers["may"])
        else:
            raise AskFirst({"may": question}, "approval-1")
        return text(self.answered[-1].action)

    async def task(self, caller: Caller, task: str) -> TaskState:
        if task != "task-1" or caller.client != "mine":
            raise NotFoundError("There is no such task.")
        now = "2026-01-01T00:00:00+00:00"
        return TaskState(task, "input_required", now, now, questions={"may": Question("?", SCHEMA)})

    async def answer_task(self, caller: Caller, task: str, answers: dict[str, Elicited]) -> None:
        self.answered += answers.values()

    async def cancel_task(self, caller: Caller, task: str) -> None:
        await self.task(caller, task)

    async def resources(self, caller: Caller) -> Sequence[types.Resource]:
        return []

    async def templates(self, caller: Caller) -> Sequence[types.ResourceTemplate]:
        return [types.ResourceTemplate(uri_template="note://{name}", name="note")]

    async def read(self, caller: Caller, uri: str) -> Sequence[types.TextResourceContents]:
        if uri.startswith("note://"):
            return [types.TextResourceContents(uri=uri, text=f"read {uri}")]
        raise NotFoundError("There is no such resource.", hint="List them.")

    async def prompts(self, caller: Caller) -> Sequence[types.Prompt]:
        return []

    async def prompt(
        self, caller: Caller, name: str, args: dict[str, str]
    ) -> types.GetPromptResult:
        raise NotFoundError(f"There is no prompt {name}.")

    async def complete(
        self, caller: Caller, ref: object, argument: str, value: str
    ) -> Sequence[str]:
        return [f"{value}{number}" for number in range(150)]


def text(said: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=said)], is_error=is_error)


def envelope(client: str = "mine", **capabilities: Any) -> dict[str, Any]:
    """What a request of 2026-07-28 says of its client."""
    return {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": {"name": client, "version": "1"},
    }


ELICITS: dict[str, Any] = {"elicitation": {"form": {}}}


@dataclass
class Line:
    """A client at the other end of a stream. ``meta`` goes with each request of a modern one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    meta: dict[str, Any] = field(default_factory=dict)
    last: int = 0

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, method: str, **params: Any) -> int:
        """Send a request without waiting; its id."""
        self.last += 1
        meta = {**self.meta, **params.pop("meta", {})}
        body = {**params, "_meta": meta} if meta else params
        message = {"jsonrpc": "2.0", "id": self.last, "method": method, "params": body}
        await self.write(json.dumps(message).encode() + b"\n")
        return self.last

    async def notify(self, method: str, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        await self.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), 60)
        message: dict[str, Any] = json.loads(line)
        return message

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a request; what comes before it is let go."""
        number = await self.send(method, **params)
        while (message := await self.receive()).get("id") != number:
            pass
        return message

    async def call(self, tool: str, **params: Any) -> dict[str, Any]:
        return await self.ask("tools/call", name=tool, **params)

    async def handshake(self, client: str = "mine", **capabilities: Any) -> dict[str, Any]:
        """Begin as a client of the handshake era."""
        info = {"name": client, "version": "1"}
        answer = await self.ask(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities=capabilities,
            clientInfo=info,
        )
        await self.notify("notifications/initialized")
        return answer

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def connected(
    service: GatedService, *, meta: dict[str, Any] | None = None, calls: int = 64
) -> AsyncIterator[Line]:
    """A client on a stream to the service."""
    layer = Layer(service, KEY, calls)
    async with connected_to(layer, meta or {}) as line:
        yield line


@asynccontextmanager
async def connected_to(layer: Layer, meta: dict[str, Any]) -> AsyncIterator[Line]:
    ours, theirs = socket.socketpair()
    server = await asyncio.open_connection(sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs, limit=1 << 25)
    serving = asyncio.create_task(serve_stream(layer, *server))
    try:
        yield Line(reader, writer, meta)
    finally:
        writer.transport.abort()
        await asyncio.wait_for(serving, 60)
