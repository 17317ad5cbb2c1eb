"""``Runs`` of the run host, for the processes that serve clients: they come and go, it stays.

A host that is gone is started again, and what was asked of it is asked anew. Orders and messages
carry a key, so that asking twice is doing once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from corral.agents.hosting import place as places
from corral.agents.hosting import wire
from corral.agents.hosting.contract import ENDED, Offer, Order, Report
from corral.agents.hosting.place import Place
from corral.errors import RunError
from corral.jsontypes import JsonObject
from corral.runtime.approvals.replies import Reply
from corral.runtime.events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from corral.runtime.views import EffectView
from corral.tools.contract import ToolSpec

TRIES = 5
"""How many hosts may go, one after the other, while one request waits."""

_MOST_BEHIND = 1_000
_PIECES = (TextDelta.type, ReasoningDelta.type, ToolCallDelta.type)


class HostedRuns:
    """See ``Runs``. Every method raises ``RunError`` when no host can be had."""

    def __init__(self, place: Place) -> None:
        """Not for callers: use ``HostedRuns.open``."""
        self._place = place
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Place) -> AsyncIterator[HostedRuns]:
        """The runs of the host at a place. It is started when it is first asked for something."""
        runs = cls(place)
        try:
            yield runs
        finally:
            if runs._connection is not None:
                await runs._connection.aclose()

    async def offers(self) -> list[Offer]:
        """See ``Runs.offers``."""
        return [wire.offer_of(one) for one in await self._ask("offers")]

    async def tools(self) -> list[ToolSpec]:
        """See ``Runs.tools``."""
        return [wire.spec_of(one) for one in await self._ask("tools")]

    async def start(self, owner: str, order: Order) -> Report:
        """See ``Runs.start``."""
        order = order if order.key is not None else replace(order, key=_once())
        return wire.report_of(await self._ask("start", owner, wire.order_to_json(order)))

    async def report(self, owner: str, run: str) -> Report:
        """See ``Runs.report``."""
        return wire.report_of(await self._ask("report", owner, run))

    async def wait(self, owner: str, run: str, seconds: float) -> Report:
        """See ``Runs.wait``."""
        until = time.monotonic() + seconds
        for _ in range(TRIES):
            with suppress(_GoneError):
                left = max(0.0, until - time.monotonic())
                return wire.report_of(await self._asked_once("wait", owner, run, left))
        raise _no_host(self._place)

    async def watch(self, owner: str, run: str) -> AsyncGenerator[Event, None]:
        """See ``Runs.watch``. What happens while the host is replaced is not seen."""
        for _ in range(TRIES):
            connection = await self._connected()
            with suppress(_GoneError):
                async with aclosing(_known(connection.stream("watch", owner, run))) as events:
                    async for event in events:
                        yield event
                return
            found = await self.report(owner, run)
            if found.status in ENDED or found.status == "waiting":
                return
        raise _no_host(self._place)

    async def cancel(self, owner: str, run: str) -> Report:
        """See ``Runs.cancel``."""
        return wire.report_of(await self._ask("cancel", owner, run))

    async def send(self, owner: str, run: str, message: str, key: str | None = None) -> Report:
        """See ``Runs.send``."""
        return wire.report_of(await self._ask("send", owner, run, message, key or _once()))

    async def listing(self, owner: str, limit: int = 100) -> list[Report]:
        """See ``Runs.listing``."""
        return [wire.report_of(one) for one in await self._ask("listing", owner, limit)]

    async def trace(self, owner: str, run: str) -> list[EffectView]:
        """See ``Runs.trace``."""
        return [wire.effect_of(one) for one in await self._ask("trace", owner, run)]

    async def answer(self, owner: str, approval: str, reply: Reply, by: str) -> Report:
        """See ``Runs.answer``."""
        said = wire.reply_to_json(reply)
        return wire.report_of(await self._ask("answer", owner, approval, said, by))

    async def _ask(self, call: str, *args: Any) -> Any:
        """Ask until a host has answered. Raises what it raises."""
        for _ in range(TRIES):
            with suppress(_GoneError):
                return await self._asked_once(call, *args)
        raise _no_host(self._place)

    async def _asked_once(self, call: str, *args: Any) -> Any:
        return await (await self._connected()).ask(call, *args)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or self._connection.is_gone:
                connected = await asyncio.to_thread(places.connect, self._place, {"as": "runs"})
                self._connection = await _Connection.open(connected)
            return self._connection


class _GoneError(Exception):
    """The host has gone, or this connection to it."""


class _Connection:
    """One connection to a host, on which many ask at the same time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_gone = False
        self._writer = writer
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[JsonObject | None]] = {}
        self._watched: dict[int, asyncio.Queue[JsonObject | None]] = {}
        self._reading = asyncio.create_task(self._read(reader))

    @classmethod
    async def open(cls, connected: socket.socket) -> _Connection:
        """Talk over a socket on which the host has said welcome."""
        limit = wire.LONGEST_LINE
        return cls(*await asyncio.open_unix_connection(sock=connected, limit=limit))

    async def ask(self, call: str, *args: Any) -> Any:
        """The result of a request. Raises what the host raises, and ``_GoneError``."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send({"id": number, "call": call, "args": args})
            if (message := await answer) is None:
                raise _GoneError
            return _result(message)
        finally:
            del self._asked[number]
            if answer.cancelled():
                self._forget(number)

    async def stream(self, call: str, *args: Any) -> AsyncGenerator[JsonObject, None]:
        """The events of a request, to its end. Raises as ``ask`` does."""
        number = next(self._numbers)
        queue = self._watched[number] = asyncio.Queue()
        is_over = False
        try:
            await self._send({"id": number, "call": call, "args": args})
            while (message := await queue.get()) is not None:
                if is_over := "event" not in message:
                    _result(message)
                    return
                yield message["event"]
            raise _GoneError
        finally:
            del self._watched[number]
            if not is_over:
                self._forget(number)

    def _forget(self, number: int) -> None:
        """Tell the host that nobody waits any more."""
        if not self.is_gone:
            self._writer.write(_line({"cancel": number}))

    async def _send(self, message: JsonObject) -> None:
        if self.is_gone:
            raise _GoneError
        try:
            self._writer.write(_line(message))
            await self._writer.drain()
        except ConnectionError as error:
            raise _GoneError from error

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError):
            pass
        finally:
            self.is_gone = True
            self._writer.close()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_result(None)
            for queue in self._watched.values():
                queue.put_nowait(None)

    def _take(self, message: JsonObject) -> None:
        number = message["id"]
        if (answer := self._asked.get(number)) is not None and not answer.done():
            answer.set_result(message)
        queue = self._watched.get(number)
        if queue is not None and not _is_too_much(queue, message):
            queue.put_nowait(message)

    async def aclose(self) -> None:
        """Leave. What was begun goes on."""
        self._reading.cancel()
        await asyncio.wait([self._reading])


async def _known(told: AsyncGenerator[JsonObject, None]) -> AsyncGenerator[Event, None]:
    """Events that are known here, of those that are told."""
    async with aclosing(told):
        async for data in told:
            if (event := wire.event_of(data)) is not None:
                yield event


def _is_too_much(queue: asyncio.Queue[JsonObject | None], message: JsonObject) -> bool:
    """Whether it is a piece of a text for one who is far behind."""
    event = message.get("event")
    return queue.qsize() > _MOST_BEHIND and event is not None and event["type"] in _PIECES


def _result(message: JsonObject) -> Any:
    """What was answered. Raises what the host raises."""
    if "error" in message:
        raise wire.error_of(message["error"])
    return message["result"]


def _line(message: JsonObject) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _once() -> str:
    return f"once/{secrets.token_hex(12)}"


def _no_host(place: Place) -> RunError:
    return RunError(
        f"The run host ended {TRIES} times while it was asked.",
        hint=f"See what it says in {place.log}; what was begun is kept.",
    )
