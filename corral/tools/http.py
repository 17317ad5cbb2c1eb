"""An MCP server that is reached over HTTP."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral.tools.address import Address
from corral.tools.connection import Connection, Lost
from corral.tools.server import STRANGER, McpServer, Standing, Timing
from corral.tools.text import one_line
from corral.tools.wire import CLOSED, INVALID_REQUEST, LOST, NOT_SENT, Refusal, Session

_HINT = "Check that it runs, and its url and headers."


class HttpServer(McpServer):
    """A ``ToolProvider`` over streamable HTTP; it connects again when its session is gone."""

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        standing: Standing = STRANGER,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(name, standing=standing, timing=timing or Timing())
        self._address = address

    async def _connect(self) -> Connection:
        connection = Connection(self._session)
        failure = await connection.open(self._timing.startup)
        match failure:
            case None:
                return connection
            case TimeoutError():
                raise self._error(
                    f"at {self._address.shown} did not answer within {self._timing.startup:g} s.",
                    hint=_HINT,
                )
            case _:
                raise self._error(
                    f"at {self._address.shown} could not be used: {one_line(str(failure), 300)}.",
                    hint=_HINT,
                )

    @asynccontextmanager
    async def _session(self, lost: Lost) -> AsyncIterator[Session]:
        del lost  # a connection that breaks fails the request that was on it, and no other
        await asyncio.to_thread(importlib.import_module, "corral.tools.http_transport")
        from corral.tools.http_transport import open_http

        async with open_http(self._name, self._address, self) as session:
            yield session

    def _loss(self, connection: Connection, refusal: Refusal) -> str:
        if not connection.alive:
            return "closed the connection"
        if refusal.data == LOST:
            return refusal.message
        # what the SDK itself says of a stream that ended early
        if refusal.code == CLOSED and refusal.message.startswith(("SSE stream", "Connection clos")):
            return "closed the connection"
        return ""

    def _session_gone(self, refusal: Refusal) -> bool:
        # a server that was restarted knows no earlier session and refuses what names one
        return (
            refusal.code == INVALID_REQUEST
            and refusal.data != NOT_SENT
            and "session" in refusal.message.lower()
        )
