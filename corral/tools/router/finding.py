"""``tools__find``: how a model finds a tool that it was not offered.

What it finds is offered from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from corral.jsontypes import JsonObject
from corral.tools.contract import CallOptions, ToolResult, ToolSpec, harmless_tool
from corral.tools.router.definitions import definitions_label
from corral.tools.text import one_line

SERVER = "tools"

FOUND = 5
"""How many tools one search gives."""

_MAX_LINE = 300

FIND = harmless_tool(
    SERVER,
    "find",
    "Find a tool for what you want to do, when none that you have does it. What is "
    "found can be called from then on.",
    {
        "query": {
            "type": "string",
            "minLength": 1,
            "maxLength": 500,
            "description": "What it should do, in a few words.",
        }
    },
)

Search = Callable[[str, int], Awaitable[Sequence[ToolSpec]]]
"""The best tools for a query, so many at most."""


@dataclass(frozen=True)
class ToolFinder:
    """A ``ToolProvider`` of the search over an agent's tools."""

    search: Search
    name: str = SERVER

    async def list_tools(self) -> list[ToolSpec]:
        """None: an agent has the search where it has more tools than it is offered."""
        return []

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """The tools that fit a query best, as text and by their names (``tools``)."""
        del tool, options
        found = await self.search(str(args["query"]), FOUND)
        lines = [f"- {_described(spec)}" for spec in found]
        return ToolResult(
            "\n".join(["These tools can be called now:", *lines]) if lines else "There are none.",
            structured={"tools": [spec.name for spec in found]},
            label=definitions_label(found).to_json(),
        )

    async def aclose(self) -> None:
        """Nothing to close."""


def _described(spec: ToolSpec) -> str:
    """A tool in a line: its name, its arguments, and the beginning of what it says of itself."""
    properties = spec.input_schema.get("properties")
    required = spec.input_schema.get("required")
    needed = required if isinstance(required, list) else []
    names = [
        name if name in needed else f"{name}?"
        for name in (properties if isinstance(properties, dict) else ())
    ]
    return one_line(f"{spec.name}({', '.join(names)}): {spec.description}", _MAX_LINE)
