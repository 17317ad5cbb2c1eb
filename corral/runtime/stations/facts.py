"""The facts of a tool call, as policy wants them: gathered here, decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from corral.policies.facts import ToolCall
from corral.policies.rules import Policy, Rule
from corral.runtime.effects import Guard


@dataclass(frozen=True)
class PolicyRules:
    """The rules of a run, and what is needed to apply them.

    ``standing`` are those that "always" has added, ``sandboxed`` the servers in the sandbox, and
    ``workspace`` is the folder that was granted.
    """

    policy: Policy
    standing: tuple[Rule, ...]
    sandboxed: frozenset[str]
    workspace: str
    thread: str


def facts(guard: Guard, rules: PolicyRules) -> ToolCall:
    """What the rules are told of a call."""
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
        network=spec.server not in rules.sandboxed,
    )
