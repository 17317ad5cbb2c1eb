"""The run host: the process in which clients' runs live, whoever of them comes and goes.

There is one at a place: it holds the lock, listens on the socket, and ends by itself when nobody is
connected and nothing is at work. A Corral that is newer than it has it drain: it takes nothing more
on, and ends when what it works on has ended and who is connected has gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.lock import Lock, tidy
from corral.agents.hosting.place import PROTOCOL, Place, peer_is_me
from corral.agents.hosting.wire import LONGEST_LINE
from corral.jsontypes import JsonObject
from corral.version import VERSION

log = structlog.get_logger()

Serve = Callable[[LocalRuns, StreamReader, StreamWriter, JsonObject], Awaitable[None]]
"""Serves one connection, whose first line said what it is for, until the other end has gone."""

_HELLO_SECONDS = 30.0
_LOOK_SECONDS = 0.2


@dataclass
class Host:
    """Serves the runs at a place to whoever connects, by what they say that they want.

    ``idle`` is how many seconds it stays when nobody needs it.
    """

    place: Place
    lock: Lock
    runs: LocalRuns
    serving: Mapping[str, Serve]
    idle: float
    _connections: set[asyncio.Task[None]] = field(default_factory=set)
    _used: float = field(default_factory=time.monotonic)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _is_draining: bool = False

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until nobody needs it, or it is to leave; ``ready`` is called when it listens."""
        server = await asyncio.start_unix_server(
            self._connected, sock=self._listening(), limit=LONGEST_LINE
        )
        ready()
        tidy(self.place)
        try:
            while self._is_needed() and not self._is_draining:
                await self._pause()
        finally:
            # Whoever comes now finds nobody, and starts the next one.
            with suppress(FileNotFoundError):
                self.place.socket.unlink()
            server.close()
            self.runs.take_nothing_on()
            self.lock.release()

    def leave(self) -> None:
        """End soon: what is at work is interrupted, and goes on in the next host."""
        self._leaving.set()

    async def drain(self) -> None:
        """Stay until those who are connected have gone and what is at work has ended."""
        while self._is_draining and self._is_needed():
            await self._pause()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _listening(self) -> socket.socket:
        """The socket, in the place of one that a killed host has left."""
        with suppress(FileNotFoundError):
            self.place.socket.unlink()
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listening.bind(str(self.place.socket))
        finally:
            os.umask(before)
        return listening

    def _is_needed(self) -> bool:
        if self._leaving.is_set():
            return False
        if self._connections or self.runs.is_busy:
            self._used = time.monotonic()
            return True
        return not self._is_draining and time.monotonic() - self._used < self.idle

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._leaving.wait()

    def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await self._welcome(reader, writer)
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("connection_broken", error=type(error).__name__)
        except Exception:  # the border to what is served: the host lives on
            log.exception("connection_failed")
        finally:
            writer.close()

    async def _welcome(self, reader: StreamReader, writer: StreamWriter) -> None:
        if not peer_is_me(writer.get_extra_info("socket")):
            return
        async with asyncio.timeout(_HELLO_SECONDS):
            line = await reader.readline()
        hello = json.loads(line)
        serve, answer = self._answer(hello)
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        if serve is not None:
            await serve(self.runs, reader, writer, hello)

    def _answer(self, hello: JsonObject) -> tuple[Serve | None, JsonObject]:
        """Who serves what a connection is for, and what it is told."""
        if _is_newer(hello.get("corral")):
            self._is_draining = True
            return None, {"retry": True}
        serve = self.serving.get(str(hello.get("as")))
        if serve is None or hello.get("protocol") != PROTOCOL:
            message = f"The run host (Corral {VERSION}) does not know what is asked of it."
            hint = "Restart the client, so that it and the host are of the same Corral."
            return None, {"error": {"message": message, "hint": hint}}
        return serve, {"ok": True, "corral": VERSION, "pid": os.getpid()}


def _is_newer(version: Any) -> bool:
    """Whether it is a version of Corral after this one."""
    return _numbers(str(version)) > _numbers(VERSION)


def _numbers(version: str) -> list[int]:
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        found.append(int(digits) if digits else 0)
    return found
