"""One MCP server as a source of tools, whatever its transport: list, call, and start again.

What a caller can rely on: a call that was certainly not made, or that the server answered, gives
a result; ``ToolServerError`` means that nobody knows whether it happened.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from corral.errors import ToolServerError
from corral.jsontypes import JsonObject
from corral.tools.connection import Connection
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.definitions import MAX_TOOLS, check_tools, result_of
from corral.tools.inquiry import Inquiry, Reply, Round, Sample, Sampled
from corral.tools.pinning import Pinning
from corral.tools.pins import Pins
from corral.tools.text import one_line
from corral.tools.under_way import UnderWay
from corral.tools.wire import HEADER_MISMATCH, Declared, Refusal, Request

IDEMPOTENCY_KEY: Final = "corral/idempotency-key"
"""Where in a request's ``_meta`` the call's idempotency key stands."""

_MAX_PAGES = 100
_IN_DOUBT = "The call may or may not have happened."


@dataclass(frozen=True)
class Timing:
    """Limits in seconds: for starting (and for listing), for one call, and for a gentle end.

    ``call`` holds where the caller leaves ``CallOptions.timeout`` at its default.
    """

    startup: float = 30.0
    call: float = CallOptions.timeout
    grace: float = 1.0
    health: float = 5.0


@dataclass(frozen=True)
class Standing:
    """How far a server is trusted: whether its claims about its tools loosen anything, what holds
    its definitions against those that are trusted (``None``: it is one of ours), whether it may ask
    a model, and the folders that it is told of, as ``file:`` addresses.
    """

    trusted: bool = False
    pinning: Pinning | None = None
    samples: bool = False
    roots: tuple[str, ...] = ()


STRANGER: Final = Standing()
"""A server of which nothing is known."""


class McpServer(ABC):
    """A ``ToolProvider`` over one connection, made when first needed and again when it is lost."""

    def __init__(self, name: str, *, standing: Standing, timing: Timing) -> None:
        self._name = name
        self._standing = standing
        self._timing = timing
        self._calls = UnderWay()
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._problems: tuple[str, ...] = ()
        self._withheld: frozenset[str] = frozenset()
        self._closed = False

    @property
    def name(self) -> str:
        """The server's name, the part before ``__``."""
        return self._name

    @property
    def problems(self) -> tuple[str, ...]:
        """What the last listing left out, and why."""
        return self._problems

    async def list_tools(self) -> list[ToolSpec]:
        """The usable tools, asked for anew; ``problems`` then says what was left out.

        Raises ``ToolServerError``, and ``SandboxError`` where there is no sandbox to start it in.
        """
        specs = await self._list(await self._connected())
        return list(specs.values())

    async def declared(self) -> Pins:
        """All usable tools as the server declares them now, trusted or not. Raises as above."""
        connection = await self._connected()
        tools = await self._in_time(connection)
        usable = check_tools(self._name, tools, trusted=False).specs
        pins = Pins.of(self._name, tools, connection.session.instructions)
        return pins.only(spec.tool for spec in usable)

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Call one tool. Raises ``ToolServerError`` when the outcome is unknown."""
        async with self._under_way(options):
            answer = await self._attempt(tool, args, options)
            if isinstance(answer, Refusal) and self._may_try_again(answer):
                answer = await self._attempt(tool, args, options)
        if isinstance(answer, ToolResult):
            return answer
        return ToolResult(
            f"{self._name} answered with an error ({answer.code}): {answer.message}", is_error=True
        )

    async def aclose(self) -> None:
        """Stop for good. Safe to call twice, and while the server is being started."""
        self._closed = True
        pending = [task for task in (self._connecting, *self._tasks) if task is not None]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        if self._connection is not None:
            await self._connection.close()

    # for its session: see ``Host``

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that the server is told of."""
        return self._standing.roots

    @property
    def samples(self) -> bool:
        """Whether the server may ask a model."""
        return self._standing.samples

    def changed(self) -> None:
        """The server says that its tools have changed: the next call lists them anew."""
        if self._connection is not None:
            self._connection.specs = None

    async def asked(self, inquiry: Inquiry) -> Reply:
        """The server asks the user."""
        return await self._calls.asked(inquiry)

    async def sampled(self, wanted: Sample) -> Sampled | Refusal:
        """The server asks a model."""
        return await self._calls.sampled(wanted)

    # for the transports

    @abstractmethod
    async def _connect(self) -> Connection:
        """A new connection. Raises ``ToolServerError`` or ``SandboxError``."""

    @abstractmethod
    def _loss(self, connection: Connection, refusal: Refusal) -> str:
        """Why the answer to a call was lost, in words; empty when ``refusal`` is the answer."""

    def _under_way(self, options: CallOptions) -> AbstractAsyncContextManager[None]:
        """What lasts as long as a call with these options."""
        del options
        return nullcontext()

    def _session_gone(self, refusal: Refusal) -> bool:
        """Whether the call was refused only for lack of a session, so that a new one helps."""
        del refusal
        return False

    def _details(self) -> str:
        """What the server itself said about its trouble, for the end of a message."""
        return ""

    def _error(self, what: str, hint: str = "") -> ToolServerError:
        return ToolServerError(f"Tool server {self._name} {what}{self._details()}", hint=hint)

    # inside

    def _may_try_again(self, refusal: Refusal) -> bool:
        """Whether a call was refused for what can be mended, so that it was not made."""
        if refusal.code == HEADER_MISMATCH:
            self.changed()  # its schemas are not what they were
            return True
        gone = self._session_gone(refusal)
        if gone and self._connection is not None:
            self._connection.retire("its session was gone")
        return gone

    async def _connected(self) -> Connection:
        if self._closed:
            raise self._error("is closed.")
        if self._connection is not None and self._connection.alive:
            return self._connection
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._reconnect())
            self._connecting.add_done_callback(self._reconnected)
        # another caller may wait for the same start, so a cancelled one must not end it
        try:
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise self._error("was closed while it started.") from None
            raise

    async def _reconnect(self) -> Connection:
        if self._connection is not None:
            await self._connection.close()
        self._connection = await self._connect()
        return self._connection

    def _reconnected(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # every waiter may have left

    async def _list(self, connection: Connection) -> dict[str, ToolSpec]:
        declared = await self._in_time(connection)
        listing = check_tools(self._name, declared, trusted=self._standing.trusted)
        if (pinning := self._standing.pinning) is not None:
            instructions = connection.session.instructions
            listing = await pinning.screened(listing, declared, instructions)
        self._problems, self._withheld = listing.problems, listing.withheld
        specs = {spec.tool: spec for spec in listing.specs}
        connection.specs = specs
        return specs

    async def _in_time(self, connection: Connection) -> list[Declared]:
        try:
            async with asyncio.timeout(self._timing.startup):
                return await self._pages(connection)
        except TimeoutError:
            connection.retire("did not list its tools in time")
            raise self._error(
                f"did not list its tools within {self._timing.startup:g} s.",
                hint="Raise its startup_timeout, or look at what the server is doing.",
            ) from None

    async def _pages(self, connection: Connection) -> list[Declared]:
        declared: list[Declared] = []
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(_MAX_PAGES):
            page = await connection.session.list_page(cursor)
            if isinstance(page, Refusal):
                why = self._loss(connection, page) or page.message
                raise self._error(f"could not list its tools: {why}.")
            declared += page.tools
            cursor = page.next
            if not cursor or cursor in seen or len(declared) > MAX_TOOLS:
                break
            seen.add(cursor)
        return declared

    async def _attempt(
        self, tool: str, args: JsonObject, options: CallOptions
    ) -> ToolResult | Refusal:
        try:
            connection = await self._connected()
            specs = connection.specs
            if specs is None or tool not in specs:
                specs = await self._list(connection)
        except ToolServerError as error:
            return _not_made(str(error))
        if tool not in specs:
            return _not_made(self._missing(tool))
        return await self._exchange(connection, specs[tool], args, options)

    def _missing(self, tool: str) -> str:
        if tool not in self._withheld:
            return f"{self._name} has no tool {one_line(tool)!r}."
        return (
            f"{tool} of {self._name} is not what was trusted any more, or was never trusted. "
            f"`corral mcp trust {self._name}` shows it and asks."
        )

    async def _exchange(
        self, connection: Connection, spec: ToolSpec, args: JsonObject, options: CallOptions
    ) -> ToolResult | Refusal:
        own = options.timeout == CallOptions.timeout
        seconds = self._timing.call if own else options.timeout
        meta = {IDEMPOTENCY_KEY: options.idempotency_key}
        request = Request(spec.tool, args, meta, options.progress, options.answers)
        try:
            async with self._calls.call(options, seconds):
                answer = await connection.session.call(request)
        except TimeoutError:
            self._start(self._check(connection))
            raise self._error(
                f"did not answer {spec.tool} within {seconds:g} s, so the call was cancelled. "
                f"{_IN_DOUBT}",
                hint="Raise the server's timeout if the tool needs longer.",
            ) from None
        if isinstance(answer, Round):
            return _asking(self._name, answer)
        if not isinstance(answer, Refusal):
            return result_of(spec, answer)
        if loss := self._loss(connection, answer):
            raise self._error(
                f"{loss} while it ran {spec.tool}. {_IN_DOUBT}",
                hint="The next call starts or reaches it again.",
            )
        return answer

    async def _check(self, connection: Connection) -> None:
        """After a call that timed out: a server that answers nothing at all is given up."""
        try:
            async with asyncio.timeout(self._timing.health):
                await connection.session.list_page(None)
        except TimeoutError:
            connection.retire("stopped answering")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _asking(server: str, round_: Round) -> ToolResult:
    messages = "; ".join(one_line(one.message, 500) for _, one in round_.questions)
    return ToolResult(f"{server} asks before it goes on: {messages}", asks=round_)


def _not_made(why: str) -> ToolResult:
    return ToolResult(f"The call was not made: {why}", is_error=True)
