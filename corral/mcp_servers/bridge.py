"""Between a client's standard input and output and the process that serves it for long.

Standard library only: a client starts it for every session, and the host that it leads to is there
already, or is started and stays. It forwards lines both ways. When the host ends it finds or starts
the next one, which is told of the client's handshake.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from corral.agents.hosting.place import connect, find_place
from corral.errors import CorralError, ToolServerError
from corral.mcp_servers.bridge_session import Session
from corral.mcp_servers.wire import Frames

Dial = Callable[[], socket.socket]
"""Finds the host, or starts one, and connects to it. Raises ``CorralError``."""

_CHUNK = 1 << 16
_PIPE = 4096  # so much goes into a pipe that poll calls writable, without waiting
_HELD = 1 << 20  # with so much unread on one side, nothing more is taken from the other
_RESTARTS, _WITHIN = 5, 60.0  # more lost hosts than that, in seconds, and it is given up
LEAVING: Final = 1.5
"""Seconds for which a client that has gone is still answered."""


def serve(
    what: str, home: Path | None = None, workspace: Path | None = None, config: Path | None = None
) -> int:
    """Serve the client at standard input and output: agents, all, or the tools of one server.

    Raises ``CorralError``.
    """

    def dial() -> socket.socket:
        return connect(find_place(home, workspace, config), {"as": "mcp", "serve": what})

    return Bridge(dial).run()


class Bridge:
    """The session of a client that writes to ``source`` and reads from ``target``."""

    def __init__(self, dial: Dial, source: int = 0, target: int = 1) -> None:
        self._dial = dial
        self._session = Session()
        self._input, self._output = source, target
        self._client, self._host = Frames(), Frames()
        self._lost: deque[float] = deque(maxlen=_RESTARTS)
        self._ends: float | None = None

    def run(self) -> int:
        """Forward until the client goes; the exit status.

        Raises ``CorralError`` when no host can be reached any more; the client has been told.
        """
        self._socket = self._connected()
        try:
            while (seconds := self._seconds_left()) != 0:
                self._turn(seconds)
        except BrokenPipeError:
            pass  # nobody is left to answer
        except CorralError as error:
            self._session.give_up(error.message)
            self._write_all()
            raise
        finally:
            self._socket.close()
        return 0

    def _connected(self) -> socket.socket:
        connection = self._dial()
        connection.setblocking(False)
        return connection

    def _seconds_left(self) -> float | None:
        """For how long there is something to wait for; ``None``: until something comes."""
        if self._ends is None:
            return None
        return max(0.0, self._ends - time.monotonic()) if self._session.is_waiting else 0

    def _turn(self, seconds: float | None) -> None:
        """Wait until something can be moved, and move it."""
        session = self._session
        poll = select.poll()
        if self._ends is None and session.owed <= _HELD:
            poll.register(self._input, select.POLLIN)
        wanted = select.POLLIN if session.to_client.size <= _HELD else 0
        poll.register(self._socket, wanted | (select.POLLOUT if session.to_host.size else 0))
        poll.register(self._output, select.POLLOUT if session.to_client.size else 0)
        ready = dict(poll.poll(None if seconds is None else seconds * 1000))
        if ready.get(self._input):
            self._read_client()
        if self._output in ready:
            self._write_client(ready[self._output])
        if (events := ready.get(self._socket.fileno())) and not self._moved(events):
            self._again()

    def _read_client(self) -> None:
        chunk = os.read(self._input, _CHUNK)
        for line in self._client.feed(chunk):
            self._session.from_client(line)
        if not chunk:
            self._ends = time.monotonic() + LEAVING

    def _write_client(self, events: int) -> None:
        if events & select.POLLERR:
            raise BrokenPipeError
        if (lines := self._session.to_client).size:
            lines.written(os.write(self._output, lines.head(_PIPE)))

    def _moved(self, events: int) -> bool:
        """Whether the host is still there after it was read from and written to."""
        try:
            if events & ~select.POLLOUT:
                chunk = self._socket.recv(_CHUNK)
                if not chunk:
                    return False
                for line in self._host.feed(chunk):
                    self._session.from_host(line)
            if events & select.POLLOUT and (lines := self._session.to_host).size:
                lines.written(self._socket.send(lines.head(_CHUNK)))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _again(self) -> None:
        """Go on with the next host."""
        self._socket.close()
        now = time.monotonic()
        if len(self._lost) == _RESTARTS and now - self._lost[0] < _WITHIN:
            raise ToolServerError(
                "The process that works for MCP clients has ended again and again.",
                hint="Its log is in the folder `logs` of CORRAL_HOME. Run: corral doctor",
            )
        self._lost.append(now)
        self._host = Frames()
        self._socket = self._connected()
        self._session.restarted()

    def _write_all(self) -> None:
        """The last words to a client, which need not read them."""
        ends = time.monotonic() + LEAVING
        poll = select.poll()
        poll.register(self._output, select.POLLOUT)
        while self._session.to_client.size and (left := ends - time.monotonic()) > 0:
            for _, events in poll.poll(left * 1000):
                try:
                    self._write_client(events)
                except BrokenPipeError:
                    return
