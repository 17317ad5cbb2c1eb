"""The protocol over a pair of byte streams: a process's own, or a socket's for a bridge.

Lines of JSON, without a thread a message. Nothing that a client sends is kept longer than it must
be: lines are bounded, and who does not read what it is told is not read from.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.wire import MAX_LINE, Frames, Oversized, request_id

_CHUNK = 1 << 16
_STARTS = 1 << 10
_NO_MESSAGE = "The line is not one JSON-RPC 2.0 message."
_Incoming = SessionMessage | Exception


async def serve_stdio(layer: Layer) -> None:
    """Serve the client at this process's standard input and output, until it goes."""
    async with _process_streams() as (reader, writer):
        await serve_stream(layer, reader, writer)


async def serve_stream(
    layer: Layer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve the one client at the other end, until it goes. What it has begun goes on."""
    served = layer.served("stdio")
    incoming, to_server = anyio.create_memory_object_stream[_Incoming](0)
    from_server, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    line = _Line(writer)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_write, outgoing, line)
            group.start_soon(_read, reader, incoming, line)
            await served.server.run(to_server, from_server, served.options)
            group.cancel_scope.cancel()
    finally:
        served.close()
        writer.close()


class _Line:
    """The way to the client. It is open while the client takes what it is sent."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def send(self, data: bytes) -> None:
        """Send one line. Raises ``OSError`` when nobody is there any more."""
        self._writer.write(data + b"\n")
        self.is_open.clear()
        try:
            await self._writer.drain()
        finally:
            self.is_open.set()


async def _read(
    reader: asyncio.StreamReader, incoming: MemoryObjectSendStream[_Incoming], line: _Line
) -> None:
    """Everything that the client sends; what is no message is answered here."""
    frames = Frames()
    with suppress(OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        async with incoming:
            while chunk := await reader.read(_CHUNK):
                for frame in frames.feed(chunk):
                    await _take(_message(frame), incoming, line)
                await line.is_open.wait()


async def _take(
    message: SessionMessage | bytes | None,
    incoming: MemoryObjectSendStream[_Incoming],
    line: _Line,
) -> None:
    if isinstance(message, bytes):
        await line.send(message)
    elif message is not None:
        await incoming.send(message)


async def _write(outgoing: MemoryObjectReceiveStream[SessionMessage], line: _Line) -> None:
    with suppress(OSError):
        async with outgoing:
            async for sent in outgoing:
                text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                await line.send(text.encode())


def _message(frame: bytes | Oversized) -> SessionMessage | bytes | None:
    """A line as a message, or as the error that it is answered with; ``None`` for an empty one."""
    if isinstance(frame, Oversized):
        said = f"The message is longer than {MAX_LINE} bytes, and was not read."
        return _error(frame.request, types.INVALID_REQUEST, said)
    if not frame.strip():
        return None
    try:
        message = types.jsonrpc_message_adapter.validate_json(frame, by_name=False)
    except ValidationError as error:
        kinds = {one["type"] for one in error.errors(include_input=False, include_url=False)}
        if "json_invalid" in kinds:
            return _error(None, types.PARSE_ERROR, "The line is not JSON.")
        return _error(request_id(frame[:_STARTS]), types.INVALID_REQUEST, _NO_MESSAGE)
    if isinstance(message, types.JSONRPCNotification) and _has_id(frame):
        return _error(None, types.INVALID_REQUEST, _NO_MESSAGE)
    return SessionMessage(message)


def _has_id(frame: bytes) -> bool:
    """Whether what reads like a notification was a request whose id is none."""
    return b'"id"' in frame and "id" in json.loads(frame)


def _error(request: int | str | None, code: int, said: str) -> bytes:
    error = types.ErrorData(code=code, message=said)
    told = types.JSONRPCError(jsonrpc="2.0", id=request, error=error)
    return told.model_dump_json(by_alias=True, exclude_unset=True).encode()


@asynccontextmanager
async def _process_streams() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Standard input and output, taken away from the rest of the process.

    A stray ``print`` goes to standard error, a stray ``input`` finds nothing.
    """
    taken_in, taken_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(taken_in, "rb", 0)
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(taken_out, "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    yield reader, writer
