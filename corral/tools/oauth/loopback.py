"""The address on this machine to which the browser returns after a login (RFC 8252, section 7.3).

Whatever runs on this machine, and every page that a browser shows, can call it. What brings another
state than that of this login is refused, and ends nothing. It runs while a person logs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

_MAX_LINE = 16 * 1024
_PATH = "/callback"
_PAGE = """<!doctype html><meta charset="utf-8"><title>Corral</title>
<p>{words}</p>"""


class Returns:
    """What the browser brings back."""

    def __init__(self) -> None:
        self.uri = ""
        self._state = b""
        self._found: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def expect(self, state: str) -> None:
        """From now on what brings this state, with a code or an error, is the browser's return."""
        self._state = state.encode()

    async def fields(self) -> dict[str, str]:
        """The fields of the address that it opened: ``code``, ``state``, ``iss``, ``error``."""
        return await self._found

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, ValueError, asyncio.LimitOverrunError):
            line = (await reader.readline()).decode("ascii", "replace")
            writer.write(self._answer(line).encode())
            await writer.drain()
        writer.close()

    def _answer(self, line: str) -> str:
        method, _, rest = line.partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        fields = {name: values[0] for name, values in parse_qs(target.query).items()}
        if method != "GET" or target.path != _PATH:
            return _response("404 Not Found", "There is nothing here.")
        if not self._is_ours(fields):
            return _response("400 Bad Request", "This is not the login that was begun.")
        if not self._found.done():
            self._found.set_result(fields)
        return _response("200 OK", "You can close this window and go back to the terminal.")

    def _is_ours(self, fields: dict[str, str]) -> bool:
        brings = "code" in fields or "error" in fields
        state = fields.get("state", "").encode()
        return brings and bool(self._state) and hmac.compare_digest(state, self._state)


@asynccontextmanager
async def open_loopback() -> AsyncIterator[Returns]:
    """A place to return to, on a free port of the loopback interface."""
    returns = Returns()
    server = await asyncio.start_server(returns.serve, "127.0.0.1", 0, limit=_MAX_LINE)
    port = server.sockets[0].getsockname()[1]
    returns.uri = f"http://127.0.0.1:{port}{_PATH}"
    try:
        yield returns
    finally:
        server.close()


def _response(status: str, words: str) -> str:
    page = _PAGE.format(words=words)
    head = "Content-Type: text/html; charset=utf-8\r\nConnection: close\r\nCache-Control: no-store"
    return f"HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {len(page.encode())}\r\n\r\n{page}"
