"""Clients of the agents' service, and a workspace whose agents answer from scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import mcp_types as types

import corral
from corral.agents.hosting.local import LocalRuns
from corral.mcp_servers.agents.service import AgentService, Offering, Waits
from corral.mcp_servers.serving.contract import AskFirst, AsTask, Caller, Elicited, Question
from corral.runtime.config import Settings, load_settings

ALL_AGENTS = Offering()
ME = Caller("stdio:tester", "tester", "1")

WAITS = Waits(usual=30, longest=50)
"""A call of a test waits until there is an answer; where it must not, it says so."""

ASKED = [{"tool": "memory__remember", "action": "ask"}]

SCRIPTS: Mapping[str, list[dict[str, Any]]] = {
    "writer": [{"text": "It is written."}],
    "slow": [{"text": "Never said.", "delay": 3600}],
    "careful": [
        {
            "text": "Let me keep that.",
            "tool_calls": [{"name": "memory__remember", "args": {"fact": "Tea is at four."}}],
        },
        {"text": "Kept or not, as you said."},
    ],
    "broken": [{"error": "the model is on holiday"}],
    "typed": [{"text": '{"total": 42}'}],
}
TOTAL: dict[str, Any] = {
    "type": "object",
    "properties": {"total": {"$ref": "#/$defs/count"}},
    "required": ["total"],
    "$defs": {"count": {"type": "integer"}},
}


AGENTS: Mapping[str, dict[str, Any]] = {
    "writer": {"description": "Writes texts.", "instructions": "Write well.", "servers": ()},
    "slow": {"servers": ()},
    "careful": {"servers": ("memory",), "policy": {"rules": ASKED}},
    "broken": {"servers": ()},
    "typed": {"servers": (), "returns": TOTAL},
}


def configured(home: Path, workspace: Path, **more: Any) -> Settings:
    """Settings with the agents of ``SCRIPTS``."""
    folder = home.parent / "scripts"
    folder.mkdir(exist_ok=True)
    agents = {}
    for name, turns in SCRIPTS.items():
        file = folder / f"{name}.yaml"
        file.write_text(json.dumps(turns))
        agents[name] = {"model": f"scripted:{file}", "facts": 0, **AGENTS[name]}
    given = {"home": home, "workspace": workspace, "servers": (), "agents": agents, **more}
    return load_settings(given)


@asynccontextmanager
async def serving(
    settings: Settings, offering: Offering = ALL_AGENTS, waits: Waits = WAITS
) -> AsyncIterator[AgentService]:
    """The service over runs of this process."""
    async with corral.open(settings) as c, LocalRuns.open(c) as runs:
        yield AgentService(runs, offering, waits)


@dataclass
class Line:
    """One call under way (an ``Exchange``), whose human answers by ``human``."""

    human: Callable[[Question], Elicited] | None = None
    answers: dict[str, Elicited] = field(default_factory=dict)
    state: str | None = None
    cancelled: bool = False
    followed: bool = True
    progressed: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Question] = field(default_factory=list)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        assert (done, total) == (len(self.progressed) + 1, None)
        self.progressed.append(message)
        self.heard.set()

    async def ask(self, question: Question) -> Elicited:
        self.asked.append(question)
        assert self.human is not None
        return self.human(question)


@dataclass
class Client:
    """One client of a service: its results are checked against the schemas that it was told."""

    service: AgentService
    caller: Caller = ME

    async def call(self, tool: str, line: Line | None = None, **args: Any) -> types.CallToolResult:
        """Call a tool that gives a result."""
        result = await self.service.call(self.caller, tool, args, line or Line())
        assert isinstance(result, types.CallToolResult)
        schemas = {one.name: one.output_schema for one in await self.service.tools(self.caller)}
        jsonschema.validate(result.structured_content, schemas[tool] or {})
        return result

    async def told(self, tool: str, line: Line | None = None, **args: Any) -> dict[str, Any]:
        """The structured content of a call."""
        found: dict[str, Any] | None = (await self.call(tool, line, **args)).structured_content
        assert found is not None
        return found

    async def begun(self) -> str:
        """Wait until this client has a run; its handle."""
        while True:
            for run in (await self.told("runs_list"))["runs"]:
                return str(run["run"])
            await asyncio.sleep(0)

    async def task(self, tool: str, **args: Any) -> str:
        """Call a tool that becomes a task; the task's id."""
        begun = await self.service.call(self.caller, tool, args, Line())
        assert isinstance(begun, AsTask)
        return begun.task

    async def first_round(self, tool: str, **args: Any) -> AskFirst:
        """Call a tool that asks in rounds; what it asks."""
        try:
            result = await self.service.call(self.caller, tool, args, Line())
        except AskFirst as asked:
            return asked
        raise AssertionError(f"nothing was asked: {result}")


def text_of(result: types.CallToolResult) -> str:
    """What a model reads that sees only the text."""
    [block] = result.content
    assert isinstance(block, types.TextContent)
    return block.text
