"""Asking a human: one way for every station that needs an answer.

A question is a row before it is an interrupt, and it is asked once: when the run comes here again,
in whatever process, the answer that was given is the one that counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from weakref import WeakMethod

from langgraph.types import interrupt
from sqlalchemy import Connection, Row, bindparam, insert, select

from corral.errors import RunError, StoppedByUser, StorageError
from corral.jsontypes import JsonObject, canonical
from corral.policies.limits import RunLimits
from corral.policies.redaction import Redactor
from corral.runtime.approvals.answers import close_questions
from corral.runtime.approvals.escalation import catch_up, expiry, tell
from corral.runtime.approvals.replies import STOPPED_AT
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.clock import ago, now
from corral.runtime.database import Database
from corral.runtime.entries import Text, insert_entry
from corral.runtime.events import ApprovalRequested, Event
from corral.runtime.journal import Journal
from corral.runtime.listing import approval_view
from corral.runtime.messages import well_formed
from corral.runtime.statements import Query
from corral.runtime.stations.context import of_run
from corral.runtime.tables import approvals
from corral.runtime.views import ApprovalKind, ApprovalStatus

POLL_SECONDS = 0.25
"""How often a call that is held looks for the answer."""


@dataclass(frozen=True)
class Question:
    """What a human is asked.

    ``tool`` and ``args`` are what it is about, and edited ``args`` must fit ``input_schema``.
    ``always`` is the rule that "always" suggests; empty where there can be none. ``context`` is
    what helps to decide, see ``views.Approval``.
    """

    kind: ApprovalKind
    tool: str
    args: JsonObject
    input_schema: JsonObject
    reason: str
    always: JsonObject = field(default_factory=dict)
    context: JsonObject = field(default_factory=dict)

    def held(self, seconds: float) -> Question:
        """The same, for which a call is kept waiting so long: it is wanted now."""
        return replace(self, context={**self.context, "held": seconds})


_patience: ContextVar[float | None] = ContextVar("corral_patience", default=None)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """In the body a question does not interrupt the graph, since a call is under way: its answer is
    waited for, so many seconds at most.
    """
    before = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(before)


@dataclass(frozen=True)
class Answer:
    """What was answered: edited ``args``, the ``reason`` of a no, a ``result`` given by hand.

    ``by`` says who answered, as ``views.Approval`` does.
    """

    status: ApprovalStatus
    args: JsonObject | None
    reason: str
    result: str | None
    by: str

    @property
    def refusal(self) -> str:
        """A no as the model is told it."""
        match self.by.partition(":"):
            case "timeout", _, _:
                who = "This call was denied"
            case "model", _, name:
                who = f"The approver {name} denied this call"
            case _:
                who = "The user denied this call"
        return f"{who}: {self.reason}"


@dataclass(frozen=True)
class Asking:
    """Who asks and on whose behalf, and what becomes of a question that nobody answers.

    ``agent`` is the run's own, and ``prompt`` what it was asked to do. What is stored with a
    question goes through ``redactor``.
    """

    thread: str
    agent: str
    prompt: str
    limits: RunLimits
    redactor: Redactor
    settings: ApprovalSettings = field(default_factory=ApprovalSettings)


_Budgets = Callable[[str], Awaitable[list[JsonObject]]]


class Questions:
    """What humans have been asked in this run, and what they have said."""

    def __init__(
        self,
        journal: Journal,
        database: Database,
        asking: Asking,
        emit: Callable[[Event], None],
    ) -> None:
        self._journal = journal
        self._database = database
        self._asking = asking
        self._emit = emit
        self._budgets: Callable[[], _Budgets | None] = lambda: None
        self._asked: dict[str, Row[Any]] = {}

    def tell_budgets(self, used: WeakMethod[_Budgets]) -> None:
        """Let questions show how far those budgets are used that pay for what is done at a path.

        Weakly, for who keeps them asks questions, too.
        """
        self._budgets = used

    async def load(self) -> None:
        """Read what was asked and answered so far; what nobody answered in time is denied."""
        await catch_up(self._database, self._asking.settings)
        run = {"run": self._journal.run}
        rows = await self._database.glance(lambda connection: _OF_RUN.all(connection, run))
        self._asked = {row.path: row for row in rows}

    def was_asked(self, path: str) -> bool:
        """Whether there is a question at this path, answered or not."""
        return path in self._asked

    async def answer(self, path: str, make: Callable[[], Question]) -> Answer:
        """The answer to the question at ``path``, which is asked if it was not.

        Interrupts the graph while there is none. Raises ``StoppedByUser``. A body that is
        ``patient`` is not interrupted, and may see ``RunError``: the question then stays open.
        """
        seconds = _patience.get()
        if path not in self._asked:
            await self._ask(path, make() if seconds is None else make().held(seconds))
        if seconds is not None and self._asked[path].status == "pending":
            self._asked[path] = await self._in_time(self._asked[path], seconds)
        row = self._asked[path]
        if row.status == "pending":
            interrupt({"approval": row.id})
            raise StorageError(f"The approval {row.id} was passed without an answer.")
        return _answer(row)

    async def meanwhile(self, path: str, question: Question, seconds: float) -> Answer:
        """The answer to a question that the effect at ``path`` waits for, without an interrupt.

        What nobody answers within ``seconds`` is denied. Raises ``StoppedByUser``.
        """
        places = (f"{path}/input/{number}" for number in itertools.count(1))
        place = next(place for place in places if place not in self._asked)
        await self._ask(place, question.held(seconds), ago(-timedelta(seconds=seconds)))
        asked = self._asked[place].id
        try:
            row = await self._answered(asked)
        except asyncio.CancelledError:
            of = approvals.c.id == asked
            await self._database.write(lambda c: close_questions(c, of, "the call is over"))
            raise
        self._asked[place] = row
        return _answer(row)

    async def _in_time(self, asked: Row[Any], seconds: float) -> Row[Any]:
        """A question once it is answered. Raises ``RunError`` when it is not within so long."""
        try:
            async with asyncio.timeout(seconds):
                return await self._answered(asked.id)
        except TimeoutError:
            raise RunError(
                f"Nobody answered within {seconds:g} s: {asked.reason}",
                hint=f"The question waits on: corral approve {asked.id}",
            ) from None

    async def _answered(self, asked: str) -> Row[Any]:
        """A question once it is answered, by whomever; what is overdue is denied by then."""
        query = select(approvals).where(approvals.c.id == asked)
        while True:
            await catch_up(self._database, self._asking.settings)
            row = await self._database.glance(lambda connection: connection.execute(query).one())
            if row.status != "pending":
                return row
            await asyncio.sleep(POLL_SECONDS)

    async def _ask(self, path: str, question: Question, expires_at: str | None = None) -> None:
        """Store the question and its entry in the journal together, then tell who listens."""
        asking = self._asking
        row = {
            "id": f"a-{secrets.token_hex(4)}",
            "run_id": self._journal.run,
            "thread_id": asking.thread,
            "path": path,
            "kind": question.kind,
            "tool": question.tool,
            "args": canonical(self._stored(question.args)),
            "input_schema": canonical(question.input_schema),
            "reason": asking.redactor.text(question.reason),
            "always": canonical(self._stored(question.always)),
            "context": canonical(self._stored(await self._context(path, question))),
            "status": "pending",
            "created_at": now(),
            "expires_at": expires_at or expiry(asking.settings),
        }
        request: JsonObject = {
            "tool": question.tool,
            "args": self._stored(question.args),
            "kind": question.kind,
        }
        entry = self._journal.waiting(path, question.tool, request)

        def work(connection: Connection) -> Row[Any]:
            connection.execute(insert(approvals), row)
            insert_entry(connection, entry, Text.of(entry.request))
            return connection.execute(select(approvals).where(approvals.c.id == row["id"])).one()

        stored = await self._database.write(work)
        self._asked[path] = stored
        view = approval_view(stored)
        self._emit(ApprovalRequested(view))
        await tell(asking.settings, "asked", view)

    async def _context(self, path: str, question: Question) -> JsonObject:
        asking = self._asking
        run = of_run(self._journal, path, asking.agent, asking.prompt, asking.limits)
        used = self._budgets()
        budgets = [] if used is None else await used(path)
        return {**run, "budgets": budgets, **question.context}

    def _stored(self, value: JsonObject) -> JsonObject:
        clean = self._asking.redactor.json(well_formed(value))
        assert isinstance(clean, dict)
        return clean


def _answer(row: Row[Any]) -> Answer:
    """What was answered. Raises ``StoppedByUser``."""
    if row.status == "stopped":
        raise StoppedByUser(f"{STOPPED_AT} {row.tool}: {row.answer_reason}")
    args = json.loads(row.answer_args) if row.answer_args else None
    by = row.answered_by or "user"
    return Answer(row.status, args, row.answer_reason or "", row.answer_result, by)


_OF_RUN = Query(select(approvals).where(approvals.c.run_id == bindparam("run")))
