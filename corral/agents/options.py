"""How a caller starts a run: its options, its approver's answers, and a fork's changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from corral.agents.spec import Agent
from corral.jsontypes import JsonObject
from corral.policies.budgets import Budget
from corral.policies.limits import RunLimits
from corral.policies.rules import Policy, Rule
from corral.runtime.approvals.approvers import ModelApprover
from corral.runtime.approvals.replies import Reply
from corral.runtime.attachments import Attachment
from corral.runtime.views import Approval

Approver = Callable[[Approval], Awaitable[Reply | None]]
"""Asked for each approval of a run; ``None`` leaves it pending and the run paused."""


@dataclass(frozen=True)
class RunOptions:
    """How a run differs from the settings.

    ``agent`` is an ``Agent`` or the name of a configured one. ``thread`` goes on with a
    conversation. ``rules`` are a layer below all others, which can only narrow. ``approver``
    answers approvals in this process: a function of yours, or a ``ModelApprover``. With ``wait`` a
    paused run is gone on with once all its questions were answered from elsewhere. ``budget`` is
    the run's: what it says of ``[budgets.run]`` is said anew, as what ``limits`` say of the
    agent's. Both hold for its resumes and forks too. ``tags`` are what ``corral budget`` can add
    up by. ``attachments`` are files that go with the prompt of a new run. ``priority``: of what
    waits for one model, runs with a higher one are served first, with all that their agents ask.
    ``id`` is the one that a new run is to have, for who keeps books of it before it begins: see
    ``corral.runtime.runs.new_run_id``.
    """

    agent: Agent | str | None = None
    model: str | None = None
    thread: str | None = None
    policy: str | Policy | None = None
    rules: tuple[Rule, ...] = ()
    limits: RunLimits | None = None
    approver: Approver | ModelApprover | None = None
    wait: bool = False
    budget: Budget | None = None
    tags: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    priority: int = 0
    id: str | None = None


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
