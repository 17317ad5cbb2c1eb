"""Runs by handle, for those who come and go: a server's clients, of whom each sees only its own.

A run belongs to the owner that started it. It goes on when its owner leaves, and when the process
that works on it is replaced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from corral.jsontypes import Json, JsonObject
from corral.runtime.approvals.replies import Reply
from corral.runtime.events import Event
from corral.runtime.views import Approval, EffectView, Record, Totals
from corral.tools.contract import ToolSpec

HostedStatus = Literal[
    "queued", "running", "waiting", "completed", "failed", "cancelled", "stopped"
]
"""``queued``: it begins when its thread is free. ``waiting``: for a human's answer. ``stopped``: at
a limit, or by a person; ``send`` goes on in its conversation."""

ENDED: frozenset[HostedStatus] = frozenset({"completed", "failed", "cancelled", "stopped"})
"""After these nothing more happens in a run by itself."""


@dataclass(frozen=True)
class Offer(Record):
    """One agent as another model is told of it. ``returns`` is the JSON Schema of typed answers."""

    name: str
    description: str
    instructions: str = ""
    returns: JsonObject | None = None
    read_only: bool = False
    open_world: bool = True


@dataclass(frozen=True)
class Order:
    """What a client wants done. ``thread`` goes on with one of its own conversations.

    ``key`` makes an order that is sent twice one run: the same owner and key give the same run.
    With ``tool`` it is one call of that tool (``SERVER__TOOL``) with ``args``, through the door, in
    place of an agent's work: the run's ``answer`` is the result's text and its ``value`` what is
    structured in it; ``agent`` and ``prompt`` are not used.
    """

    agent: str
    prompt: str
    thread: str | None = None
    key: str | None = None
    budget: Mapping[str, float] = field(default_factory=dict)
    tool: str | None = None
    args: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Report(Record):
    """How a run stands. ``happened`` are its latest steps in words, oldest first, redacted.

    ``prompt`` is as it was stored, ``key`` that of the order.
    """

    run: str
    thread: str
    agent: str
    status: HostedStatus
    answer: str = ""
    value: Json = None
    error: str = ""
    happened: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    steps: int = 0
    totals: Totals = field(default_factory=Totals)
    created_at: str = ""
    updated_at: str = ""
    prompt: str = ""
    key: str | None = None


class Runs(Protocol):
    """The runs of all owners. Every method raises ``NotFoundError`` for a run of another owner
    exactly as for one that there is not.
    """

    async def offers(self) -> list[Offer]:
        """The configured agents."""
        ...

    async def tools(self) -> list[ToolSpec]:
        """The tools of all servers that may be offered alone: ``[serve] allow``, and no policy
        that denies every call of them.
        """
        ...

    async def start(self, owner: str, order: Order) -> Report:
        """Begin a run. When this returns, it is on disk and goes on whatever happens.

        Raises ``NotFoundError`` for an unknown agent or thread, and ``UsageError``.
        """
        ...

    async def report(self, owner: str, run: str) -> Report:
        """How a run stands now."""
        ...

    async def wait(self, owner: str, run: str, seconds: float) -> Report:
        """How a run stands when it has ended or waits for somebody, or after ``seconds``."""
        ...

    def watch(self, owner: str, run: str) -> AsyncIterator[Event]:
        """What a run does from now on, until it ends or waits for somebody."""
        ...

    async def cancel(self, owner: str, run: str) -> Report:
        """Stop a run with all that it does. Returns when nothing of it works any more.

        One that has ended stays as it is.
        """
        ...

    async def send(self, owner: str, run: str, message: str, key: str | None = None) -> Report:
        """Say more in a run's conversation: a new run, which begins when the thread is free.

        ``key`` is as that of an ``Order``: the same owner and key give the same run."""
        ...

    async def listing(self, owner: str, limit: int = 100) -> list[Report]:
        """An owner's runs, the newest first, without what has ``happened`` in them."""
        ...

    async def trace(self, owner: str, run: str) -> list[EffectView]:
        """What a run has done: the entries of its journal, redacted."""
        ...

    async def answer(self, owner: str, approval: str, reply: Reply, by: str) -> Report:
        """Carry a human's answer to one of an owner's runs, which then goes on.

        ``by`` says who answered and how, such as ``elicitation:claude-ai``. Only for answers that a
        client has had from a human: no tool and no model comes here.
        """
        ...
