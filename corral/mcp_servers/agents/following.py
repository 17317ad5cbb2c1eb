"""Waiting for a run within a call: what it does is told as progress, its questions are asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from corral.agents.hosting.contract import Report, Runs
from corral.errors import UsageError
from corral.mcp_servers.agents.asking import Attention, answered_by, question
from corral.mcp_servers.serving.contract import AskFirst, Caller, Elicited, Exchange, NoAnswer
from corral.runtime.events import AgentStarted, Event, Notice, ToolFinished, ToolStarted
from corral.runtime.views import Approval
from corral.tools.text import one_line

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Followed:
    """How a run stands after the wait, and what is to be said of how its questions were asked."""

    report: Report
    notes: tuple[str, ...] = ()


class Follower:
    """Waits for runs in the place of their clients, and brings their humans' answers."""

    def __init__(self, runs: Runs, attention: Attention) -> None:
        self._runs = runs
        self._attention = attention
        self._asked: dict[str, asyncio.Task[list[str]]] = {}

    async def follow(
        self, caller: Caller, run: str, seconds: float, exchange: Exchange
    ) -> Followed:
        """Wait up to ``seconds`` for a run, and as long again for a human whom it needs.

        Raises ``AskFirst`` where the caller's human is asked by rounds.
        """
        notes: list[str] = []
        closed: set[str] = set()
        if exchange.state is not None:
            notes += await self.carry(caller, run, exchange.answers)
            closed = set(_state_of(exchange.state)[1])
        left = seconds
        while True:
            begun = time.monotonic()
            report = await self._wait(caller.owner, run, max(left, 0.0), exchange)
            left -= time.monotonic() - begun
            asked = [one for one in report.approvals if one.id not in closed]
            if report.status != "waiting" or not asked or not self._attention.asks(caller):
                return Followed(report, tuple(notes))
            closed |= {one.id for one in asked}
            if caller.asks == "rounds":
                raise AskFirst(
                    {one.id: question(one) for one in asked}, _state(run, sorted(closed))
                )
            said = await self._push(caller, asked, seconds, exchange)
            if said is None:
                notes.append("Your client is asking its user; the answer is not there yet.")
                return Followed(report, tuple(notes))
            notes += said

    async def until_answered(self, caller: Caller, run: str, seconds: float) -> float:
        """Wait while a run waits for the same answers, which this client cannot bring.

        Returns how many of the ``seconds`` are left. Without it a model that looks again and again
        would do so without a pause.
        """
        if self._attention.asks(caller):
            return seconds
        until = time.monotonic() + seconds
        found = await self._runs.report(caller.owner, run)
        asked = found.approvals
        while found.status == "waiting" and found.approvals == asked:
            left = until - time.monotonic()
            if left <= 0:
                return 0.0
            await asyncio.sleep(min(left, _LOOK_SECONDS))
            found = await self._runs.report(caller.owner, run)
        return max(0.0, until - time.monotonic())

    async def carry(self, caller: Caller, run: str, answers: Mapping[str, Elicited]) -> list[str]:
        """Carry a human's answers to the questions of one run; what is to be said of the others.

        An answer to what is no question of this run, or is answered already, changes nothing.
        """
        report = await self._runs.report(caller.owner, run)
        waiting = {one.id: one for one in report.approvals}
        notes = []
        for approval, answer in answers.items():
            if approval not in waiting:
                continue
            reply = self._attention.reply(caller, waiting[approval], answer)
            if reply is None:
                notes.append(self._attention.note(caller, waiting[approval], answer))
                continue
            try:
                await self._runs.answer(caller.owner, approval, reply, answered_by(caller))
            except UsageError as error:
                # Somebody else has answered meanwhile, or the answer does not fit.
                notes.append(error.message)
        return notes

    async def _wait(self, owner: str, run: str, seconds: float, exchange: Exchange) -> Report:
        if not exchange.followed:
            return await self._runs.wait(owner, run, seconds)
        telling = asyncio.create_task(_tell(self._runs.watch(owner, run), exchange))
        try:
            return await self._runs.wait(owner, run, seconds)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _push(
        self, caller: Caller, asked: list[Approval], seconds: float, exchange: Exchange
    ) -> list[str] | None:
        """Have questions asked, each once, and wait for the first answer, which has been carried.

        ``None``: none came within ``seconds``. One that comes later is carried all the same.
        """
        for one in asked:
            if one.id not in self._asked:
                task = asyncio.create_task(self._ask(caller, one, exchange))
                self._asked[one.id] = task
                task.add_done_callback(partial(self._no_more, one.id))
        mine = [self._asked[one.id] for one in asked]
        done, _ = await asyncio.wait(mine, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return None
        return [note for task in done for note in task.result()]

    def _no_more(self, approval: str, _task: asyncio.Task[list[str]]) -> None:
        del self._asked[approval]

    async def _ask(self, caller: Caller, approval: Approval, exchange: Exchange) -> list[str]:
        try:
            answer = await exchange.ask(question(approval))
        except NoAnswer:
            return ["Your client could not ask its user."]
        return await self.carry(caller, approval.run, {approval.id: answer})


def _state(run: str, asked: list[str]) -> str:
    return json.dumps([run, asked])


def _state_of(state: str) -> tuple[str, list[str]]:
    run, asked = json.loads(state)
    return str(run), [str(one) for one in asked]


def run_of(state: str) -> str:
    """The run that a call was about in the round before."""
    return _state_of(state)[0]


async def _tell(events: AsyncIterator[Event], exchange: Exchange) -> None:
    done = 0
    async with _closing(events):
        async for event in events:
            if words := _in_words(event):
                done += 1
                await exchange.progress(done, None, words)


def _closing(events: AsyncIterator[Event]) -> contextlib.AbstractAsyncContextManager[object]:
    return aclosing(events) if isinstance(events, AsyncGenerator) else contextlib.nullcontext()


def _in_words(event: Event) -> str:
    """What a client shows of an event: the names of what is done, and nothing that was read."""
    match event:
        case AgentStarted():
            return f"gives a task to {one_line(event.name, 80)}"
        case ToolStarted():
            return f"calls {one_line(event.name, 80)}"
        case ToolFinished() if event.is_error:
            return f"{one_line(event.name, 80)} gave an error"
        case Notice():
            return one_line(event.text)
        case _:
            return ""
