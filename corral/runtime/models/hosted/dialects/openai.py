"""What OpenAI's two protocols are told: Chat Completions, which others speak too, and Responses.

See https://platform.openai.com/docs/api-reference; nothing is kept there (``store`` is false), so
a model's reasoning comes encrypted and goes back with the history.
"""

from __future__ import annotations

from typing import Any

from corral.jsontypes import JsonObject, digest
from corral.runtime.models.contract import ModelRequest, NamedTool, Sampling
from corral.runtime.models.hosted.dialects.call import Call, Target
from corral.runtime.models.hosted.dialects.messages import messages_for
from corral.runtime.models.hosted.dialects.outputs import output_name, wrapped
from corral.runtime.models.hosted.names import ToolNames, alias
from corral.runtime.models.hosted.schemas import OPENAI, object_schema, strict_schema
from corral.tools.contract import ToolSpec

_CHAT = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty")
_RESPONSES = ("temperature", "top_p", "max_tokens")
_OTHERS = {"top_k": ("top_k",), "min_p": ("min_p",)} | {
    "repeat_penalty": ("repetition_penalty", "repeat_penalty")
}
"""Parameters that OpenAI does not have, and their names at vLLM and llama.cpp."""

_NEEDS_CHANCE = (
    *("temperature", "top_p", "seed", "stop", "logprobs"),
    *("frequency_penalty", "presence_penalty"),
)
"""What a reasoning model, whose sampling is its own affair, rejects."""


def chat_call(request: ModelRequest, sampling: Sampling, target: Target) -> Call:
    """The request for Chat Completions, at OpenAI or at any server that speaks like it."""
    settings = _sampled(sampling, target, _CHAT)
    body: JsonObject = {}
    if sampling.stop and "stop" not in _rejected(target):
        settings["stop"] = list(sampling.stop)
    if sampling.logprobs is not None and "logprobs" not in _rejected(target):
        settings |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    if not target.official:
        for ours, theirs in _OTHERS.items():
            if (value := getattr(sampling, ours)) is not None:
                body |= dict.fromkeys(theirs, value)
    settings |= _tools(request, target)
    settings |= _caching(request, target)
    if effort := _effort(request, target):
        settings["reasoning_effort"] = effort
    wrapping = None
    if request.output is not None:
        schema, wrapping = wrapped(request.output)
        named = {"name": output_name(request.output), **_format(schema, target)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if body:
        # Past the SDK's helper for structured output, which wants every tool to be strict.
        settings["extra_body"] = body
    messages = messages_for(request.messages, target)
    return Call(messages, settings, ToolNames.of(request.tools), wrapping)


def responses_call(request: ModelRequest, sampling: Sampling, target: Target) -> Call:
    """The request for the Responses API, which has no seed, no stop strings and no penalties."""
    settings = _sampled(sampling, target, _RESPONSES)
    settings |= _tools(request, target)
    settings |= _caching(request, target)
    if target.profile.get("reasoning_output", True):
        settings["include"] = ["reasoning.encrypted_content"]
    if effort := _effort(request, target):
        settings["reasoning"] = {"effort": effort}
        if effort != "none" and target.summaries:
            settings["reasoning"]["summary"] = "auto"
    wrapping = None
    if request.output is not None:
        schema, wrapping = wrapped(request.output)
        named = {"name": output_name(request.output), **_format(schema, target)}
        settings["text"] = {"format": {"type": "json_schema", **named}}
    messages = messages_for(request.messages, target)
    return Call(messages, settings, ToolNames.of(request.tools), wrapping)


def _sampled(sampling: Sampling, target: Target, known: tuple[str, ...]) -> JsonObject:
    given = {name: getattr(sampling, name) for name in known if name not in _rejected(target)}
    return {name: value for name, value in given.items() if value is not None}


def _rejected(target: Target) -> tuple[str, ...]:
    return _NEEDS_CHANCE if target.lacks("temperature") else ()


def _tools(request: ModelRequest, target: Target) -> JsonObject:
    if not request.tools:
        return {}
    told: JsonObject = {"tools": [_tool(tool, target) for tool in request.tools]}
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        named = {"name": alias(choice.name)}
        told["tool_choice"] = {"type": "function", "function": named}
    elif choice != "auto":
        told["tool_choice"] = choice
    if not request.parallel_tool_calls:
        told["parallel_tool_calls"] = False
    return told


def _tool(tool: ToolSpec, target: Target) -> JsonObject:
    function: JsonObject = {
        "name": alias(tool.name),
        "description": tool.description,
        "parameters": object_schema(tool.input_schema),
    }
    if not target.official:
        return {"type": "function", "function": function}
    strict = strict_schema(tool.input_schema, OPENAI) if target.strict else None
    if strict is not None:
        function |= {"parameters": strict, "strict": True}
    elif target.api == "responses":
        # There, a tool that says nothing is strict.
        function["strict"] = False
    return {"type": "function", "function": function}


def _format(schema: JsonObject, target: Target) -> JsonObject:
    strict = strict_schema(schema, OPENAI) if target.strict else None
    if strict is None:
        return {"schema": schema, "strict": False}
    return {"schema": strict if target.official else schema, "strict": True}


def _caching(request: ModelRequest, target: Target) -> JsonObject:
    """Prompts are cached without being asked for; the key leads a conversation to its cache."""
    if not (target.official and target.prompt_cache and request.conversation):
        return {}
    return {"prompt_cache_key": digest(request.conversation)[:32]}


def _effort(request: ModelRequest, target: Target) -> str | None:
    """How hard to think: the level that was asked for, or the next one that the model has."""
    wanted = request.reasoning
    if wanted is None or target.lacks("reasoning_output"):
        return None
    levels: Any = target.profile.get("reasoning_effort_levels")
    if wanted != "none" or (not target.official and not levels) or "none" in (levels or ()):
        return wanted
    return "minimal" if "minimal" in (levels or ()) else "low"
