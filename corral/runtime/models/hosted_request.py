"""A request as hosted providers accept it: messages, tools, their names and the sampling.

Providers take tool names of letters, digits, ``_`` and ``-`` only, and argument schemas that are
a plain object at the top. MCP promises neither, so both are adapted here: a name that does not
fit gets an alias that is translated back in the answer, and what a provider would reject at the
top of a schema is loosened. The arguments that come back are validated against the tool's own
schema anyway, wherever the model runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from corral.jsontypes import JsonObject, digest
from corral.runtime.models.contract import Sampling, ToolChoice
from corral.runtime.models.known_models import Provider
from corral.tools.contract import ToolSpec

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_COMPOSED = ("anyOf", "oneOf", "allOf")
_UNFORCEABLE = ("claude-fable-5-1", "claude-opus-5-5", "claude-sonnet-5-5")
"""Models that always think, and then may not be forced to call a tool."""


@dataclass(frozen=True)
class ToolNames:
    """The tools' names at the provider, and the way back."""

    originals: Mapping[str, str]

    @classmethod
    def of(cls, tools: Sequence[ToolSpec]) -> ToolNames:
        """The names of the tools on offer."""
        return cls({alias(tool.name): tool.name for tool in tools})

    def original(self, name: str) -> str:
        """The tool that the provider's ``name`` means; a name that was never offered stays."""
        return self.originals.get(name, name)


def alias(name: str) -> str:
    """A tool's name as providers accept it: itself where it fits, else cleaned and numbered."""
    if _NAME.fullmatch(name):
        return name
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', name)[:55]}_{digest(name)[:8]}"


def function_schemas(tools: Sequence[ToolSpec]) -> list[JsonObject]:
    """The tools as function definitions in OpenAI's form, which every langchain model takes."""
    return [
        {
            "type": "function",
            "function": {
                "name": alias(tool.name),
                "description": tool.description,
                "parameters": object_schema(tool.input_schema),
            },
        }
        for tool in tools
    ]


def object_schema(schema: Mapping[str, Any]) -> JsonObject:
    """An argument schema that is a plain object at the top, accepting at least what it accepted.

    Alternatives at the top (``anyOf``, ``oneOf``, ``allOf``) become one object with the
    properties of all of them; other combinators at the top are left out.
    """
    left_out = (*_COMPOSED, "enum", "not", "const", "if", "then", "else")
    plain: JsonObject = {key: value for key, value in schema.items() if key not in left_out}
    properties: JsonObject = {}
    for branch in (branch for key in _COMPOSED for branch in schema.get(key) or ()):
        if isinstance(branch, Mapping):
            properties |= branch.get("properties") or {}
    composed = any(key in schema for key in _COMPOSED)
    if composed:
        plain.pop("additionalProperties", None)
    return {**plain, "type": "object", "properties": properties | (plain.get("properties") or {})}


def messages_for(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The history with every tool call's name as providers accept it.

    That includes names that a model made up: a provider rejects them when they come back.
    """
    return [_renamed(message) for message in messages]


def tool_choice_for(
    choice: ToolChoice, provider: Provider | None, model: str
) -> str | JsonObject | None:
    """``tool_choice`` as langchain's ``bind_tools`` takes it; ``None`` leaves it to the model."""
    if choice == "required":
        return None if model.startswith(_UNFORCEABLE) else "any"
    if choice == "none":
        return {"type": "none"} if provider == "anthropic" else "none"
    return None


def merged(wanted: Sampling, default: Sampling) -> Sampling:
    """``wanted``, with ``default`` where it says nothing."""
    given = {key: value for key, value in wanted.__dict__.items() if value not in (None, ())}
    return replace(default, **given)


def sampling_for(
    sampling: Sampling, provider: Provider | None, profile: Mapping[str, Any]
) -> JsonObject:
    """Sampling as keyword arguments of langchain's ``astream``.

    A parameter that the model is known to reject is left out: Anthropic has no seed, and models
    whose profile says so take no temperature.
    """
    given: JsonObject = {
        key: value for key, value in sampling.__dict__.items() if value is not None
    }
    given["stop"] = list(sampling.stop) or None
    rejected = set()
    if provider == "anthropic":
        rejected.add("seed")
    if profile.get("temperature") is False:
        rejected |= {"temperature", "top_p", "seed"}
    return {key: value for key, value in given.items() if value is not None and key not in rejected}


def _renamed(message: BaseMessage) -> BaseMessage:
    if not isinstance(message, AIMessage):
        return message
    calls = [{**call, "name": alias(call["name"])} for call in message.tool_calls]
    return (
        message if calls == message.tool_calls else message.model_copy(update={"tool_calls": calls})
    )
