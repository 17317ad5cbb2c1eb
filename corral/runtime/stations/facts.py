"""The facts of a tool call, as policy wants them: gathered here, decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from corral.policies.facts import ToolCall
from corral.policies.layers import Layered
from corral.policies.provenance.labels import Label
from corral.policies.provenance.verbatim import Page
from corral.policies.rules import Rule
from corral.runtime.effects import Guard
from corral.runtime.journal import Journal
from corral.runtime.links import links_of


@dataclass(frozen=True)
class PolicyRules:
    """The rules of a run, and what is needed to apply them.

    ``standing`` are those that "always" has added, ``sandboxed`` the servers in the sandbox,
    ``networked`` those of them that reach something from there, ``remote`` those that are reached
    over the network, and ``workspace`` is the folder that was granted; ``rewindable`` says that it
    is kept before it is changed.
    """

    policy: Layered
    standing: tuple[Rule, ...]
    sandboxed: frozenset[str]
    workspace: str
    thread: str
    remote: frozenset[str] = frozenset()
    networked: frozenset[str] = frozenset()
    rewindable: bool = True


def facts(guard: Guard, rules: PolicyRules, **surroundings: Any) -> ToolCall:
    """What a call is by itself: its tool, its arguments, and where it runs.

    ``surroundings`` are fields of a ``ToolCall`` beyond the call.
    """
    spec = guard.spec
    return ToolCall(
        name=spec.name,
        args=guard.args,
        read_only=spec.trusted and spec.read_only,
        sandboxed=spec.server in rules.sandboxed,
        workspace=rules.workspace,
        destructive=spec.destructive or not spec.trusted,
        idempotent=spec.trusted and spec.idempotent,
        open_world=spec.open_world or not spec.trusted,
        network=spec.server not in rules.sandboxed or spec.server in rules.networked,
        remote=spec.server in rules.remote,
        rewindable=rules.rewindable,
        schema=spec.input_schema if spec.trusted else {},
        **surroundings,
    )


class Contents(Protocol):
    """What is known of the contents that a run has met."""

    def context_of(self, guard: Guard | None, path: str) -> Label:
        """The label of what the model had read that asked for a call."""
        ...

    def public_pages(self) -> tuple[Page, ...]:
        """What the run has read that anybody may have."""
        ...

    def returned_texts(self, server: str) -> tuple[str, ...]:
        """What a server that is elsewhere has returned to the run."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What the rules know of a call beyond the call: who asks, after what, where it leads, when.

    ``agent`` is the run's own, ``said`` what the user has written in the conversation.
    """

    rules: PolicyRules
    journal: Journal
    contents: Contents
    agent: str
    said: tuple[str, ...]
    holds_secret: Callable[[Guard], bool] = lambda _guard: False

    def facts(self, guard: Guard, path: str) -> ToolCall:
        """All that the rules are told of the call at ``path``."""
        return facts(
            guard,
            self.rules,
            agents=(self.agent, *_agents_around(self.journal, path)),
            holds_secret=self.holds_secret(guard),
            label=self.contents.context_of(guard, path),
            user_texts=self.said,
            public_pages=self.contents.public_pages(),
            returned_texts=self.contents.returned_texts(guard.spec.server),
            links=links_of(guard.args, self.rules.workspace),
            at=datetime.now().astimezone(),
        )


def _agents_around(journal: Journal, path: str) -> Iterator[str]:
    """The names of the agents below the run's own that ``path`` is inside of, outermost first."""
    at = path.find("/")
    while at > 0:
        entry = journal.find(path[:at])
        if entry is not None and entry.kind == "agent":
            yield entry.name
        at = path.find("/", at + 1)
