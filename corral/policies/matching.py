"""Finding the first rule of a policy that matches a call, quickly among many.

Which rules mean a tool by its name is the same for all of its calls, so it is worked out once for
each tool. Of those the ones about other folders are left out (``anchors.py``); what is left are the
conditions of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from corral.policies import anchors
from corral.policies.conditions import Condition, conditions, describe, names_fit
from corral.policies.facts import ToolCall
from corral.policies.patterns.globs import is_literal, unescape
from corral.policies.rules import Decision, LayerName, Placed, Policy, Rule

_MOST_TOOLS = 2048
_FEW = 4


def matches(rule: Rule, call: ToolCall) -> bool:
    """Whether a call fits all that a rule names."""
    return names_fit(rule, call.name) and _hold(conditions(rule), call)


@dataclass(frozen=True)
class Compiled:
    """A rule, ready to be asked: its conditions, and what it decides."""

    placed: Placed
    conditions: tuple[Condition, ...]
    decision: Decision
    programs: anchors.Anchors | None
    anchors: anchors.Anchors | None

    @classmethod
    def of(cls, placed: Placed, layer: LayerName) -> Compiled:
        """Compile one rule of a layer."""
        rule = placed.rule
        reason = rule.reason or f"{placed.label}: {describe(rule)}"
        decision = Decision(rule.action, reason, placed.label, layer, placed.source)
        near = anchors.programs_of_rule(rule), anchors.of_rule(rule)
        return cls(placed, conditions(rule), decision, *near)

    @property
    def rule(self) -> Rule:
        """The rule itself."""
        return self.placed.rule

    def holds(self, call: ToolCall) -> bool:
        """Whether all of its conditions hold for a call of a tool that it means."""
        return _hold(self.conditions, call)


@dataclass
class Index:
    """The rules of one policy by the tools that they mean."""

    rules: tuple[Compiled, ...]
    _by_tool: dict[str, list[int]] = field(default_factory=dict)
    _by_server: dict[str, list[int]] = field(default_factory=dict)
    _others: list[int] = field(default_factory=list)
    _found: dict[str, tuple[Compiled, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Policy) -> Index:
        """Compile a policy."""
        index = cls(tuple(Compiled.of(placed, policy.layer) for placed in policy.placed()))
        for position, compiled in enumerate(index.rules):
            rule = compiled.rule
            if rule.server is None and is_literal(rule.tool):
                index._by_tool.setdefault(unescape(rule.tool), []).append(position)
            elif rule.server is not None and is_literal(rule.server):
                index._by_server.setdefault(unescape(rule.server), []).append(position)
            else:
                index._others.append(position)
        return index

    def first(self, call: ToolCall) -> Compiled | None:
        """The first rule that matches."""
        candidates = self.about(call.name)
        if len(candidates) > _FEW:
            candidates = _near(candidates, call)
        return next((each for each in candidates if each.holds(call)), None)

    def about(self, name: str) -> tuple[Compiled, ...]:
        """The rules that mean a tool, in their order."""
        found = self._found.get(name)
        if found is None:
            found = self._search(name)
            if len(self._found) >= _MOST_TOOLS:
                self._found.clear()
            self._found[name] = found
        return found

    def _search(self, name: str) -> tuple[Compiled, ...]:
        server = name.partition("__")[0]
        near = (self._by_tool.get(name, ()), self._by_server.get(server, ()), self._others)
        positions = sorted(position for some in near for position in some)
        return tuple(
            self.rules[position]
            for position in positions
            if names_fit(self.rules[position].rule, name)
        )


def _near(candidates: tuple[Compiled, ...], call: ToolCall) -> tuple[Compiled, ...]:
    """Those that are not about other folders or other programs."""
    near = anchors.of_call(call)
    if near is not None:
        candidates = tuple(
            each for each in candidates if each.anchors is None or not each.anchors.isdisjoint(near)
        )
    if all(each.programs is None for each in candidates):
        return candidates
    run = anchors.programs_of_call(call)
    return tuple(
        each
        for each in candidates
        if run is None or each.programs is None or not each.programs.isdisjoint(run)
    )


def _hold(asked: tuple[Condition, ...], call: ToolCall) -> bool:
    return all(condition.holds(call) for condition in reversed(asked))
