"""``Runs`` over a ``Corral`` of this process: it works on them, and takes up what others left.

What is to be done stands in the database (``orders``). So a run that a person answers or resumes in
a terminal goes on here too, and what a killed process had begun is taken up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from corral.agents.app import Corral
from corral.agents.hosting import offering, orders, reports
from corral.agents.hosting.contract import ENDED, Offer, Order, Report
from corral.agents.hosting.orders import Due, NewOrder, Served
from corral.agents.hosting.place import is_served
from corral.agents.hosting.stopping import until_stopped
from corral.agents.hosting.work import Worker
from corral.errors import ConflictError, StorageError, UsageError
from corral.runtime.approvals.answers import Signed
from corral.runtime.approvals.replies import Approved, Denied, Given, Reply, Stopped
from corral.runtime.events import Event
from corral.runtime.listing import effect_views
from corral.runtime.runs import new_run_id, new_thread_id
from corral.runtime.views import EffectView
from corral.tools.contract import ToolSpec

log = structlog.get_logger()

POLL_SECONDS = 0.5
"""How often it is looked whether something can go on, while anything has not ended."""

IDLE_SECONDS = 5.0
"""The same while all has ended: a person may resume a run that had failed."""

_FEW = 20
"""So many runs are read faster than the hop to another thread and back."""

_AS = {Approved: "approved", Denied: "denied", Given: "given", Stopped: "stopped"}


class LocalRuns:
    """See ``Runs``. ``account`` is under whose keys it works: it takes up no others' runs."""

    def __init__(self, corral: Corral, account: str) -> None:
        """Not for callers: use ``LocalRuns.open``."""
        self._corral = corral
        self._database = corral.records.database
        self._account = account
        self._worker = Worker(corral, self._has_changed)
        self._changes: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._look = asyncio.Event()
        self._attending: asyncio.Task[None]

    @classmethod
    @asynccontextmanager
    async def open(cls, corral: Corral, account: str = "") -> AsyncIterator[LocalRuns]:
        """Work on what there is to do. On leaving, what is at work is interrupted.

        It goes on when runs of this account are opened again, by whatever process.
        """
        runs = cls(corral, account)
        runs._attending = asyncio.create_task(runs._attend())
        try:
            yield runs
        finally:
            runs._attending.cancel()
            await asyncio.wait([runs._attending])
            await runs._worker.interrupt()

    @property
    def is_busy(self) -> bool:
        """Whether it works on anything."""
        return bool(self._worker.at_work)

    def take_nothing_on(self) -> None:
        """Only bring to an end what is at work: another process takes up all else."""
        self._attending.cancel()

    async def offers(self) -> list[Offer]:
        """See ``Runs.offers``."""
        return await asyncio.to_thread(offering.offers, self._corral)

    async def tools(self) -> list[ToolSpec]:
        """See ``Runs.tools``."""
        return await offering.tools(self._corral)

    async def start(self, owner: str, order: Order) -> Report:
        """See ``Runs.start``."""
        thread = await self._thread(owner, order)
        order = await offering.checked(self._corral, order, thread)
        workspace = str(self._corral.settings.workspace)
        new = NewOrder(new_run_id(), thread, owner, self._account, order, workspace)
        served, is_new = await self._database.write(lambda c: orders.store(c, new))
        if is_new:
            await self._begin(served)
        return await self.report(owner, served.run)

    async def _thread(self, owner: str, order: Order) -> str:
        """The thread that an order goes on with, which must be its owner's, or a new one."""
        known = order.thread
        if known is not None:
            await self._database.read(lambda c: orders.find_thread(c, owner, known))
            return known
        before = await self._database.read(lambda c: orders.by_key(c, owner, order.key))
        return before.thread if before else new_thread_id()

    async def _begin(self, served: Served) -> None:
        """Begin at once what can begin. Raises what was wrong with it; then it is forgotten."""
        due, _ = await self._database.read(lambda c: orders.find_due(c, self._account, only=served))
        if not due:
            self._look.set()
            return
        execution = self._worker.do(due[0])
        await execution.begun.wait()
        refusal = execution.refusal
        if isinstance(refusal, UsageError) and not isinstance(refusal, ConflictError):
            await self._database.write(lambda c: orders.forget(c, served.run))
            raise refusal

    async def report(self, owner: str, run: str) -> Report:
        """See ``Runs.report``."""
        served = await self._mine(owner, run)
        return await self._database.read(lambda c: reports.report(c, served))

    async def _mine(self, owner: str, run: str) -> Served:
        """An owner's order, which from now on is worked on here if nobody else can."""
        served = await self._database.glance(lambda c: orders.find(c, owner, run))
        if served.account != self._account and not await self._is_served(served.account):
            workspace = str(self._corral.settings.workspace)
            await self._database.write(lambda c: orders.adopt(c, run, self._account, workspace))
            self._look.set()
        return served

    async def _is_served(self, account: str) -> bool:
        return await asyncio.to_thread(is_served, self._corral.settings.home, account)

    async def wait(self, owner: str, run: str, seconds: float) -> Report:
        """See ``Runs.wait``."""
        until = time.monotonic() + seconds
        with self._hearing(run) as changed:
            while True:
                changed.clear()
                found = await self.report(owner, run)
                left = until - time.monotonic()
                if found.status in ENDED or found.status == "waiting" or left <= 0:
                    return found
                # Another process may work on it, which this one is not told of.
                pause = left if self._worker.is_at(run) else min(left, POLL_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await changed.wait()

    async def watch(self, owner: str, run: str) -> AsyncIterator[Event]:
        """See ``Runs.watch``. Of what another process works on only the end is seen."""
        await self._mine(owner, run)
        while True:
            if execution := self._worker.at_work.get(run):
                async for event in execution.listen():
                    yield event
            found = await self.wait(owner, run, POLL_SECONDS)
            if found.status in ENDED or found.status == "waiting":
                return

    async def cancel(self, owner: str, run: str) -> Report:
        """See ``Runs.cancel``. Raises ``ConflictError`` when a person's own process runs it."""
        found = await self.report(owner, run)
        if found.status in ENDED:
            return found
        await self._database.write(lambda c: orders.cancel(c, run))
        if execution := self._worker.at_work.get(run):
            await execution.stop()
        await until_stopped(self._database, run)
        self._has_changed(run)
        return await self.report(owner, run)

    async def send(self, owner: str, run: str, message: str, key: str | None = None) -> Report:
        """See ``Runs.send``; one that is sent twice under one ``key`` is one."""
        served = await self._mine(owner, run)
        if served.order.tool is not None:
            raise UsageError(
                f"The run {run} is one call of {served.order.tool}: nobody is there to talk to.",
                hint="Call the tool again, or give the task to an agent.",
            )
        order = Order(served.order.agent, message, thread=served.thread, key=key)
        return await self.start(owner, replace(order, budget=served.order.budget))

    async def listing(self, owner: str, limit: int = 100) -> list[Report]:
        """See ``Runs.listing``."""

        def read(connection: Connection) -> list[Report]:
            return reports.reports(connection, orders.newest(connection, owner, limit))

        few = limit <= _FEW
        return await (self._database.glance(read) if few else self._database.read(read))

    async def trace(self, owner: str, run: str) -> list[EffectView]:
        """See ``Runs.trace``."""
        await self._mine(owner, run)

        def read(connection: Connection) -> list[EffectView]:
            return effect_views(connection, run)

        return await self._database.read(read)

    async def answer(self, owner: str, approval: str, reply: Reply, by: str) -> Report:
        """See ``Runs.answer``. The same answer by the same once more is no error."""
        row, served = await self._database.read(lambda c: orders.asked_by(c, owner, approval))
        if (row.status, row.answered_by) != (_AS[type(reply)], by):
            await self._corral.records.answer(approval, reply, Signed(by))
        await self._mine(owner, served.run)
        await self.look()
        return await self.report(owner, served.run)

    async def look(self) -> None:
        """Look now whether something can go on. Returns when what can has been taken up."""
        found, _ = await self._database.read(lambda c: orders.find_due(c, self._account))
        for one in found:
            self._take_up(one)

    async def _attend(self) -> None:
        """Take up whatever can go on, for as long as this is open."""
        while True:
            busy = True
            self._look.clear()
            try:
                await self._corral.records.catch_up()
                found, busy = await self._database.read(lambda c: orders.find_due(c, self._account))
                for one in found:
                    self._take_up(one)
            except StorageError as error:
                log.warning("runs_not_looked_at", error=error.message)
            except Exception:  # the border: whatever it is, later there is more to take up
                log.exception("runs_not_looked_at")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS if busy else IDLE_SECONDS):
                    await self._look.wait()

    def _take_up(self, one: Due) -> None:
        if one.act == "stop" and self._worker.is_at(one.served.run):
            self._worker.cancel(one.served.run)
        else:
            self._worker.do(one)

    def _has_changed(self, run: str) -> None:
        self._look.set()
        for event in self._changes.get(run, ()):
            event.set()

    @contextlib.contextmanager
    def _hearing(self, run: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._changes[run].add(event)
        try:
            yield event
        finally:
            self._changes[run].discard(event)
            if not self._changes[run]:
                del self._changes[run]
