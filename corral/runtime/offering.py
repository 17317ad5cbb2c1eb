"""What an agent with many tools is offered of them: chosen by what it is asked, as an effect.

The catalog of such an agent has the tool ``tools__find``. What that finds, and what is called
although it was not offered, is offered from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from corral.jsontypes import digest
from corral.runtime.calls import FOUND, Services, Setting
from corral.runtime.context import perform
from corral.runtime.effects import TOOLS, Attempt, Effect, Outcome
from corral.runtime.tool_tokens import definition_tokens
from corral.tools.router.choice import Wanted

_LATELY = 40  # messages that are looked through for tools that were called


async def offered_for(
    request: str, messages: Sequence[BaseMessage], setting: Setting, services: Services
) -> Setting:
    """The setting with the tools that fit a request; ``messages`` are what came before.

    What the conversation was offered last is in the ``setting`` that is given.
    """
    offered = tuple(spec.name for spec in setting.offered)
    wanted = Wanted(request, offered, tuple(_called(messages[-_LATELY:])))
    execute = partial(_choose, wanted, setting, services)
    outcome = await perform(Effect("retrieval", TOOLS, {"query": request}, execute))
    return narrowed(setting, outcome.value["tools"])


async def _choose(
    wanted: Wanted, setting: Setting, services: Services, _attempt: Attempt
) -> Outcome:
    return Outcome({"tools": await services.tools.choose(setting.tools, wanted)})


def narrowed(setting: Setting, names: Sequence[str]) -> Setting:
    """The setting with these tools on offer, in this order; what there is not is left out."""
    by_name = {spec.name: spec for spec in setting.tools}
    offered = tuple(by_name[name] for name in dict.fromkeys(names) if name in by_name)
    if offered == setting.offered:
        return setting
    return replace(
        setting,
        offered=offered,
        tools_digest=digest([spec.to_json() for spec in offered])[:16],
        definition_tokens=definition_tokens(offered),
    )


def with_found(setting: Setting, messages: Sequence[BaseMessage]) -> Setting:
    """The setting with what was found or called in ``messages`` on offer, too."""
    return narrowed(setting, [*(spec.name for spec in setting.offered), *_found(messages)])


def since_answer(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """The messages after the model's last one."""
    count = next((n for n, m in enumerate(reversed(messages)) if isinstance(m, AIMessage)), 0)
    return messages[len(messages) - count :]


def newest_request(messages: Sequence[BaseMessage]) -> str:
    """What was last asked for in a conversation."""
    asked = (str(m.text) for m in reversed(messages) if isinstance(m, HumanMessage))
    return next(asked, "")


def _found(messages: Sequence[BaseMessage]) -> Iterator[str]:
    for message in messages:
        if isinstance(message, ToolMessage):
            artifact = message.artifact
            yield from artifact.get(FOUND, ()) if isinstance(artifact, dict) else ()
            yield str(message.name)


def _called(messages: Sequence[BaseMessage]) -> Iterator[str]:
    for message in messages:
        if isinstance(message, AIMessage):
            yield from (call["name"] for call in message.tool_calls)
