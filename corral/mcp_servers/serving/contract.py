"""What a server of ours says and does, however it is reached: the layer serves a ``Service``.

The wire's shapes are the SDK's (``mcp_types``); everything about eras, transports, security, tasks
and who is asked how is the layer's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import mcp_types as types

from corral.jsontypes import Json, JsonObject

Asking = Literal["rounds", "push", "none"]
"""How a client's human can be asked: by multi-round-trip requests (2026-07-28), by a request that
the server sends (the handshake versions), or not at all."""


@dataclass(frozen=True)
class Identity:
    """How a server presents itself. ``instructions`` are written for a model."""

    name: str
    title: str
    version: str
    instructions: str = ""


@dataclass(frozen=True)
class Caller:
    """Who calls. ``owner`` is the same for the same client after a restart, of it or of us.

    ``client`` is what it calls itself, unchecked. ``asks`` is how its human can be reached, and
    ``takes_tasks`` whether it knows the tasks extension.
    """

    owner: str
    client: str
    version: str
    asks: Asking = "none"
    takes_tasks: bool = False


@dataclass(frozen=True)
class Elicited:
    """What came back from a human, or from a client in their place. ``seconds`` it has taken."""

    action: Literal["accept", "decline", "cancel"]
    content: JsonObject
    seconds: float


@dataclass(frozen=True)
class Question:
    """A form for a human. ``schema`` is flat, of the kinds that MCP's elicitation allows."""

    message: str
    schema: JsonObject


class AskFirst(Exception):
    """Raised by a service whose caller ``asks`` by ``rounds``: end this round with questions.

    ``state`` comes back with the answers (``Exchange.answers``, ``Exchange.state``), sealed.
    """

    def __init__(self, questions: dict[str, Question], state: str) -> None:
        super().__init__("input is required")
        self.questions, self.state = questions, state


class NoAnswer(Exception):
    """Raised by ``Exchange.ask`` when the client went away or refused to ask: nobody answered."""


class Exchange(Protocol):
    """One call under way, as the service sees it."""

    @property
    def answers(self) -> dict[str, Elicited]:
        """What was answered to the questions of the round before."""
        ...

    @property
    def state(self) -> str | None:
        """What the round before had raised ``AskFirst`` with; ``None`` in a first round."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the client has cancelled this call. Without it, a ``CancelledError`` is the end
        of this process or of its connection, and what was begun goes on.
        """
        ...

    @property
    def followed(self) -> bool:
        """Whether the client has asked to hear of its progress."""
        ...

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the client how far it is, if it has asked to hear of it."""
        ...

    async def ask(self, question: Question) -> Elicited:
        """Ask a human by a request of ours; only where the caller ``asks`` by ``push``.

        Raises ``NoAnswer``. Content that does not fit the question's schema is none, too.
        """
        ...


@dataclass(frozen=True)
class AsTask:
    """In place of a result, for a caller that takes tasks: the work goes on under this id."""

    task: str


TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]


@dataclass(frozen=True)
class TaskState:
    """A task as the tasks extension (SEP-2663) tells of it. Times are ISO 8601 in UTC."""

    task: str
    status: TaskStatus
    created_at: str
    updated_at: str
    message: str = ""
    result: types.CallToolResult | None = None
    error: str = ""
    questions: dict[str, Question] | None = None


class Service(Protocol):
    """The tools, resources and prompts of one server, for a caller.

    What a service raises of the ``CorralError`` family reaches the client as a message with its
    hint; anything else only as "failed inside".
    """

    @property
    def identity(self) -> Identity:
        """Who is serving."""
        ...

    async def tools(self, caller: Caller) -> Sequence[types.Tool]:
        """The tools that this caller may see."""
        ...

    async def call(
        self, caller: Caller, tool: str, args: dict[str, Any], exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        """Call a tool; its arguments have been checked against its schema.

        Cancelled with the client's cancellation, not with its disconnection.
        """
        ...

    async def task(self, caller: Caller, task: str) -> TaskState:
        """How a task stands. Raises ``NotFoundError``, also for another owner's."""
        ...

    async def answer_task(self, caller: Caller, task: str, answers: dict[str, Elicited]) -> None:
        """Give a task the answers that it waits for."""
        ...

    async def cancel_task(self, caller: Caller, task: str) -> None:
        """Stop a task."""
        ...

    async def resources(self, caller: Caller) -> Sequence[types.Resource]:
        """What can be read."""
        ...

    async def templates(self, caller: Caller) -> Sequence[types.ResourceTemplate]:
        """The shapes of addresses that can be read."""
        ...

    async def read(
        self, caller: Caller, uri: str
    ) -> Sequence[types.TextResourceContents | types.BlobResourceContents]:
        """Read a resource. Raises ``NotFoundError``."""
        ...

    async def prompts(self, caller: Caller) -> Sequence[types.Prompt]:
        """The prompts on offer."""
        ...

    async def prompt(
        self, caller: Caller, name: str, args: dict[str, str]
    ) -> types.GetPromptResult:
        """One prompt, filled in. Raises ``NotFoundError`` and ``UsageError``."""
        ...

    async def complete(
        self,
        caller: Caller,
        ref: types.PromptReference | types.ResourceTemplateReference,
        argument: str,
        value: str,
    ) -> Sequence[str]:
        """What an argument could be, that begins with ``value``."""
        ...


Listed = Literal["tools", "resources", "prompts"]


@runtime_checkable
class Changing(Protocol):
    """A service whose tools, resources or prompts become others while it is served."""

    def announce_by(self, announce: Callable[[Listed], Awaitable[None]]) -> None:
        """Call ``announce`` after each change, so that clients that listen are told."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """A service that can tell that what stands at an address has become another."""

    async def watch(self, caller: Caller, uri: str) -> AsyncGenerator[None, None]:
        """Something for each change from now on, in one for those that come close together.

        Raises ``NotFoundError`` where this caller can watch nothing; later what ``read`` raises.
        """
        ...


def structured(value: Json) -> dict[str, Any]:
    """A result's structured content, which must be an object."""
    return value if isinstance(value, dict) else {"result": value}
