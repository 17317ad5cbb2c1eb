"""The tools that the ReAct loop offers at a step, where an agent has many."""

from __future__ import annotations

from langchain_core.messages import HumanMessage

from corral.agents.prompting import ReactState
from corral.agents.typed_answer import asks_again
from corral.runtime.calls import Services, Setting
from corral.runtime.offering import (
    narrowed,
    newest_request,
    offered_for,
    since_answer,
    with_found,
)


async def with_tools(state: ReactState, setting: Setting, services: Services) -> Setting:
    """The setting with what the model is offered now: chosen when it was asked, then added to."""
    if not setting.is_routed:
        return setting
    messages, names = state["messages"], state.get("offered")
    setting = narrowed(setting, names or ())
    newest = messages[-1]
    is_asked = isinstance(newest, HumanMessage) and not asks_again(newest)
    if names is None or is_asked:
        setting = await offered_for(newest_request(messages), messages, setting, services)
    return with_found(setting, since_answer(messages))


def kept(setting: Setting) -> ReactState:
    """The state update by which a thread goes on with the same tools."""
    return {"offered": [spec.name for spec in setting.offered]} if setting.is_routed else {}
