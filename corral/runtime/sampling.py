"""Asking the agent's model for a tool server: a model call like any other, in the run's budget."""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from corral.runtime.asking import Ask, asking
from corral.runtime.calls import Services
from corral.runtime.effects import Effect
from corral.runtime.models.contract import Sampling
from corral.tools.inquiry import Sample


def sampling_effect(wanted: Sample, services: Services) -> Effect:
    """What the server asks, as it asks it: no tools, and nothing of the agent's conversation.

    Its messages carry no label, so that the answer counts as written by strangers.
    """
    messages: list[BaseMessage] = [SystemMessage(wanted.system)] if wanted.system else []
    for role, text in wanted.messages:
        messages.append(AIMessage(text) if role == "assistant" else HumanMessage(text))
    sampling = Sampling(max_tokens=wanted.max_tokens, temperature=wanted.temperature)
    ask = Ask(services.model.name, messages, sampling=sampling, purpose="sampling", aloud=False)
    return asking(ask, services)
