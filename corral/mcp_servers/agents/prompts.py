"""Agents as prompts: their instructions, for the client's own model to follow."""

from __future__ import annotations

from collections.abc import Mapping

import mcp_types as types

from corral.agents.hosting.contract import Offer
from corral.errors import NotFoundError, UsageError
from corral.tools.text import clean, one_line

TASK = "task"


def listed(offers: Mapping[str, Offer]) -> list[types.Prompt]:
    """One prompt for each agent, by the name of its tool."""
    argument = types.PromptArgument(name=TASK, description="What is to be done.", required=True)
    return [
        types.Prompt(
            name=name,
            title=one_line(offer.name),
            description=clean(offer.description) or f"What {one_line(offer.name)} is told.",
            arguments=[argument],
        )
        for name, offer in offers.items()
    ]


def filled(
    offers: Mapping[str, Offer], name: str, args: Mapping[str, str]
) -> types.GetPromptResult:
    """An agent's instructions and a task. Raises ``NotFoundError`` and ``UsageError``."""
    offer = offers.get(name)
    if offer is None:
        raise NotFoundError(
            f"There is no prompt {one_line(name, 80)!r}.",
            hint=f"There are: {', '.join(offers)}.",
        )
    task = args.get(TASK, "").strip()
    if not task:
        raise UsageError(f"The prompt {name} needs the argument `{TASK}`.", hint="Say what to do.")
    text = f"{offer.instructions.strip()}\n\n{task}".strip()
    message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
    return types.GetPromptResult(description=clean(offer.description), messages=[message])
