"""The interpreters of the ``python`` server: sessions with names, and those that wait ready."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from corral.mcp_servers.tool import ToolFault
from corral.sandbox.guest.client import ForkServer, Order, SessionClient
from corral.sandbox.guest.outcome import LOST, Outcome

MAX_SESSIONS = 8
_LOOK = 0.1
_MAX_NAME = 40


class Named:
    """One session with a name: calls in it wait for each other."""

    def __init__(self, client: SessionClient) -> None:
        self.client = client
        self.lock = threading.Lock()
        self.runs = 0


class PythonSessions:
    """All interpreters of one server, each a process tree of its own."""

    def __init__(self, warm: int, packages: str, preload: list[str]) -> None:
        self._server = ForkServer(packages, preload)
        self._sessions: dict[str, Named] = {}
        self._guard = threading.Lock()
        self._warm = warm
        self._spare = [self._server.session("python") for _ in range(warm)]

    def run(self, name: str, order: Order) -> Outcome:
        """Run code in the session of this name, made when it is first used."""
        named = self._named(name)
        self._wait(named.lock, order.cancelled)
        try:
            named.runs += 1
            outcome = named.client.run(order)
            if outcome is None:
                named.client.close()
                named.client, named.runs = self._take(), 0
            return outcome or LOST
        finally:
            named.lock.release()

    def run_fresh(self, order: Order) -> Outcome:
        """Run code in an interpreter that nothing ran in before, and end that."""
        client = self._take()
        outcome = client.run(order)
        if outcome is None:
            client.close()
            return LOST
        client.renew()
        with self._guard:
            self._spare.append(client)
        return outcome

    def restart(self, name: str) -> None:
        """End a session and what runs in it; the next call in it starts clean."""
        with self._guard:
            named = self._sessions.pop(name, None)
        if named is None:
            raise ToolFault(f"There is no session {name!r}.")
        named.client.end()
        with named.lock:
            named.client.close()

    def listing(self) -> list[dict[str, Any]]:
        """Every session: its name, how many runs it has seen, and whether one is under way."""
        with self._guard:
            return [
                {"session": name, "runs": named.runs, "busy": named.lock.locked()}
                for name, named in self._sessions.items()
            ]

    def close(self) -> None:
        """End all interpreters, and whatever runs in them."""
        with self._guard:
            clients = [*self._spare, *(named.client for named in self._sessions.values())]
        for client in clients:
            client.end()
        self._server.close()

    def _named(self, name: str) -> Named:
        if not name or len(name) > _MAX_NAME or not name.isprintable():
            raise ToolFault(f"A session's name has 1 to {_MAX_NAME} printable characters.")
        with self._guard:
            if name not in self._sessions:
                if len(self._sessions) >= MAX_SESSIONS:
                    known = ", ".join(self._sessions)
                    raise ToolFault(
                        f"There are {MAX_SESSIONS} sessions already ({known}): "
                        "use one of them, or end one with restart_session."
                    )
                self._sessions[name] = Named(self._next())
                if len(self._spare) < self._warm:
                    self._spare.append(self._server.session("python"))
            return self._sessions[name]

    def _take(self) -> SessionClient:
        with self._guard:
            return self._next()

    def _next(self) -> SessionClient:
        """The interpreter that has waited longest, else a new one."""
        return self._spare.pop(0) if self._spare else self._server.session("python")

    def _wait(self, lock: threading.Lock, cancelled: Callable[[], bool]) -> None:
        while not lock.acquire(timeout=_LOOK):
            if cancelled():
                raise ToolFault("Cancelled before it ran.")
