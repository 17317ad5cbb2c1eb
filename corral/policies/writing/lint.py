"""What is wrong with rules that can be read: those that can never match, decide or count."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from corral.jsontypes import JsonObject
from corral.policies.conditions import describe, is_like
from corral.policies.layers import Layered
from corral.policies.moments import is_over
from corral.policies.patterns.globs import is_literal, unescape
from corral.policies.patterns.pattern_order import why_never, why_never_allows
from corral.policies.rules import Placed, Policy, Rule
from corral.policies.writing.coverage import covers, may_share_tools

Kind = Literal["never", "shadowed", "duplicate", "contradiction", "pointless", "unknown"]


@dataclass(frozen=True)
class Problem:
    """Something wrong with a rule, and what to do about it."""

    kind: Kind
    rule: str
    source: str
    message: str
    hint: str

    def to_json(self) -> JsonObject:
        """This problem as a JSON object."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Known:
    """What there is here: servers with their tools (``None``: not known), agents, and the time."""

    servers: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    agents: frozenset[str] = frozenset()
    now: datetime | None = None


def lint(policy: Layered, known: Known) -> list[Problem]:
    """All that is wrong with the rules of some layers, in their order."""
    found: list[Problem] = []
    for position, layer in enumerate(policy.layers):
        own = [placed for placed in layer.placed() if placed.policy == layer.name]
        for number, placed in enumerate(own):
            found += _of_one(placed, known)
            found += _against_earlier(placed, own[:number])
            found += _against_higher(placed, policy.layers[:position])
    return found


def _of_one(placed: Placed, known: Known) -> Iterator[Problem]:
    for message, hint in _never(placed.rule, known):
        yield _problem("never", placed, message, hint)
    for message, hint in _unknown(placed.rule, known):
        yield _problem("unknown", placed, message, hint)
    if placed.rule.every_time and placed.rule.action != "ask":
        yield _problem(
            "pointless",
            placed,
            f"says every_time, which means nothing for {placed.rule.action}",
            'Remove every_time, or write action = "ask".',
        )


def _never(rule: Rule, known: Known) -> Iterator[tuple[str, str]]:
    for name, pattern in rule.args.items():
        why = (why_never_allows if rule.loosens else why_never)(pattern, name)
        if why:
            yield f"can never match: {name}: {why}", "Correct the pattern, or remove the rule."
    depth = rule.depth
    if depth is not None and depth.max is not None and depth.max < depth.min:
        yield "can never match: its depth ends before it begins", "Swap min and max."
    if rule.until and known.now and is_over(known.now, rule.until):
        yield (
            f"can never match again: {rule.until:%Y-%m-%d %H:%M} is past",
            "Remove it, or give it another until.",
        )
    if rule.exact_args:
        more = [name for name in rule.from_user if name != "*" and name not in rule.args]
        if more:
            yield (
                f"can never match: exact_args leaves no room for {' and '.join(more)}",
                'Name it in args as well, as in args = {NAME = "*"}.',
            )
    yield from _impossible_names(rule)


def _impossible_names(rule: Rule) -> Iterator[tuple[str, str]]:
    if not is_literal(rule.tool):
        return
    server, separator, _ = rule.tool.partition("__")
    if rule.server is None and not separator:
        yield (
            f'can never match: no tool is called "{rule.tool}"',
            f'Tools are called SERVER__TOOL: write "*__{rule.tool}", or name the server.',
        )
    elif rule.server is not None and separator and not is_like(rule.server, server):
        yield (
            f'can never match: {rule.tool} is not a tool of "{rule.server}"',
            "Correct the server, or leave it out.",
        )


def _unknown(rule: Rule, known: Known) -> Iterator[tuple[str, str]]:
    server, tool = _named(rule)
    if server is not None and known.servers and server not in known.servers:
        yield f'names a server "{server}" that is not here', _nearest(server, known.servers)
    elif server is not None and tool is not None:
        tools = known.servers.get(server)
        if tools is not None and tool not in tools:
            yield f'names a tool "{tool}" that {server} does not have', _nearest(tool, tools)
    if rule.agent is not None and is_literal(rule.agent) and known.agents:
        agent = unescape(rule.agent)
        if agent not in known.agents:
            yield f'names an agent "{agent}" that is not here', _nearest(agent, known.agents)


def _named(rule: Rule) -> tuple[str | None, str | None]:
    """The server and the tool that a rule names, where they are written out."""
    if rule.server is not None and not is_literal(rule.server):
        return None, None
    before, separator, after = rule.tool.partition("__")
    if rule.server is not None:
        tool = after if separator else rule.tool
        return unescape(rule.server), unescape(tool) if is_literal(tool) else None
    if not separator or not is_literal(before):
        return None, None
    return unescape(before), unescape(after) if is_literal(after) else None


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"Here there are: {', '.join(sorted(known)) or 'none'}."


def _against_earlier(placed: Placed, earlier: Sequence[Placed]) -> Iterator[Problem]:
    first = next((one for one in earlier if covers(one.rule, placed.rule)), None)
    if first is None:
        yield from _against_allowed(placed, earlier)
        return
    where = _where(first)
    same_calls = covers(placed.rule, first.rule)
    if placed.rule.action != first.rule.action:
        if same_calls:
            yield _problem(
                "contradiction",
                placed,
                f"says {placed.rule.action} for the same calls for which {where} says "
                f"{first.rule.action}",
                "Keep the one that you mean.",
            )
        else:
            yield _problem(
                "shadowed",
                placed,
                f"never decides: {where} comes first and matches all of its calls "
                f"({describe(first.rule)})",
                "Move it before that rule, or narrow that one.",
            )
    elif same_calls:
        yield _problem("duplicate", placed, f"is the same as {where}", "Remove one of them.")
    else:
        yield _problem(
            "shadowed",
            placed,
            f"adds nothing: {where} comes first and says the same for all of its calls",
            "Remove it, or move it before that rule if its reason is the better one.",
        )


def _against_allowed(placed: Placed, earlier: Sequence[Placed]) -> Iterator[Problem]:
    """A no that comes after a yes to nearly all of its calls."""
    allowing = (one for one in earlier if covers(one.rule, placed.rule, plainly=True))
    first = next(allowing, None)
    if first is not None:
        yield _problem(
            "shadowed",
            placed,
            f"hardly ever decides: {_where(first)} comes first and allows all of its calls, but "
            f"for those with a value that can be read in two ways ({describe(first.rule)})",
            "Move it before that rule, or narrow that one.",
        )


def _where(placed: Placed) -> str:
    return placed.label + (f" (line {placed.line})" if placed.line is not None else "")


def _against_higher(placed: Placed, higher: Iterable[Policy]) -> Iterator[Problem]:
    """An allow that a layer above asks about or denies anyway."""
    if placed.rule.action != "allow":
        return
    for layer in higher:
        before: list[Rule] = []
        for other in layer.placed():
            rule = other.rule
            if rule.action != "allow" and covers(rule, placed.rule) and not before:
                yield _problem(
                    "pointless",
                    placed,
                    f"allows what {other.label} of the layer {layer.layer} says {rule.action} to"
                    + (f" ({other.source})" if other.source else ""),
                    "A lower layer only narrows: remove the rule, or ask who keeps that layer.",
                )
                break
            if rule.action == "allow" and may_share_tools(rule, placed.rule):
                before.append(rule)


def _problem(kind: Kind, placed: Placed, message: str, hint: str) -> Problem:
    return Problem(kind, placed.label, placed.source, f"{placed.label} {message}", hint)
