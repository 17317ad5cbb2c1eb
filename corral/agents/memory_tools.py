"""The long-term memory as tools: the agent remembers a fact, and recalls facts by a query."""

from __future__ import annotations

from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.memory.store import MAX_FACT, MemoryStore, Source
from corral.policies.provenance.labels import PUBLIC
from corral.runtime.context import current_label, current_run
from corral.tools.contract import CallOptions, ToolResult, ToolSpec, harmless_tool

SERVER = "memory"

_REMEMBER = ToolSpec(
    server=SERVER,
    tool="remember",
    description="Keep one fact about the user or the work for later conversations.",
    input_schema={
        "type": "object",
        "properties": {
            "fact": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_FACT,
                "description": "One sentence that can be understood by itself.",
            }
        },
        "required": ["fact"],
        "additionalProperties": False,
    },
    destructive=False,
    idempotent=True,
    open_world=False,
    trusted=True,
)

_RECALL = harmless_tool(
    SERVER,
    "recall",
    "Look up facts that were kept in earlier conversations.",
    {"query": {"type": "string", "description": "Words to look for."}},
)


class MemoryTools:
    """A ``ToolProvider`` over the memory of one agent."""

    name = SERVER

    def __init__(self, store: MemoryStore, agent: str) -> None:
        self._store = store
        self._agent = agent

    async def list_tools(self) -> list[ToolSpec]:
        """``remember`` and ``recall``."""
        return [_REMEMBER, _RECALL]

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Make one call in the current run."""
        if tool == "recall":
            found = await self._store.recall(str(args["query"]))
            lines = [f"- {memory.text}" for memory in found]
            label = PUBLIC.join(*(memory.provenance for memory in found))
            text = "\n".join(lines) or "Nothing is remembered about that."
            return ToolResult(text, label=label.to_json())
        run = current_run.get()
        source = Source(self._agent, run.thread, run.run)
        try:
            fact, key = str(args["fact"]), options.idempotency_key
            memory = await self._store.remember(fact, source, key, current_label.get())
        except UsageError as error:
            return ToolResult(str(error), is_error=True, label=PUBLIC.to_json())
        return ToolResult(
            f"Remembered: {memory.text}", structured={"id": memory.id}, label=PUBLIC.to_json()
        )

    async def aclose(self) -> None:
        """Nothing to stop."""
