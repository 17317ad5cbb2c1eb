"""The service behind ``corral mcp serve agents``: tools over runs that outlive their clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import mcp_types as types

from corral.agents.hosting.contract import ENDED, Offer, Order, Report, Runs
from corral.errors import NotFoundError
from corral.jsontypes import JsonObject
from corral.mcp_servers.agents import prompts, resources
from corral.mcp_servers.agents.asking import READING, Attention, question
from corral.mcp_servers.agents.definitions import (
    INSTRUCTIONS,
    agent_tool,
    lone_tool,
    run_tools,
)
from corral.mcp_servers.agents.following import Follower, run_of
from corral.mcp_servers.agents.naming import (
    CANCEL,
    LIST,
    PENDING,
    RESULT,
    RUN_TOOLS,
    SEND,
    STATUS,
    offered_names,
)
from corral.mcp_servers.agents.ordering import begun, sent
from corral.mcp_servers.agents.outcome import (
    command_for,
    plain_result,
    run_result,
    structured,
    waiting,
)
from corral.mcp_servers.agents.recent import Recent
from corral.mcp_servers.agents.watching import Watcher
from corral.mcp_servers.serving.contract import (
    AsTask,
    Caller,
    Elicited,
    Exchange,
    Identity,
    TaskState,
    TaskStatus,
)
from corral.tools.contract import ToolSpec
from corral.version import VERSION

_FRESH: Final = 2.0
"""Seconds for which what is offered is not looked for again."""

_BEFORE_TASK: Final = 1.0
"""Seconds that a client which takes tasks is let wait for a quick answer."""


Beginning = Coroutine[None, None, tuple[Report, tuple[str, ...]]]
"""What begins a run, and what is to be said of it."""


@dataclass(frozen=True)
class Offering:
    """What is offered: agents, and the tools of ``servers`` (``None``: of all; empty: of none)."""

    agents: bool = True
    servers: tuple[str, ...] | None = ()

    @classmethod
    def of(cls, what: str) -> Self:
        """What ``corral mcp serve WHAT`` offers: the agents, all, or the tools of one server."""
        match what:
            case "agents":
                return cls()
            case "all":
                return cls(servers=None)
            case _:
                return cls(agents=False, servers=(what,))


@dataclass(frozen=True)
class Waits:
    """How long a call waits for a run, and at most if it says so itself; what a human needs."""

    usual: float = 20.0
    longest: float = 50.0
    reading: float = READING


class AgentService:
    """``Service`` over ``Runs``: agents and tools by name, runs by handle, each client its own."""

    def __init__(self, runs: Runs, offering: Offering = Offering(), waits: Waits = Waits()) -> None:
        self._runs = runs
        self._offering = offering
        self._waits = waits
        self._attention = Attention(waits.reading)
        self._follower = Follower(runs, self._attention)
        self._watcher = Watcher(runs)
        self._agents = Recent(self._named_agents, _FRESH)
        self._lone = Recent(self._named_tools, _FRESH)
        self._tools = Recent(self._defined, _FRESH)

    @property
    def identity(self) -> Identity:
        """Who is serving."""
        return Identity("corral", "Corral", VERSION, INSTRUCTIONS)

    async def tools(self, caller: Caller) -> Sequence[types.Tool]:  # noqa: ARG002  # the same for all
        """The agents, the tools of servers, and the tools that take runs by their handle."""
        return await self._tools.get()

    async def _defined(self) -> list[types.Tool]:
        waits = self._waits
        agents = [
            agent_tool(name, offer, waits.usual, waits.longest)
            for name, offer in (await self._agents.get()).items()
        ]
        lone = [lone_tool(spec, name) for name, spec in (await self._lone.get()).items()]
        return [*agents, *lone, *run_tools(waits.usual, waits.longest)]

    async def call(
        self, caller: Caller, tool: str, args: dict[str, Any], exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        """Call a tool. A run that a call has begun ends when the client cancels that call."""
        if tool in RUN_TOOLS:
            return await self._about_runs(caller, tool, args, exchange)
        seconds = self._waits.usual
        order: Order | None = None
        if tool in (agents := await self._agents.get()):
            order = Order(agents[tool].name, args["prompt"], args.get("thread"), args.get("key"))
            seconds = args.get("wait_seconds", seconds)
        elif tool in (lone := await self._lone.get()):
            order = Order("", "", tool=lone[tool].name, args=args)
        if order is None:
            raise NotFoundError(
                f"There is no tool {tool!r}.", hint="List the tools: they may have changed."
            )
        return await self._worked(caller, begun(self._runs, caller.owner, order), seconds, exchange)

    async def _named_agents(self) -> dict[str, Offer]:
        if not self._offering.agents:
            return {}
        offers = {offer.name: offer for offer in await self._runs.offers()}
        return {name: offers[of] for name, of in offered_names(offers).items()}

    async def _named_tools(self) -> dict[str, ToolSpec]:
        servers = self._offering.servers
        if servers == ():
            return {}
        specs = {
            spec.name: spec
            for spec in await self._runs.tools()
            if servers is None or spec.server in servers
        }
        agents = await self._agents.get()
        return {name: specs[of] for name, of in offered_names(specs).items() if name not in agents}

    async def _worked(
        self, caller: Caller, beginning: Beginning, seconds: float, exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        """Begin what was ordered, or go on with it in a later round of the same call."""
        notes: tuple[str, ...] = ()
        if exchange.state is not None:
            beginning.close()
            report = await self._runs.report(caller.owner, run_of(exchange.state))
        else:
            starting = asyncio.create_task(beginning)
            report, notes = await self._unless_cancelled(caller, starting, exchange)
        return await self._followed(caller, report, seconds, exchange, notes)

    async def _unless_cancelled(
        self,
        caller: Caller,
        starting: asyncio.Task[tuple[Report, tuple[str, ...]]],
        exchange: Exchange,
    ) -> tuple[Report, tuple[str, ...]]:
        """What has begun; where the client cancels meanwhile, it is stopped as soon as it has."""
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if exchange.cancelled:
                report, _ = await starting
                await self._runs.cancel(caller.owner, report.run)
            raise

    async def _followed(
        self,
        caller: Caller,
        report: Report,
        seconds: float,
        exchange: Exchange,
        notes: tuple[str, ...],
    ) -> types.CallToolResult | AsTask:
        """Wait for a run that this call has begun."""
        try:
            if caller.takes_tasks:
                wait = min(seconds, _BEFORE_TASK)
                report = await self._runs.wait(caller.owner, report.run, wait)
                if report.status not in ENDED:
                    return AsTask(report.run)
                return run_result(report, notes)
            followed = await self._follower.follow(caller, report.run, seconds, exchange)
        except asyncio.CancelledError:
            if exchange.cancelled:
                await self._runs.cancel(caller.owner, report.run)
            raise
        return run_result(followed.report, (*notes, *followed.notes))

    async def _about_runs(
        self, caller: Caller, tool: str, args: JsonObject, exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        owner, wait = caller.owner, args.get("wait_seconds", self._waits.usual)
        match tool:
            case _ if tool == STATUS:
                return _told(await self._runs.report(owner, args["run"]))
            case _ if tool == RESULT:
                left = await self._follower.until_answered(caller, args["run"], wait)
                followed = await self._follower.follow(caller, args["run"], left, exchange)
                return run_result(followed.report, followed.notes)
            case _ if tool == CANCEL:
                return _told(await self._runs.cancel(owner, args["run"]))
            case _ if tool == SEND:
                return await self._send(caller, args, wait, exchange)
            case _ if tool == LIST:
                return _listed(await self._runs.listing(owner, args.get("limit", 20)))
            case _:
                assert tool == PENDING
                return _pending(await self._runs.listing(owner))

    async def _send(
        self, caller: Caller, args: JsonObject, wait: float, exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        sending = sent(self._runs, caller.owner, args["run"], args["message"], args.get("key"))
        return await self._worked(caller, sending, wait, exchange)

    async def task(self, caller: Caller, task: str) -> TaskState:
        """A run as a task: its id is the run's handle, so it is there as long as the run."""
        report = await self._runs.report(caller.owner, task)
        asked = report.approvals if self._attention.asks(caller) else ()
        status = _task_status(report, bool(asked))
        return TaskState(
            task=task,
            status=status,
            created_at=report.created_at,
            updated_at=report.updated_at,
            message=structured(report)["next"] if status == "working" else "",
            result=run_result(report) if status == "completed" else None,
            questions={one.id: question(one) for one in asked} or None,
        )

    async def answer_task(self, caller: Caller, task: str, answers: dict[str, Elicited]) -> None:
        """Carry what a human has answered through a task."""
        await self._follower.carry(caller, task, answers)

    async def cancel_task(self, caller: Caller, task: str) -> None:
        """Stop a run."""
        await self._runs.cancel(caller.owner, task)

    async def resources(self, caller: Caller) -> Sequence[types.Resource]:
        """The client's own conversations and newest runs."""
        return await resources.listed(self._runs, caller.owner)

    async def templates(
        self,
        caller: Caller,  # noqa: ARG002  # the same for all
    ) -> Sequence[types.ResourceTemplate]:
        """The addresses of threads, runs and traces."""
        return resources.templates()

    async def read(self, caller: Caller, uri: str) -> Sequence[types.TextResourceContents]:
        """What is at an address; see ``resources``."""
        return [await resources.read(self._runs, caller.owner, uri)]

    async def watch(self, caller: Caller, uri: str) -> AsyncGenerator[None, None]:
        """The changes of one of the client's own runs or threads."""
        return await self._watcher.watch(caller.owner, uri)

    async def prompts(self, caller: Caller) -> Sequence[types.Prompt]:  # noqa: ARG002  # the same for all
        """One for each agent."""
        return prompts.listed(await self._agents.get())

    async def prompt(
        self,
        caller: Caller,  # noqa: ARG002  # the same for all
        name: str,
        args: Mapping[str, str],
    ) -> types.GetPromptResult:
        """An agent's instructions with a task."""
        return prompts.filled(await self._agents.get(), name, args)

    async def complete(
        self,
        caller: Caller,
        ref: types.PromptReference | types.ResourceTemplateReference,
        argument: str,
        value: str,
    ) -> Sequence[str]:
        """The client's own threads and runs, the newest first."""
        if isinstance(ref, types.PromptReference) or argument not in ("thread", "run"):
            return []
        reports = await self._runs.listing(caller.owner)
        found = dict.fromkeys(getattr(report, argument) for report in reports)
        return [one for one in found if one.startswith(value)]


def _told(report: Report) -> types.CallToolResult:
    """How a run stands: to have asked for it is no error, however it stands."""
    return run_result(report).model_copy(update={"is_error": False})


def _task_status(report: Report, is_asked: bool) -> TaskStatus:
    match report.status:
        case "cancelled":
            return "cancelled"
        case "completed" | "failed" | "stopped":
            return "completed"
        case "waiting" if is_asked:
            return "input_required"
        case _:
            return "working"


def _listed(reports: Sequence[Report]) -> types.CallToolResult:
    lines = [f"- {report.run}: {report.agent}, {report.status}" for report in reports]
    text = "\n".join(lines) or "This client has started no run."
    return plain_result({"runs": [structured(report) for report in reports]}, text)


def _pending(reports: Sequence[Report]) -> types.CallToolResult:
    found = [approval for report in reports for approval in report.approvals]
    if not found:
        return plain_result({"approvals": [], "next": "Nothing waits."}, "Nothing waits.")
    lines = [f"- {one.tool} in run {one.run}: `{command_for(one)}`" for one in found]
    said = "A human must decide, in a terminal. Tell the user; you cannot answer."
    content = {"approvals": [waiting(one) for one in found], "next": said}
    return plain_result(content, "\n".join([said, *lines]))
