"""``Runs`` for whoever is connected to the host: requests and their answers, one JSON a line.

{"id": 1, "call": "wait", "args": ["stdio:cursor", "r-…", 20.0]}
{"id": 1, "event": {…}}      of what is watched, and at last
{"id": 1, "result": {…}}     or
{"id": 1, "error": {"kind": "NotFoundError", "message": "…", "hint": "…"}}
{"cancel": 1}                nobody waits for the answer any more
"""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from corral.agents.hosting import wire
from corral.agents.hosting.local import LocalRuns
from corral.errors import CorralError, RunError
from corral.jsontypes import Json, JsonObject

log = structlog.get_logger()

MOST_AT_ONCE = 512
"""Requests of one connection that are answered at the same time; the others wait."""

Call = Callable[..., Awaitable[Json]]


class Endpoint:
    """One connection to the runs of this process."""

    def __init__(self, runs: LocalRuns, reader: StreamReader, writer: StreamWriter) -> None:
        self._runs = runs
        self._reader, self._writer = reader, writer
        self._writing = asyncio.Lock()
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    async def serve(self) -> None:
        """Answer until the other end has gone. What it had begun goes on."""
        try:
            while line := await self._line():
                await self._take(json.loads(line))
        except (ValueError, KeyError, OSError) as error:
            log.warning("connection_broken", error=type(error).__name__)
        finally:
            asked = list(self._asked.values())
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _line(self) -> bytes:
        with suppress(ConnectionError):
            return await self._reader.readline()
        return b""

    async def _take(self, message: JsonObject) -> None:
        if "cancel" in message:
            if task := self._asked.get(message["cancel"]):
                task.cancel()
            return
        await self._room.acquire()
        number = int(message["id"])
        task = asyncio.create_task(self._answer(number, message["call"], message["args"]))
        self._asked[number] = task
        task.add_done_callback(lambda _: self._done(number))

    def _done(self, number: int) -> None:
        del self._asked[number]
        self._room.release()

    async def _answer(self, number: int, call: str, args: list[Any]) -> None:
        try:
            if call == "watch":
                await self._watch(number, *args)
                answer: JsonObject = {"result": None}
            else:
                answer = {"result": await self._call(call, args)}
        except CorralError as error:
            answer = {"error": wire.error_to_json(error)}
        except Exception as error:  # the border: a request fails, the connection lives on
            log.exception("request_failed", call=call)
            said = RunError("The request failed inside.", hint=type(error).__name__)
            answer = {"error": wire.error_to_json(said)}
        await self._send({"id": number, **answer})

    async def _call(self, call: str, args: list[Any]) -> Json:
        """What changes something is done to its end, whoever still waits for it."""
        if call in _READING:
            return await _CALLS[call](self._runs, *args)
        doing = asyncio.ensure_future(_CALLS[call](self._runs, *args))
        return await asyncio.shield(doing)

    async def _watch(self, number: int, owner: str, run: str) -> None:
        events: AsyncIterator[Any] = self._runs.watch(owner, run)
        async for event in events:
            await self._send({"id": number, "event": event.to_json()})

    async def _send(self, message: JsonObject) -> None:
        line = _line(message)
        if len(line) > wire.LONGEST_LINE:
            line = _line({"id": message["id"], "error": wire.error_to_json(_TOO_LONG)})
        with suppress(ConnectionError):
            async with self._writing:
                self._writer.write(line)
                await self._writer.drain()


def _line(message: JsonObject) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


_TOO_LONG = RunError(
    f"The answer has more than {wire.LONGEST_LINE // 2**20} MiB.",
    hint="Look at the run in a terminal: `corral trace`.",
)


async def _offers(runs: LocalRuns) -> Json:
    return [offer.to_json() for offer in await runs.offers()]


async def _tools(runs: LocalRuns) -> Json:
    return [spec.to_json() for spec in await runs.tools()]


async def _start(runs: LocalRuns, owner: str, order: JsonObject) -> Json:
    return (await runs.start(owner, wire.order_of(order))).to_json()


async def _report(runs: LocalRuns, owner: str, run: str) -> Json:
    return (await runs.report(owner, run)).to_json()


async def _wait(runs: LocalRuns, owner: str, run: str, seconds: float) -> Json:
    return (await runs.wait(owner, run, seconds)).to_json()


async def _cancel(runs: LocalRuns, owner: str, run: str) -> Json:
    return (await runs.cancel(owner, run)).to_json()


async def _send(runs: LocalRuns, owner: str, run: str, message: str, key: str) -> Json:
    return (await runs.send(owner, run, message, key)).to_json()


async def _listing(runs: LocalRuns, owner: str, limit: int) -> Json:
    return [report.to_json() for report in await runs.listing(owner, limit)]


async def _trace(runs: LocalRuns, owner: str, run: str) -> Json:
    return [effect.to_json() for effect in await runs.trace(owner, run)]


async def _reply(runs: LocalRuns, owner: str, approval: str, said: JsonObject, by: str) -> Json:
    return (await runs.answer(owner, approval, wire.reply_of(said), by)).to_json()


async def _look(runs: LocalRuns) -> Json:
    await runs.look()
    return None


_CALLS: Mapping[str, Call] = {
    "offers": _offers,
    "tools": _tools,
    "start": _start,
    "report": _report,
    "wait": _wait,
    "cancel": _cancel,
    "send": _send,
    "listing": _listing,
    "trace": _trace,
    "answer": _reply,
    "look": _look,
}
_READING = ("offers", "tools", "report", "wait", "listing", "trace")
