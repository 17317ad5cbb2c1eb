"""Who has a part in a pattern's work is no tool of the agent's, unless it is named as one."""

from __future__ import annotations

from typing import Any

import pytest

from corral.agents.patterns.registry import PATTERNS
from corral.runtime.config import Settings
from tests.agents.patterns.every import CASES, pair, patterned, sane
from tests.agents.patterns.support import Answering, solved


def parts() -> list[tuple[str, str, Any]]:
    """Every option of every pattern that gives a sub-agent a part, with alpha in it."""
    found: list[tuple[str, str, Any]] = []
    for name, pattern in PATTERNS.items():
        for option, about in pattern.options.model_fields.items():
            given = ["alpha", "beta"] if about.annotation == tuple[str, ...] else "alpha"
            if about.annotation not in (str, tuple[str, ...]):
                continue
            if "alpha" in pattern.options.model_validate({option: given}).roles():
                found.append((name, option, given))
    return found


def test_there_are_such_parts() -> None:
    options = {option for _, option, _ in parts()}
    assert {"critic", "generator", "judge", "planner", "orchestrator", "verifier"} <= options


async def offered(
    settings: Settings, name: str, options: dict[str, Any], **fields: Any
) -> set[str]:
    """The tools that the agent's own model is offered in a run."""
    model = Answering(sane)
    agent = patterned(name, model, *pair(model), options={**CASES[name].options, **options})
    await solved(settings, agent.model_copy(update=fields))
    asked = [request for request in model.asked if request.agent == "lead"]
    return {tool.name for request in asked for tool in request.tools}


@pytest.mark.parametrize(("name", "option", "given"), parts())
async def test_a_part_is_not_offered_as_a_tool(
    settings: Settings, name: str, option: str, given: Any
) -> None:
    without = await offered(settings, name, {})
    tools = await offered(settings, name, {option: given})
    assert "agents__alpha" not in tools
    if isinstance(given, str) and tools:
        assert without - tools == {"agents__alpha"}


async def test_one_that_is_named_as_a_tool_is_both(settings: Settings) -> None:
    named = {"tools": ("agents__alpha",)}
    options = {"critic": "alpha"}
    assert await offered(settings, "reflection", options, **named) == {"agents__alpha"}
