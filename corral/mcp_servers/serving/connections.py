"""HTTP connections whose clients must get to the point (a defence against slow loris)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from corral.mcp_servers.serving.work import Work

WORK = "corral.mcp.work"
"""Under this name the application's state has its ``Work``."""


class PatientProtocol(H11Protocol):
    """Closes a connection on which the head of a request takes longer than a kept-alive one may
    wait (``timeout_keep_alive``). uvicorn itself waits for ever for the first one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Wait for the first request."""
        super().connection_made(transport)
        # asyncio does this only to sockets whose protocol is named, and an accepted one's is not.
        # A kept connection's answer would wait 40 ms for the client to acknowledge its head.
        accepted = transport.get_extra_info("socket")
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """A head that has come is waited for no more; one that has begun, for so long."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._due is None:
            self._wait()

    def shutdown(self) -> None:
        """The server ends: a stream that closes from now on is not closed by its client."""
        work = self.app_state.get(WORK)
        if isinstance(work, Work):
            work.leave()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._due = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
