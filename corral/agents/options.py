"""How a caller starts a run: its options, its approver's answers, and a fork's changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from corral.agents.spec import Agent
from corral.jsontypes import JsonObject
from corral.policies.limits import RunLimits
from corral.runtime.views import Approval


@dataclass(frozen=True)
class Approved:
    """An approver's yes: with other arguments, and for always, if it says so."""

    args: JsonObject | None = None
    always: bool = False


@dataclass(frozen=True)
class Denied:
    """An approver's no; the model is told ``reason``."""

    reason: str


@dataclass(frozen=True)
class Given:
    """An approver's result for a call in doubt (``kind == "in_doubt"``), as the tool gave it."""

    result: str


Approver = Callable[[Approval], Awaitable[Approved | Denied | Given | None]]
"""Asked for each approval of a run; ``None`` leaves it pending and the run paused."""


@dataclass(frozen=True)
class RunOptions:
    """How a run differs from the settings.

    ``agent`` is an ``Agent`` or the name of a configured one. ``thread`` goes on with a
    conversation. ``approver`` answers approvals in this process.
    """

    agent: Agent | str | None = None
    model: str | None = None
    thread: str | None = None
    policy: str | None = None
    limits: RunLimits | None = None
    approver: Approver | None = None


@dataclass(frozen=True)
class Fork:
    """Where a new run parts from another, and what is changed there.

    ``at`` is the ``seq`` of the effect (see ``corral trace``) at which the past ends: it and what
    comes after it are made anew. ``model``, ``agent`` and ``prompt`` take over there; ``result`` is
    taken for the effect's own result, a text or, for a tool, a ``ToolResult`` as JSON.
    """

    at: int
    model: str | None = None
    agent: Agent | None = None
    prompt: str | None = None
    result: str | JsonObject | None = None

    def changes(self) -> JsonObject:
        """What is changed, by name, as the journal is to know it."""
        named = {"model": self.model, "agent": self.agent and self.agent.name}
        changed: JsonObject = {name: value for name, value in named.items() if value is not None}
        given = {"prompt": self.prompt, "result": self.result}
        return {**changed, **{name: True for name, value in given.items() if value is not None}}
