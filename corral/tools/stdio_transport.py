"""MCP over a process's pipes, bounded on every side; loaded when a server is first started.

The SDK's own transport has no limit on a line, is quadratic in its length, and lets the server
write to the user's terminal. Source: the stdio transport of the MCP specification (one JSON-RPC
message a line, in UTF-8).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import (
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from corral.tools.connection import Lost
from corral.tools.guard import BrokenProtocolError, Guard
from corral.tools.process import MAX_LINE, LineTooLongError, ServerProcess
from corral.tools.sdk import open_session
from corral.tools.wire import Host, Session


@dataclass(frozen=True)
class Ends:
    """What happens at a session's end: who is told why, and how long the process may take."""

    lost: Lost
    grace: float


@asynccontextmanager
async def open_stdio(
    process: ServerProcess, mode: str, ends: Ends, host: Host
) -> AsyncIterator[Session]:
    """A session with ``process``, which is stopped with everything it started at the end."""
    try:
        async with open_session(_Pipes(process, ends.lost), mode, host) as session:
            yield session
    finally:
        await process.stop(ends.grace)


class _Pipes:
    """The transport: two tasks between the process's pipes and the SDK's streams."""

    def __init__(self, process: ServerProcess, lost: Lost) -> None:
        self._process = process
        self._lost = lost
        self._guard = Guard()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = contextlib.ExitStack()

    async def __aenter__(self) -> TransportStreams:
        inbound, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        sent, outbound = anyio.create_memory_object_stream[SessionMessage](0)
        for stream in (inbound, received, sent, outbound):
            self._closing.callback(stream.close)
        self._tasks = [
            asyncio.create_task(self._receive(inbound)),
            asyncio.create_task(self._send(outbound)),
        ]
        return received, sent

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._closing:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive(self, inbound: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        reason = ""
        try:
            while line := await self._process.read_line():
                message = _parse(line) if not line.isspace() else None
                if message is not None:
                    await self._admit(message)
                    await inbound.send(SessionMessage(message))
                elif not line.isspace():
                    self._process.remember(line)
                    self._guard.noise()
        except LineTooLongError:
            reason = f"sent a message of more than {MAX_LINE // 2**20} MiB and was stopped"
        except BrokenProtocolError as broken:
            reason = f"{broken} and was stopped"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the session was left
        if reason:
            self._process.kill()
        else:
            await self._process.ended(0.5)  # its exit code is a moment behind its last output
        self._lost(reason or self._process.fate())
        inbound.close()

    async def _admit(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            self._guard.asked()
        elif isinstance(message, JSONRPCNotification):
            await self._guard.notified()

    async def _send(self, outbound: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async for item in outbound:
            if isinstance(item.message, JSONRPCResponse | JSONRPCError):
                self._guard.answered()
            text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            with contextlib.suppress(BrokenPipeError):  # the end of its output tells the session
                await self._process.write(text.encode() + b"\n")


def _parse(line: bytes) -> JSONRPCMessage | None:
    """The message on ``line``, or ``None``.

    A line in broken UTF-8 is read with replacement characters. An answer that is JSON but no
    JSON-RPC becomes an error for the call that it names, which would wait in vain otherwise.
    """
    with contextlib.suppress(ValueError):
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    try:
        found = json.loads(line.decode("utf-8", "replace"))
        text = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None
    with contextlib.suppress(ValueError):
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    number = found.get("id") if isinstance(found, dict) and "method" not in found else None
    if not isinstance(number, int | str):
        return None
    error = ErrorData(code=PARSE_ERROR, message="the server's answer is not valid JSON-RPC")
    return JSONRPCError(jsonrpc="2.0", id=number, error=error)
