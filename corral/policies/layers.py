"""Layers of policies, and the decision on a call: the strictest opinion among them.

The organisation's policy, the project's, the user's and the session's each say what they think of a
call, or nothing, and so do those of the agents that make it. So a layer can only narrow what
another allows. What no rule can change is a layer as well (``guards.py``), and so is what follows
from where a call's content came from (``provenance/guard.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from corral.policies import guards
from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.matching import Index, matches
from corral.policies.presets import PRESETS
from corral.policies.provenance import guard as provenance
from corral.policies.provenance.sources import SourceRule, private_source
from corral.policies.rules import Decision, LayerName, Policy, Rule

PROVENANCE = "provenance"
DEFAULT = "default"
STANDING = "standing"
LAYERS: tuple[LayerName, ...] = ("organisation", "project", "user", "session")
_STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True)
class Opinion:
    """What one layer thinks of a call; ``rule`` is ``None`` where none of its rules said so.

    ``is_preset``: the rule is none that the user has written, but came with a preset.
    """

    layer: str
    decision: Decision
    rule: Rule | None = None
    is_preset: bool = False


@dataclass(frozen=True)
class AgentLayer:
    """The policy of an agent: it holds for its calls and for those of all agents below it.

    ``agents`` are the names from the run's own agent down to it. ``is_whole``: a call that no rule
    covers is decided as where there is no policy; else the layer has no opinion on it.
    """

    agents: tuple[str, ...]
    policy: Policy
    is_whole: bool = True

    @cached_property
    def index(self) -> Index:
        """The rules, compiled."""
        return Index.of(self.policy)

    def opinion(self, call: ToolCall) -> Opinion | None:
        """What the layer thinks of a call; ``None`` also where it is not about the agent's."""
        if call.agents[: len(self.agents)] != self.agents:
            return None
        first = self.index.first(call)
        if first is not None:
            is_preset = first.placed.policy in PRESETS
            return Opinion(first.decision.layer, first.decision, first.rule, is_preset)
        if not self.is_whole:
            return None
        label = f"the policy of the agent {self.agents[-1]}"
        unruled = replace(_unruled(call), rule=label, layer=self.policy.layer)
        return Opinion(self.policy.layer, unruled)


@dataclass(frozen=True)
class Layered:
    """The policies that hold together.

    ``guarded`` are files and folders that no agent may write, besides the files that the policies
    come from. ``on_untrusted`` is what becomes of a call that untrusted content may have asked for.
    ``private_hosts`` are patterns of hosts of the own network: what is fetched there is nobody
    else's. ``agents`` are the policies of single agents.
    """

    layers: tuple[Policy, ...] = ()
    guarded: tuple[str, ...] = ()
    on_untrusted: provenance.OnUntrusted = "ask"
    private_hosts: tuple[str, ...] = ()
    agents: tuple[AgentLayer, ...] = ()

    @classmethod
    def of(cls, *policies: Policy) -> Layered:
        """The policies in the order of their layers, the organisation's first."""
        return cls(tuple(sorted(policies, key=lambda policy: LAYERS.index(policy.layer))))

    @cached_property
    def indexes(self) -> tuple[Index, ...]:
        """The layers, compiled."""
        return tuple(map(Index.of, self.layers))

    @property
    def sources(self) -> tuple[tuple[SourceRule, ...], ...]:
        """What the layers say of the results of tools, for those that say anything."""
        own = tuple(map(private_source, self.private_hosts))
        said = tuple(found for policy in self.layers for found in policy.all_sources())
        return (own, *said) if own else said

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The files and folders that no agent may write."""
        policies = (*self.layers, *(layer.policy for layer in self.agents))
        read = (file for policy in policies for file in policy.all_files())
        return tuple(dict.fromkeys((*read, *self.guarded)))


def decide(policy: Layered, call: ToolCall, standing: Sequence[Rule] = ()) -> Decision:
    """Decide on a call.

    Of all opinions the strictest counts, and of equally strict ones the first. Where no layer has
    one, a call that is read-only is allowed and any other asked about. ``standing`` are answers
    that a human has given ahead ("always"): see ``answered``.
    """
    found = opinions(policy, call)
    return answered(strictest(found), found, call, standing)


def opinions(policy: Layered, call: ToolCall) -> list[Opinion]:
    """What every layer that has an opinion thinks of a call, the highest first."""
    denied = guards.guard(call, policy.files)
    found = [Opinion(guards.LAYER, denied)] if denied is not None else []
    firsts = (index.first(call) for index in policy.indexes)
    said = [
        Opinion(one.decision.layer, one.decision, one.rule, one.placed.policy in PRESETS)
        for one in firsts
        if one is not None
    ]
    found += said
    objection = provenance.guard(call, policy.on_untrusted)
    if objection is not None and not any(_overrules(one, call) for one in said):
        decision = Decision(objection.action, objection.reason, None, PROVENANCE)
        found.append(Opinion(PROVENANCE, decision))
    if not said:
        found.append(Opinion(DEFAULT, _unruled(call)))
    # After all others, and never in place of the default: an agent's policy only narrows.
    narrowing = (layer.opinion(call) for layer in policy.agents)
    return [*found, *(one for one in narrowing if one is not None)]


def strictest(found: Sequence[Opinion]) -> Decision:
    """The strictest of some opinions; of equally strict ones the first."""
    return max(found, key=lambda opinion: _STRICTNESS[opinion.decision.action]).decision


def answered(
    decision: Decision, found: Sequence[Opinion], call: ToolCall, standing: Sequence[Rule]
) -> Decision:
    """The decision after the answers that were given ahead.

    A no holds whatever the rules allow. A yes turns an ``ask`` into ``allow`` and never changes a
    ``deny``. It does not answer a question of a rule that says ``every_time``, and one that is
    asked because of what was read only if it says so itself: ``untrusted = true``, and ``private =
    true`` for content whose readers the user has named.
    """
    if decision.action == "deny":
        return decision
    for rule in standing:
        if rule.action == "deny" and matches(rule, call):
            return _ahead(rule)
    asking = [opinion for opinion in found if opinion.decision.action == "ask"]
    if decision.action == "allow" or any(map(_is_every_time, asking)):
        return decision
    doubted = any(opinion.layer == PROVENANCE for opinion in asking)
    for rule in standing:
        if rule.action == "allow" and (not doubted or _knows(rule, call)) and matches(rule, call):
            return _ahead(rule)
    return decision


def _ahead(rule: Rule) -> Decision:
    label = f"your standing rule: {describe(rule)}"
    return Decision(rule.action, rule.reason or label, label, STANDING)


def _is_every_time(opinion: Opinion) -> bool:
    return opinion.rule is not None and opinion.rule.every_time


def _overrules(opinion: Opinion, call: ToolCall) -> bool:
    """Whether a layer allows a call whatever the model has read.

    A rule that somebody wrote down means the call that it names, and can say ``untrusted = false``;
    that of a preset means no call in particular, and a project is not asked.
    """
    rule = opinion.rule
    if rule is None or rule.action != "allow":
        return False
    if opinion.is_preset or opinion.layer == "project":
        return _knows(rule, call)
    return rule.private is True or not call.label.confidential


def _knows(rule: Rule | None, call: ToolCall) -> bool:
    """Whether a rule allows in spite of what was read: it must say so itself."""
    if rule is None or rule.action != "allow":
        return False
    label = call.label
    return (rule.untrusted is True or not label.untrusted) and (
        rule.private is True or not label.confidential
    )


def _unruled(call: ToolCall) -> Decision:
    if call.read_only:
        return Decision("allow", f"{call.name} is read-only", None, DEFAULT)
    return Decision("ask", f"{call.name} may change things, and no rule covers it", None, DEFAULT)
