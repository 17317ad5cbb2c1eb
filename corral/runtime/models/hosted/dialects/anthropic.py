"""What Anthropic's Messages API is told. See https://platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ModelRequest, NamedTool, Sampling
from corral.runtime.models.hosted.dialects.call import Call, Target, Wrapping
from corral.runtime.models.hosted.dialects.messages import messages_for
from corral.runtime.models.hosted.dialects.outputs import through_tool, wrapped
from corral.runtime.models.hosted.dialects.prompt_cache import mark_messages, mark_tools
from corral.runtime.models.hosted.names import ToolNames, alias
from corral.runtime.models.hosted.schemas import (
    ANTHROPIC,
    object_schema,
    strict_schema,
    strict_schemas,
)
from corral.tools.contract import ToolSpec

_ALWAYS_THINKS = re.compile(r"claude-(fable-5|opus-5-5|sonnet-5-5)")
_UNFORCEABLE = re.compile(r"claude-(fable-5-1|opus-5-5|sonnet-5-5)")
"""Models that always think, and then may not be forced to call a tool."""

_NOT_CONSTRAINED = re.compile(r"claude-([123]|instant|(opus|sonnet)-4-(0|2025))")
"""Models from before structured output and strict tools."""

_BUDGETED = re.compile(r"claude-(3-7|haiku-4|sonnet-4-[05]|sonnet-4-2025|opus-4-[015]|opus-4-2025)")
"""Models whose thinking is given a number of tokens."""

_BUDGETS = {"low": 2048, "medium": 8192, "high": 16384}
_ROOM = 1024
"""Tokens that are left for the answer itself, and the fewest that thinking may have."""


def messages_call(request: ModelRequest, sampling: Sampling, target: Target) -> Call:
    """The request for the Messages API.

    It has no seed, no penalties and no log probabilities. Where the model cannot be held to a
    schema otherwise, a tool takes the answer.
    """
    settings: JsonObject = {}
    wrapping = None
    if request.output is not None:
        request, wrapping, settings = _with_output(request, target)
    settings |= _thinking(request, sampling, target)
    settings |= _sampled(sampling, target, thinks=settings.get("thinking"))
    settings |= _tools(request, target)
    messages = messages_for(request.messages, target)
    if target.prompt_cache:
        if not any(message.type == "system" for message in messages):
            mark_tools(settings.get("tools"))
        messages = mark_messages(messages, goes_on=bool(request.conversation))
    return Call(messages, settings, ToolNames.of(request.tools), wrapping)


def _with_output(
    request: ModelRequest, target: Target
) -> tuple[ModelRequest, Wrapping, JsonObject]:
    """The request with the answer's shape as a format, or as a tool that is to be called."""
    assert request.output is not None
    schema, wrapping = wrapped(request.output)
    strict = strict_schema(schema, ANTHROPIC)
    if strict is not None and target.strict and not _NOT_CONSTRAINED.match(target.model):
        form = {"type": "json_schema", "schema": strict}
        return request, wrapping, {"output_config": {"format": form}}
    return (*through_tool(request, schema, wrapping), {})


def _sampled(sampling: Sampling, target: Target, *, thinks: Any) -> JsonObject:
    given: JsonObject = {"max_tokens": sampling.max_tokens, "stop": list(sampling.stop) or None}
    if not target.lacks("temperature") and (thinks or {}).get("type") != "enabled":
        given |= {"temperature": sampling.temperature, "top_k": sampling.top_k}
        if sampling.temperature is None:
            # Newer models take one of the two only.
            given["top_p"] = sampling.top_p
    return {name: value for name, value in given.items() if value is not None}


def _tools(request: ModelRequest, target: Target) -> JsonObject:
    if not request.tools:
        return {}
    told: JsonObject = {"tools": _definitions(request.tools, target)}
    choice: JsonObject = {"type": "auto"}
    forceable = not _UNFORCEABLE.match(target.model)
    if isinstance(request.tool_choice, NamedTool) and forceable:
        choice = {"type": "tool", "name": alias(request.tool_choice.name)}
    elif request.tool_choice == "required" and forceable:
        choice = {"type": "any"}
    elif request.tool_choice == "none":
        choice = {"type": "none"}
    if not request.parallel_tool_calls and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return told if choice == {"type": "auto"} else {**told, "tool_choice": choice}


def _definitions(tools: Sequence[ToolSpec], target: Target) -> list[JsonObject]:
    may_be_strict = target.official and target.strict and not _NOT_CONSTRAINED.match(target.model)
    strict = strict_schemas([tool.input_schema for tool in tools], ANTHROPIC)
    return [
        _definition(tool, schema if may_be_strict else None)
        for tool, schema in zip(tools, strict, strict=True)
    ]


def _definition(tool: ToolSpec, strict: JsonObject | None) -> JsonObject:
    definition: JsonObject = {"name": alias(tool.name), "description": tool.description}
    if strict is None:
        return {**definition, "input_schema": object_schema(tool.input_schema)}
    return {**definition, "input_schema": strict, "strict": True}


def _thinking(request: ModelRequest, sampling: Sampling, target: Target) -> JsonObject:
    """How much to think, as far as the model lets one say so."""
    wanted = request.reasoning
    if wanted is None or target.lacks("reasoning_output"):
        return {}
    if wanted == "none":
        if _ALWAYS_THINKS.match(target.model):
            return {"reasoning_effort": "low"}
        return {} if _BUDGETED.match(target.model) else {"thinking": {"type": "disabled"}}
    if _BUDGETED.match(target.model):
        return _budgeted(_BUDGETS[wanted], request, sampling)
    # langchain asks for adaptive thinking with it, and for its summary.
    return {"reasoning_effort": wanted}


def _budgeted(budget: int, request: ModelRequest, sampling: Sampling) -> JsonObject:
    """Thinking by a number of tokens, where the request allows any.

    A call may not be forced then, and a turn that was begun without thoughts goes on without.
    """
    if sampling.max_tokens is not None:
        budget = min(budget, sampling.max_tokens - _ROOM)
    forced = isinstance(request.tool_choice, NamedTool) or request.tool_choice == "required"
    if forced or budget < _ROOM or _begun_without(request.messages):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _begun_without(messages: Sequence[BaseMessage]) -> bool:
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return False
        if isinstance(message, AIMessage) and message.tool_calls:
            blocks = message.content if isinstance(message.content, list) else []
            return not any(isinstance(b, dict) and "thinking" in str(b["type"]) for b in blocks)
    return False
