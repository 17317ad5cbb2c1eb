"""Working on orders: beginning, going on and stopping, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

import structlog

from corral.agents.app import Corral
from corral.agents.hosting import orders
from corral.agents.hosting.execution import Execution
from corral.agents.hosting.orders import Act, Due, Served
from corral.agents.options import RunOptions
from corral.errors import ConflictError, CorralError
from corral.policies.budgets import Budget
from corral.runtime.events import ApprovalRequested, Events, RunStarted

log = structlog.get_logger()


class Worker:
    """The runs that this process works on; ``changed`` is told of each that has ended, or asks."""

    def __init__(self, corral: Corral, changed: Callable[[str], None]) -> None:
        self.at_work: dict[str, Execution] = {}
        self._corral = corral
        self._database = corral.records.database
        self._changed = changed

    def is_at(self, run: str) -> bool:
        """Whether it works on a run."""
        return run in self.at_work

    def do(self, due: Due) -> Execution:
        """Do what is to be done with an order, unless something is being done with it here."""
        if due.served.run in self.at_work:
            return self.at_work[due.served.run]
        execution = Execution(due.served.run)
        execution.task = asyncio.create_task(self._do(due, execution))
        self.at_work[execution.run] = execution
        execution.task.add_done_callback(partial(self._ended, execution))
        return execution

    def cancel(self, run: str) -> None:
        """Stop a run that was cancelled elsewhere, without waiting for it."""
        task = self.at_work[run].task
        if task is not None and not task.cancelling():
            task.cancel()

    async def interrupt(self) -> None:
        """Stop all work; it is gone on with when somebody opens these runs again."""
        at_work = list(self.at_work.values())
        # Before, in case that this process is killed; and after, for what had just begun.
        for when in ("before", "after"):
            for one in at_work:
                await self._database.write(partial(orders.interrupt, run=one.run))
            if when == "before":
                await asyncio.gather(*(one.stop() for one in at_work))

    def _ended(self, execution: Execution, task: asyncio.Task[None]) -> None:
        del self.at_work[execution.run]
        execution.end()
        if not task.cancelled() and (error := task.exception()):
            log.error("run_not_worked_on", run=execution.run, error=type(error).__name__)
        self._changed(execution.run)

    async def _do(self, due: Due, execution: Execution) -> None:
        served = due.served
        if due.act == "stop":
            await self._database.write(partial(orders.is_stopped, run=served.run))
            return
        count = await self._database.write(partial(orders.attempt, due=due))
        if count is None:
            return
        if count > orders.ATTEMPTS:
            await self._give_up(served, _WORN_OUT.format(count - 1, served.error or ""))
            return
        try:
            await self._work(served, due.act, execution)
        except ConflictError as error:
            # Somebody else was faster, or nobody can: seen when it is looked at again.
            execution.refusal = error
            await self._database.write(partial(orders.note, run=served.run, error=str(error)))
        except CorralError as error:
            execution.refusal = error
            await self._give_up(served, str(error))
        except Exception as error:  # the border to whatever an agent is made of
            log.exception("run_failed", run=served.run)
            await self._give_up(served, f"internal error: {type(error).__name__}")
            raise

    async def _work(self, served: Served, act: Act, execution: Execution) -> None:
        events = self._begun(served) if act == "begin" else self._resumed(served)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RunStarted):
                    await self._database.appended(lambda c: orders.mark(c, served.run, "begun"))
                    execution.begun.set()
                execution.tell(event)
                if isinstance(event, ApprovalRequested):  # a call may be held, and the run goes on
                    self._changed(served.run)

    def _begun(self, served: Served) -> Events:
        order = served.order
        budget = Budget.model_validate(order.budget) if order.budget else None
        options = RunOptions(thread=served.thread, id=served.run, budget=budget)
        if order.tool is not None:
            return self._corral.stream_call(order.tool, order.args, options)
        named = RunOptions(agent=order.agent, thread=served.thread, id=served.run, budget=budget)
        return self._corral.stream(order.prompt, named)

    def _resumed(self, served: Served) -> Events:
        return self._corral.stream_resume(served.run)

    async def _give_up(self, served: Served, error: str) -> None:
        log.warning("run_given_up", run=served.run)
        await self._database.write(lambda c: orders.give_up(c, served.run, error))


_WORN_OUT = (
    "The process that worked on this run ended {} times without getting any further. {}\n"
    "Look at it with `corral trace`, and go on with `corral resume`."
)
