"""The calls of one server that are under way, and whose a question of the server is.

Before 2026-07-28 a server's question names no call. It belongs to the call that began last, as long
as all are of one run: two runs may be of two people, and neither is shown what the other's asks.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import structlog

from corral.errors import CorralError
from corral.tools.contract import CallOptions
from corral.tools.inquiry import MAX_QUESTIONS, Desk, Inquiry, Reply, Sample, Sampled
from corral.tools.wire import Refusal

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_NOT_NOW = Refusal(-32600, "no call is under way for which a model could be asked")


class UnderWay:
    """The calls of a server that can be asked about."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    @asynccontextmanager
    async def call(self, options: CallOptions, seconds: float) -> AsyncIterator[None]:
        """A call that may take ``seconds``, besides what its user needs to answer.

        Raises ``TimeoutError``.
        """
        async with asyncio.timeout(seconds) as limit:
            if options.desk is None:
                yield
                return
            call = _Call(options.desk, limit, seconds)
            self._calls.append(call)
            own = _own.set(call)
            try:
                yield
            finally:
                _own.reset(own)
                self._calls.remove(call)
                call.end()

    async def asked(self, inquiry: Inquiry) -> Reply:
        """What the user answers to a question of the server's."""
        call = self._asking()
        if call is None or not call.may_ask():
            return Reply("cancel")
        with call.held():
            return await call.of_its_own(call.desk.ask(inquiry, call.seconds))

    async def sampled(self, wanted: Sample) -> Sampled | Refusal:
        """What a model answers for the server."""
        call = self._asking()
        if call is None or not call.may_ask():
            return _NOT_NOW
        try:
            with call.held():
                return await call.of_its_own(call.desk.sample(wanted, call.seconds))
        except CorralError as error:
            return Refusal(_NOT_NOW.code, error.message)

    def _asking(self) -> _Call | None:
        """The call that a question is about; ``None`` where that cannot be known."""
        own = _own.get()
        if own in self._calls:
            return own
        if len({call.desk.run for call in self._calls}) > 1:
            _log.warning("question_of_one_of_several_runs", calls=len(self._calls))
            return None
        return self._calls[-1] if self._calls else None


class _Call:
    """One call: the context that it was made in, and its time."""

    def __init__(self, desk: Desk, limit: asyncio.Timeout, seconds: float) -> None:
        self.desk = desk
        self.seconds = seconds
        self._limit = limit
        self._left = 0.0
        self._holds = 0
        self._asked = 0
        self._is_over = False
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()

    def may_ask(self) -> bool:
        """Whether there may be one more question, which is counted."""
        self._asked += 1
        return self._asked <= MAX_QUESTIONS

    @contextmanager
    def held(self) -> Iterator[None]:
        """The call's time stands still in the body: a person reads, or a model answers."""
        loop = asyncio.get_running_loop()
        if self._holds == 0:
            self._left = (self._limit.when() or loop.time()) - loop.time()
            self._limit.reschedule(None)
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if self._holds == 0 and not self._is_over:
                self._limit.reschedule(loop.time() + self._left)

    async def of_its_own(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something as the call's own task would: the session's tasks know of no run."""
        task = asyncio.create_task(work, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            raise

    def end(self) -> None:
        """The call is over, and what is still asked for it."""
        self._is_over = True
        for task in tuple(self._tasks):
            task.cancel()


_own: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("corral_call", default=None)
"""The call that the current task makes: a server of 2026-07-28 asks in its answer to it."""
