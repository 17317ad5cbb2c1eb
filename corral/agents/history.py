"""What an agent that is given a task sees of the conversation in which it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal, assert_never

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from corral.agents.typed_answer import asks_again
from corral.memory.compaction import Compaction, accept_summary, summary_request
from corral.memory.labelled import joined_label, labelled
from corral.runtime.asking import Ask, ask_model
from corral.runtime.calls import Services

History = Literal["nothing", "task", "summary", "all"]
"""Nothing but what the agent that asks writes; the user's request as well; a summary of the
conversation; or all that the user and the agents have said in it. The calls and results of tools
stay with the agent that made them."""

_ABOUT_SUMMARY = "[Summary of the conversation so far, for whoever works on a part of it.]\n"
_BUDGET = 2048  # tokens that a summary for a worker is planned with: it may be an eighth of them


async def shown(
    history: History, messages: Sequence[BaseMessage], model: str, services: Services
) -> tuple[BaseMessage, ...]:
    """The messages that come before a task. ``summary`` asks the model, which is an effect."""
    match history:
        case "nothing":
            return ()
        case "task":
            prompts = (one for one in reversed(messages) if isinstance(one, HumanMessage))
            return tuple(islice((one for one in prompts if not asks_again(one)), 1))
        case "all":
            return tuple(_said(messages))
        case "summary":
            said = _said(messages)
            compaction = Compaction(None, tuple(said), len(said), _BUDGET, joined_label(said))
            request = Ask(model, summary_request(compaction), purpose="summary")
            answer = await ask_model(request, services)
            text = accept_summary(compaction, str(answer.text))
            return (labelled(HumanMessage(_ABOUT_SUMMARY + text), compaction.label),)
        case _:
            assert_never(history)


def _said(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """What the user and the agents have said, without calls and results."""
    said: list[BaseMessage] = []
    for message in messages:
        if isinstance(message, HumanMessage):
            said.append(message)
        elif isinstance(message, AIMessage) and message.text:
            # The labels stay; calls without their results no provider takes.
            kept = {"content": str(message.text), "tool_calls": [], "invalid_tool_calls": []}
            said.append(message.model_copy(update=kept))
    return said
