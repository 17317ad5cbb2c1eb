"""Why a call was decided as it was: what each layer said, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from corral.jsontypes import JsonObject
from corral.policies import guards, layers
from corral.policies.conditions import Condition, describe
from corral.policies.facts import ToolCall
from corral.policies.layers import (
    DEFAULT,
    PROVENANCE,
    STANDING,
    Layered,
    Opinion,
    answered,
    opinions,
    strictest,
)
from corral.policies.matching import Compiled
from corral.policies.rules import Action, Decision, Rule

_MOST_NEAR = 5


@dataclass(frozen=True)
class NearMiss:
    """A rule that matches but for one condition: what it asks for, and what is so instead.

    ``would`` is what would happen to the call if that condition held.
    """

    rule: str
    words: str
    layer: str
    source: str
    wanted: str
    seen: str
    would: Action


@dataclass(frozen=True)
class Explanation:
    """A decision, and how it came about. ``changes`` says what would make it another one."""

    call: ToolCall
    decision: Decision
    opinions: tuple[Opinion, ...]
    silent: tuple[str, ...]
    near: tuple[NearMiss, ...]
    changes: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """The explanation as a JSON object."""
        return {
            "tool": self.call.name,
            "args": self.call.args,
            "decision": dict(self.decision.__dict__),
            "layers": [{"layer": each.layer, **each.decision.__dict__} for each in self.opinions],
            "without_opinion": list(self.silent),
            "near": [dict(each.__dict__) for each in self.near],
            "changes": list(self.changes),
        }


def explain(policy: Layered, call: ToolCall, standing: Sequence[Rule] = ()) -> Explanation:
    """Decide on a call as ``layers.decide`` does, and say why."""
    found = opinions(policy, call)
    decision = answered(strictest(found), found, call, standing)
    silent = tuple(
        f"{one.layer} ({one.name})"
        for one, index in zip(policy.layers, policy.indexes, strict=True)
        if index.first(call) is None
    )
    silent += tuple(
        f"{one.policy.layer} ({one.policy.name} of {one.agents[-1]})"
        for one in policy.agents
        if one.opinion(call) is None
    )
    near = tuple(islice(_near_misses(policy, call, found, standing), _MOST_NEAR))
    changes = tuple(dict.fromkeys(_changes(decision, found, near)))
    return Explanation(call, decision, tuple(found), silent, near, changes)


def _near_misses(
    policy: Layered, call: ToolCall, found: list[Opinion], standing: Sequence[Rule]
) -> Iterator[NearMiss]:
    for index in policy.indexes:
        deciding = index.first(call)
        for compiled in index.about(call.name):
            if compiled is deciding:
                break
            missed = [each for each in compiled.conditions if not each.holds(call)]
            if len(missed) == 1:
                own = deciding.decision if deciding is not None else None
                others = [each for each in found if each.decision is not own]
                would = _with(compiled, others, call, standing)
                yield _near(compiled, missed[0], call, would)


def _with(
    compiled: Compiled, others: list[Opinion], call: ToolCall, standing: Sequence[Rule]
) -> Action:
    """What would happen to the call if this rule spoke for its layer."""
    said = Opinion(compiled.decision.layer, compiled.decision, compiled.rule)
    all_said = [said, *(each for each in others if each.layer != DEFAULT)]
    return answered(strictest(all_said), all_said, call, standing).action


def _near(compiled: Compiled, missed: Condition, call: ToolCall, would: Action) -> NearMiss:
    decision = compiled.decision
    return NearMiss(
        rule=compiled.placed.label,
        words=describe(compiled.rule),
        layer=decision.layer,
        source=decision.source,
        wanted=missed.words or missed.about,
        seen=missed.seen(call),
        would=would,
    )


def _changes(
    decision: Decision, found: Sequence[Opinion], near: Sequence[NearMiss]
) -> Iterator[str]:
    if decision.layer == STANDING:
        yield "Remove the standing rule to be asked again."
    elif decision.action == "allow":
        yield "A rule of any layer that asks about it or denies it would be obeyed."
    else:
        stricter = [each for each in found if each.decision.action == decision.action]
        for opinion in stricter:
            yield _way_past(opinion)
        if decision.action == "ask" and not any(
            one.rule is not None and one.rule.every_time for one in stricter
        ):
            doubted = any(opinion.layer == PROVENANCE for opinion in stricter)
            only = " if that rule says untrusted = true" if doubted else ""
            yield f'Answering with "always" lets such calls through from then on{only}.'
    for miss in near:
        if miss.would != decision.action:
            where = f" ({miss.source})" if miss.source else ""
            yield f"It would be {miss.would} by {miss.rule}{where} if {miss.wanted}; {miss.seen}."


def _way_past(opinion: Opinion) -> str:
    """What would have to change for one opinion to be another one."""
    decision = opinion.decision
    match opinion.layer:
        case guards.LAYER:
            return "No rule changes this: make the change to that file yourself."
        case layers.DEFAULT:
            return "A rule that allows such calls, in your own configuration, would let it through."
        case layers.PROVENANCE:
            return (
                "An allow rule for such calls, in your own configuration, holds in spite of what "
                "was read; for content whose readers you have named it must say private = true."
            )
        case "agent":
            who = "only another policy of that agent changes it"
        case "organisation":
            who = "only who keeps that file can change it"
        case _ if decision.source:
            who = "narrow or remove it, or put a rule before it"
        case _:
            who = "a rule of yours may come before it, or choose another policy"
    return f"{decision.rule} ({decision.source or opinion.layer}) says {decision.action}: {who}."
