"""What callers see of runs: plain frozen records, each with ``to_json``.

Times are ISO 8601 in UTC. Costs are US dollars, durations milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from corral.jsontypes import Json, JsonObject

RunStatus = Literal["running", "paused", "completed", "failed", "stopped"]
"""``running`` also stands for a run whose process died: ``resume`` continues it."""

ApprovalStatus = Literal["pending", "approved", "denied", "given", "stopped", "withdrawn"]
"""``given``: a result was given by hand, in the tool's place. ``stopped``: the run was stopped.
``withdrawn``: its run was rewound."""

ApprovalKind = Literal["tool", "in_doubt", "budget", "loop", "input"]


class Record:
    """A frozen record that becomes a JSON object by its field names."""

    def to_json(self) -> JsonObject:
        """All fields, nested records included, as JSON. What is JSON already is not copied."""
        return {name: _as_json(value) for name, value in vars(self).items()}


def _as_json(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    return tuple(map(_as_json, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Totals(Record):
    """Tokens and money that a run has used.

    ``cached_tokens`` are part of the input, ``reasoning_tokens`` of the output.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def of(cls, parts: Iterable[Any]) -> Totals:
        """What records or rows with these five fields have used together."""
        listed = list(parts)
        return cls(*(sum(getattr(one, name) for one in listed) for name in _TOTALS))


_TOTALS = ("input_tokens", "output_tokens", "cost_usd", "cached_tokens", "reasoning_tokens")


@dataclass(frozen=True)
class Approval(Record):
    """One question to a human: may this call be made?

    ``kind`` is ``tool`` for a call that policy wants asked, ``in_doubt`` for a call that was cut
    off by a crash, so that nobody knows whether it happened (approving makes it again, denying
    fails it, a given result is the one that it had), ``budget`` for a limit that approving raises,
    ``loop`` for an agent that goes round in circles, and ``input`` for what a tool server asks in
    the middle of a call: values of a form, which approving gives as ``args``, or whether an address
    is opened (``context["input"]`` says which). ``args`` are the edited ones once they
    were approved so. ``path`` is that of its entry in the journal.

    ``always`` is the rule that "always" adds, as a table without an action; empty where there can
    be none, and ``suggestions`` are others. ``context`` is what was known when it was asked
    (``stations/context.py`` lists it), and is empty for a question that an older Corral asked.

    ``answered_by`` is ``user:NAME``, ``callback``, ``model:NAME``, ``elicitation:CLIENT`` where a
    human answered through an MCP client, ``rule:ID`` where the rule that
    another answer added did, ``timeout``, or ``corral`` where a run went on without the call. After
    ``expires_at`` an open question counts as denied; ``asked_of`` is whom it was escalated to.
    ``warnings`` say what is not any more as it was when it was asked. ``alike``, for one that was
    just answered with "always", are the ids of the others that its rule has answered with it.
    """

    id: str
    run: str
    thread: str
    kind: ApprovalKind
    tool: str
    args: JsonObject
    reason: str
    status: ApprovalStatus
    created_at: str
    always: JsonObject
    answer_reason: str | None = None
    answer_result: str | None = None
    path: str = ""
    answered_at: str | None = None
    context: JsonObject = field(default_factory=dict)
    edited: bool = False
    answered_by: str | None = None
    expires_at: str | None = None
    asked_of: str | None = None
    escalated_at: str | None = None
    warnings: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    @property
    def suggestions(self) -> tuple[JsonObject, ...]:
        """Rules that "always" can add, from this exact call to wider ones: ``rule``, ``words``."""
        return tuple(self.context.get("suggestions", ()))


@dataclass(frozen=True)
class StandingRule(Record):
    """A rule that "always" has added: such calls are not asked about any more.

    ``rule`` is its table and ``words`` say it. It holds in ``scope``: a ``run``, a ``thread``, a
    ``project`` (``scope_id`` says which) or for the ``user`` everywhere; until ``until``, if it is
    set. ``approval`` is the question that it came from. ``is_over``: it has ended.
    """

    id: str
    rule: JsonObject
    words: str
    scope: str
    scope_id: str
    created_at: str
    until: str | None = None
    approval: str | None = None
    is_over: bool = False


@dataclass(frozen=True)
class PastCall(Record):
    """A tool call of an earlier run: what a rule would have decided about."""

    run: str
    seq: int
    tool: str
    args: JsonObject
    started_at: str


@dataclass(frozen=True)
class RunResult(Record):
    """How a run stands when ``run`` or ``resume`` returns.

    ``error`` says in words why it failed or stopped. ``approvals`` are the questions that a
    paused run waits for. ``steps`` counts model calls. ``tool_tokens`` is about how much of the
    input the definitions of tools took, over all of these.
    """

    run: str
    thread: str
    status: RunStatus
    output: str
    usage: Totals
    steps: int
    error: str | None = None
    approvals: tuple[Approval, ...] = ()
    tool_tokens: int = 0


@dataclass(frozen=True)
class RunView(Record):
    """One line of ``corral runs``.

    A fork's ``usage`` and ``steps`` count what it shares with its ``parent`` before the effect
    ``fork_at``. ``origin`` says where an imported run came from; a ``rewound`` one was taken back.
    """

    run: str
    thread: str
    agent: str
    model: str
    status: RunStatus
    prompt: str
    output: str
    started_at: str
    finished_at: str | None
    steps: int
    usage: Totals
    error: str | None = None
    parent: str | None = None
    fork_at: int | None = None
    pinned: bool = False
    origin: str | None = None
    rewound: bool = False


@dataclass(frozen=True)
class ThreadView(Record):
    """One conversation: its first prompt as the title, and how many runs it has had."""

    thread: str
    title: str
    workspace: str
    created_at: str
    updated_at: str
    runs: int


@dataclass(frozen=True)
class EffectView(Record):
    """One line of ``corral trace``: an entry of the journal.

    ``kind`` is ``prepare``, ``model``, ``tool``, ``approval``, ``connection`` (one that a tool call
    made from the sandbox) or another kind of effect; ``status`` is ``started`` (no end recorded),
    ``finished``, ``failed``, ``cancelled`` (nobody waited for its end) or ``waiting`` (for a
    human). ``path`` is where in the graph it was asked for, see ``corral/runtime/paths.py``.
    ``run`` made it: for what a fork shares, its parent. ``ended`` orders the ends of a run's
    effects. From ``cached_tokens`` on see ``effects.Spend``.
    """

    seq: int
    kind: str
    name: str
    status: str
    request: Json
    result: Json
    started_at: str
    duration_ms: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float
    path: str
    run: str = ""
    attempts: int = 1
    ended: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_ms: float | None = None
    generation_ms: float | None = None
    answered_by: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """How fast a model answered, from its first token on; ``None``: that is not known."""
        if not self.generation_ms or self.output_tokens < 2:
            return None
        return (self.output_tokens - 1) / self.generation_ms * 1000


@dataclass(frozen=True)
class ReplayReport(Record):
    """What a replay found. ``executed`` is always 0: a replay makes no effect.

    ``changed`` says in words what of the agent's code is not what the run was made by.
    """

    run: str
    status: Literal["identical", "diverged"]
    effects: int
    reused: int
    executed: int = 0
    divergence: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerView(Record):
    """One configured tool server and what it offers; ``error`` when it could not be asked.

    ``definition_tokens`` estimates what the definitions of its tools take of a request.
    """

    name: str
    transport: str
    tools: tuple[JsonObject, ...] = field(default=())
    error: str | None = None
    definition_tokens: int = 0
