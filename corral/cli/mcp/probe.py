"""What an MCP client would see of a server: started or reached as the client would, and asked.

Written on the wire and not with the SDK, so that what is found is the server's doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from corral.cli.output import one_line
from corral.errors import RunError
from corral.jsontypes import JsonObject

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"

_PREFIX = "io.modelcontextprotocol/"
_CLIENT = {"name": "corral-doctor", "version": "1"}
_MOST = 16 * 1024 * 1024
_PAGES = 50
_GRACE = 5.0
_KEPT = 4000


class ProbeError(RunError):
    """A server did not answer as a client needs it; the message is for its user."""


@dataclass(frozen=True)
class Met:
    """A server that answered: how it presents itself, what it offers, and how long that took.

    ``seconds`` are until its first answer, ``instructions`` whether it has any.
    """

    name: str
    version: str
    protocol: str
    tools: tuple[JsonObject, ...]
    seconds: float


class _Wire(Protocol):
    """A connection that JSON-RPC messages go over."""

    async def ask(self, message: JsonObject) -> JsonObject:
        """Send a request; its answer. Raises ``ProbeError``."""
        ...

    async def tell(self, message: JsonObject) -> None:
        """Send a notification."""
        ...


async def meet_command(
    argv: Sequence[str], env: Mapping[str, str], limit: float, *, modern: bool
) -> Met:
    """Start a server on stdio with exactly this environment, and ask it. Raises ``ProbeError``."""
    async with _started(argv, env) as wire, _in_time(limit, wire):
        return await _meet(wire, modern=modern)


async def meet_url(url: str, headers: Mapping[str, str], limit: float, *, modern: bool) -> Met:
    """Ask a server at an address. Raises ``ProbeError``."""
    import httpx2  # not needed for --help

    async with httpx2.AsyncClient(timeout=limit, follow_redirects=False) as client:
        return await _meet(_Http(client, url, headers), modern=modern)


async def _meet(wire: _Wire, *, modern: bool) -> Met:
    began = monotonic()
    hello = await _hello(wire, modern=modern)
    seconds = monotonic() - began
    protocol = str(hello.get("protocolVersion", MODERN))
    meta = _meta() if protocol == MODERN else {}
    tools: list[JsonObject] = []
    cursor: Any = None
    for number in range(_PAGES):
        params = {**meta, **({"cursor": cursor} if cursor else {})}
        page = _result(await wire.ask(_request(10 + number, "tools/list", params)))
        tools += [tool for tool in page.get("tools", ()) if isinstance(tool, dict)]
        cursor = page.get("nextCursor")
        if not cursor:
            break
    about = hello.get("serverInfo") or hello.get("_meta", {}).get(f"{_PREFIX}serverInfo", {})
    name, version = str(about.get("name", "")), str(about.get("version", ""))
    return Met(name, version, protocol, tuple(tools), seconds)


async def _hello(wire: _Wire, *, modern: bool) -> JsonObject:
    """The server's answer to what a client says first: a modern one falls back as clients do."""
    if modern:
        answer = await wire.ask(_request(1, "server/discover", _meta()))
        if "result" in answer:
            return _result(answer)
    params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
    hello = _result(await wire.ask(_request(2, "initialize", params)))
    await wire.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
    return hello


def _meta() -> JsonObject:
    said = {"protocolVersion": MODERN, "clientInfo": _CLIENT, "clientCapabilities": {}}
    return {"_meta": {_PREFIX + key: value for key, value in said.items()}}


def _request(number: int, method: str, params: JsonObject) -> JsonObject:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _result(answer: JsonObject) -> JsonObject:
    result = answer.get("result")
    if isinstance(result, dict):
        return result
    error = answer.get("error")
    said = error.get("message", "") if isinstance(error, dict) else ""
    raise ProbeError(f"It answered with an error: {one_line(str(said)) or 'without words'}.")


@asynccontextmanager
async def _in_time(limit: float, wire: _Stdio) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise ProbeError(
            f"It did not answer within {limit:g} s, after which the client gives up.{wire.said()}"
        ) from None


@asynccontextmanager
async def _started(argv: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[_Stdio]:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MOST,
            start_new_session=True,
        )
    except OSError as error:
        raise ProbeError(f"{argv[0]} could not be started: {error.strerror}.") from error
    wire = _Stdio(process)
    try:
        yield wire
    finally:
        await wire.close()


class _Stdio:
    """A server's process. What it says on standard error is kept for messages."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = b""
        self._listening = asyncio.create_task(self._listen())

    async def ask(self, message: JsonObject) -> JsonObject:
        """See ``_Wire``."""
        await self.tell(message)
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                raise ProbeError(f"It sent a line of more than {_MOST >> 20} MiB.") from None
            if not line:
                code = await self._process.wait()
                await asyncio.wait({self._listening})
                raise ProbeError(f"It ended with code {code} before it answered.{self.said()}")
            answer = _read(line)
            if answer.get("id") == message["id"] and "method" not in answer:
                return answer

    async def tell(self, message: JsonObject) -> None:
        """See ``_Wire``."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    def said(self) -> str:
        """The end of what it said on standard error, as the end of a message."""
        text = self._said.decode("utf-8", "replace").strip()
        return f" It said: {one_line(text[-_KEPT:], 600)}" if text else ""

    async def close(self) -> None:
        """End the process with everything that it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._listening.cancel()
        await asyncio.wait({self._listening})

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(65536):
            self._said = (self._said + piece)[-_KEPT:]


class _Http:
    """A server at an address (streamable HTTP)."""

    def __init__(self, client: Any, url: str, headers: Mapping[str, str]) -> None:
        self._client, self._url = client, url
        self._headers = {**headers, "Accept": "application/json, text/event-stream"}

    async def ask(self, message: JsonObject) -> JsonObject:
        """See ``_Wire``."""
        response = await self._post(message)
        kind = response.headers.get("content-type", "")
        if kind.startswith("text/event-stream"):
            lines = response.text.splitlines()
            found = [_read(line[5:].encode()) for line in lines if line.startswith("data:")]
        else:
            found = [_read(response.content)]
        answer = next((one for one in found if one.get("id") == message["id"]), None)
        if answer is None:
            raise ProbeError(
                f"{self._url} gave no answer of the protocol ({response.status_code})."
            )
        if response.headers.get("mcp-session-id"):
            self._headers["Mcp-Session-Id"] = response.headers["mcp-session-id"]
        return answer

    async def tell(self, message: JsonObject) -> None:
        """See ``_Wire``."""
        await self._post(message)

    async def _post(self, message: JsonObject) -> Any:
        import httpx2

        modern = "_meta" in message.get("params", {})
        headers = {"MCP-Protocol-Version": MODERN if modern else HANDSHAKE}
        if modern:
            headers["Mcp-Method"] = message["method"]
        if message["method"] == "initialize":
            headers = {}
        try:
            response = await self._client.post(
                self._url, json=message, headers={**self._headers, **headers}
            )
        except httpx2.HTTPError as error:
            raise ProbeError(
                f"{self._url} cannot be reached: {error or type(error).__name__}."
            ) from error
        if refused := _REFUSED.get(response.status_code):
            why, hint = refused
            said = f"{self._url} refused: {why} ({response.status_code})."
            raise ProbeError(said, hint=hint)
        return response


_REFUSED = {
    401: (
        "the token is missing or is not the server's",
        "Set the token's variable to the same value for the server and for the client.",
    ),
    403: ("it does not let this client in", "See [serve] in docs/serving.md."),
    404: ("there is no MCP server at that path", "Ours is at /mcp: install it again."),
    421: ("it does not know that host name as its own", "Name it: [serve] hosts."),
    429: ("too many requests", "Wait a minute, or raise [serve] rate."),
}


def _read(line: bytes) -> JsonObject:
    try:
        value = json.loads(line)
    except ValueError:
        shown = one_line(line[:200].decode("utf-8", "replace"))
        raise ProbeError(f"It wrote what is no message of the protocol: {shown!r}.") from None
    return value if isinstance(value, dict) else {}
