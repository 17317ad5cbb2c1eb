"""Decisions, tests, problems and layers as a person reads them, and layers as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from corral.cli.output import clean, note, one_line
from corral.cli.render import when
from corral.jsontypes import JsonObject, canonical
from corral.policies.conditions import describe
from corral.policies.layers import LAYERS

if TYPE_CHECKING:
    from corral.policies.layers import Layered
    from corral.policies.rules import Decision, Placed
    from corral.policies.writing.cases import Outcome
    from corral.policies.writing.explain import Explanation
    from corral.runtime.views import StandingRule


def explained(found: Explanation) -> None:
    """A decision, what every layer said, what nearly matched and what would change it."""
    _line(f"{found.decision.action}: {found.call.name} {one_line(canonical(found.call.args), 300)}")
    _line(f"  {found.decision.reason}")
    _line(f"  {_origin(found.decision)}")
    _line("layers:")
    for opinion in found.opinions:
        decision = opinion.decision
        _line(f"  {opinion.layer}: {decision.action}: {decision.reason}")
        if decision.rule is not None:
            _line(f"    {_origin(decision)}")
    for name in found.silent:
        _line(f"  {name}: no rule matches")
    if found.near:
        _line("nearly matched:")
    for miss in found.near:
        _line(f"  {miss.rule}{_at(miss.source)}: {miss.words}")
        _line(f"    wants: {miss.wanted}; here: {miss.seen}; it would be: {miss.would}")
    _line("what would change it:")
    for change in found.changes:
        _line(f"  - {change}")


def tested(found: Sequence[Outcome]) -> None:
    """The cases that are not as expected, and how many are."""
    wrong = [outcome for outcome in found if outcome.differs]
    for outcome in wrong:
        name = outcome.case.name or f"{outcome.case.tool} {canonical(outcome.case.args)}"
        _line(f"{outcome.source}: {one_line(name, 120)}")
        _line(f"  {outcome.differs}")
    note(f"{len(found) - len(wrong)} of {len(found)} cases are as expected.")


def problem_told(problem: JsonObject) -> None:
    """One problem of a policy, with its place and the remedy."""
    source = problem.get("source")
    _line(f"{f'{source}: ' if source else ''}{problem['message']}")
    _line(f"  {problem['hint']}")


def shown(policy: Layered, standing: Iterable[StandingRule]) -> None:
    """The layers with their rules, in the order in which they are asked."""
    _line("built in: no agent writes corral.toml, *.policy.toml, .corral, .git, nor:")
    for file in policy.files:
        _line(f"  {file}")
    for name in LAYERS:
        own = [layer for layer in policy.layers if layer.layer == name]
        _line(f"{name}:" + ("" if own else " nothing"))
        for layer in own:
            placed = list(layer.placed())
            if not placed:
                _line(f"  {layer.name}: no rules")
            for one in placed:
                _line(f"  {one.label}{_at(one.source)}: {describe(one.rule)}{_why(one)}")
    _line(f"provenance: what untrusted content may have asked for: {policy.on_untrusted}")
    _line("otherwise: a read-only call is allowed, any other is asked about")
    rules = list(standing)
    _line("standing answers:" + ("" if rules else " none"))
    for rule in rules:
        end = f", until {when(rule.until)} UTC" if rule.until else ""
        _line(f"  {rule.id} ({rule.scope}{end}): {rule.words}")


def layers_json(policy: Layered, standing: Iterable[StandingRule]) -> Iterator[JsonObject]:
    """Every rule that holds, as a JSON object: those of the layers, then the standing ones."""
    for layer in policy.layers:
        for one in layer.placed():
            yield {
                "layer": layer.layer,
                "rule": one.label,
                "source": one.source,
                "words": describe(one.rule),
                "reason": one.rule.reason,
                "table": one.rule.to_json(),
            }
    for rule in standing:
        yield {"layer": "standing", **rule.to_json()}


def _origin(decision: Decision) -> str:
    who = decision.rule or f"the layer {decision.layer}"
    return f"by {who}{_at(decision.source)}"


def _at(source: str) -> str:
    return f" ({source})" if source else ""


def _why(placed: Placed) -> str:
    return f" — {placed.rule.reason}" if placed.rule.reason else ""


def _line(text: str) -> None:
    sys.stdout.write(clean(text) + "\n")
