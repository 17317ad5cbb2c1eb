"""An agent as it would run: everything that holds for it, wherever that is said."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from corral.agents.files.catalog import Entry
from corral.agents.patience import limits_of
from corral.agents.patterns.registry import find_pattern, read_options
from corral.agents.spec import DEFAULT_INSTRUCTIONS, Agent
from corral.cli.agents.opening import open_services
from corral.cli.agents.places import line_of, place_of
from corral.cli.agents.teams import team_json, team_lines
from corral.cli.output import clean, one_line
from corral.jsontypes import Json, JsonObject, canonical
from corral.runtime.config import Settings
from corral.runtime.tool_tokens import definition_tokens

_GLOBAL = ("servers", "tools", "budget", "reasoning")
"""What is left out where nothing is said of it, and then is the settings'."""


@dataclass(frozen=True)
class Offered:
    """The tools that an agent is offered, with what each one's definition costs in tokens."""

    tools: tuple[tuple[str, int, str], ...]
    tokens: int
    problems: tuple[str, ...]


async def offered_to(agent: Agent, settings: Settings) -> Offered:
    """Start the agent's servers and list its tools. Raises ``ConfigError`` for unknown ones."""
    async with open_services(agent, settings) as services:
        found = await services.tools.catalog()
    listed = tuple((spec.name, definition_tokens([spec]), spec.description) for spec in found.tools)
    return Offered(listed, definition_tokens(found.tools), tuple(found.problems))


def shown_json(
    agent: Agent, entry: Entry, settings: Settings, offered: Offered | None
) -> JsonObject:
    """Everything that holds for an agent, as a JSON object."""
    said = agent.model_dump(mode="json", exclude={"agents", "source"})
    limits = limits_of(agent, settings)
    loops = agent.loops or settings.loops
    effective: JsonObject = {
        **said,
        "instructions": agent.instructions or DEFAULT_INSTRUCTIONS,
        "limits": limits.model_dump(mode="json"),
        "loops": loops.model_dump(mode="json"),
        "options": read_options(agent).model_dump(mode="json"),
        "team": team_json(agent),
        "owner": entry.owner,
        "file": str(entry.file) if entry.file else None,
        "line": line_of(entry),
    }
    return effective if offered is None else {**effective, **_offered_json(offered)}


def shown(agent: Agent, entry: Entry, settings: Settings, offered: Offered | None) -> Iterator[str]:
    """The same for a person, line by line."""
    pattern = find_pattern(agent.pattern)
    yield f"{clean(agent.name)}  {clean(agent.description)}".rstrip()
    yield f"  from: {clean(place_of(entry))}"
    yield f"  model: {clean(str(agent.model))}"
    yield f"  pattern: {pattern.name}: {pattern.summary} ({pattern.source})"
    yield from _options(agent)
    yield f"  policy: {_policy(agent)}"
    for key in _GLOBAL:
        yield from _said(agent, key)
    limits = limits_of(agent, settings)
    yield f"  limits: {canonical(limits.model_dump(mode='json', exclude_none=True))}"
    sampling = agent.sampling.model_dump(mode="json", exclude_defaults=True)
    yield from (f"  sampling: {canonical(sampling)}",) if sampling else ()
    yield from ("  returns: a value of its declared type",) if agent.returns is not None else ()
    names = ", ".join(check.name for check in agent.checks)
    yield from (f"  checks: {clean(names)}",) if names else ()
    yield "team:"
    yield from (f"  {line}" for line in team_lines(agent))
    yield from _tools(offered) if offered is not None else ()
    yield "instructions:"
    text = clean(agent.instructions or DEFAULT_INSTRUCTIONS)
    yield textwrap.indent(text, "  ")


def _options(agent: Agent) -> Iterator[str]:
    options = read_options(agent)
    values = options.model_dump(mode="json")
    for key, field in type(options).model_fields.items():
        kind = "" if key in agent.options else " (default)"
        told = f"  {field.description}" if field.description else ""
        yield f"    {key} = {one_line(canonical(values[key]), 60)}{kind}{told}"


def _policy(agent: Agent) -> str:
    if agent.policy is None:
        return "none of its own: that of the run holds"
    return f"{clean(agent.policy.in_words)}: it narrows that of the run"


def _said(agent: Agent, key: str) -> Iterator[str]:
    value = getattr(agent, key)
    if value is None:
        return
    dumped = agent.model_dump(mode="json", include={key}, exclude_none=True)[key]
    yield f"  {key}: {clean(_listed(dumped))}"


def _listed(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else canonical(value)


def _tools(offered: Offered) -> Iterator[str]:
    yield f"tools: {len(offered.tools)}, of which the definitions take {offered.tokens:,} tokens"
    width = max((len(name) for name, _, _ in offered.tools), default=0)
    for name, tokens, described in offered.tools:
        yield f"  {clean(name):<{width}}  {tokens:>6,}  {one_line(described, 80)}"
    yield from (f"  problem: {clean(problem)}" for problem in offered.problems)


def _offered_json(offered: Offered) -> JsonObject:
    tools: Sequence[JsonObject] = [
        {"name": name, "tokens": tokens, "description": described}
        for name, tokens, described in offered.tools
    ]
    return {
        "offered": list(tools),
        "offered_tokens": offered.tokens,
        "problems": list(offered.problems),
    }
