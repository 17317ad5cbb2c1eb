"""What a langchain model of the user's is told, in the words that all of them know."""

from __future__ import annotations

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ModelRequest, NamedTool, Sampling
from corral.runtime.models.hosted.dialects.call import Call, Target
from corral.runtime.models.hosted.dialects.messages import messages_for
from corral.runtime.models.hosted.dialects.outputs import through_tool, wrapped
from corral.runtime.models.hosted.names import ToolNames, alias
from corral.runtime.models.hosted.schemas import object_schema


def foreign_call(request: ModelRequest, sampling: Sampling, target: Target) -> Call:
    """The request for any langchain model. An answer with a shape is one call of a tool."""
    wrapping = None
    if request.output is not None:
        schema, wrapping = wrapped(request.output)
        request, wrapping = through_tool(request, schema, wrapping)
    given = {key: value for key, value in vars(sampling).items() if value not in (None, ())}
    if target.lacks("temperature"):
        given = {k: v for k, v in given.items() if k not in ("temperature", "top_p", "seed")}
    if "stop" in given:
        given["stop"] = list(sampling.stop)
    offered = () if request.tool_choice == "none" else request.tools
    tools: list[JsonObject] = [
        {
            "type": "function",
            "function": {
                "name": alias(tool.name),
                "description": tool.description,
                "parameters": object_schema(tool.input_schema),
            },
        }
        for tool in offered
    ]
    if offered and isinstance(request.tool_choice, NamedTool):
        given["tool_choice"] = alias(request.tool_choice.name)
    elif offered and request.tool_choice == "required":
        given["tool_choice"] = "any"
    messages = messages_for(request.messages, target)
    return Call(messages, given, ToolNames.of(request.tools), wrapping, tools)
