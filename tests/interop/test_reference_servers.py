"""Servers that nobody here wrote, in the sandbox, with an agent that uses them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.runtime.config import Settings, load_settings
from corral.runtime.events import Notice, ToolFinished
from tests.interop.tools import NodeTools, PythonServers
from tests.runtime.agents import result_of

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Use:
    """One call of a server's tool, and what must be in its result."""

    tool: str
    args: dict[str, Any]
    says: str
    command: tuple[str, ...] = ()
    entry: dict[str, Any] = field(default_factory=dict)


NODE = {
    "everything": Use("echo", {"message": "over here"}, "over here"),
    "filesystem": Use(
        "read_text_file",
        {"path": "WORK/note.txt"},
        "forty-two",
        command=("WORK",),
        entry={"grants": ["WORK"]},
    ),
    "memory": Use(
        "create_entities",
        {"entities": [{"name": "Ann", "entityType": "person", "observations": ["tall"]}]},
        "Ann",
        entry={"writable": ["store"], "env": {"MEMORY_FILE_PATH": "WORK/store/memory.jsonl"}},
    ),
    "sequential-thinking": Use(
        "sequentialthinking",
        {"thought": "One.", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
        "thoughtHistoryLength",
    ),
}
PYTHON = {
    "mcp-server-git": Use(
        "git_log",
        {"repo_path": "WORK"},
        "first commit",
        command=("--repository", "WORK"),
        entry={"grants": ["WORK"]},
    ),
    "mcp-server-time": Use(
        "convert_time",
        {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
        "21:00",
        command=("--local-timezone", "UTC"),
    ),
    # It may reach nothing that its entry does not name, and says so in its own words.
    "mcp-server-fetch": Use("fetch", {"url": "http://127.0.0.1:9/"}, "127.0.0.1"),
    "mcp-server-sqlite": Use(
        "list_tables",
        {},
        "[]",
        command=("--db-path", "WORK/store/data.db"),
        entry={"writable": ["store"]},
    ),
}


@pytest.mark.parametrize("name", NODE)
async def test_a_server_of_npm(node_tools: NodeTools, settings: Settings, name: str) -> None:
    packages = str(node_tools.folder / "node_modules")
    use = NODE[name]
    entry = {**use.entry, "grants": [*use.entry.get("grants", ()), packages]}
    await is_used(settings, node_tools.command(name, *use.command), use, entry)


@pytest.mark.parametrize("name", PYTHON)
async def test_a_server_of_pypi(
    python_servers: PythonServers, settings: Settings, name: str
) -> None:
    use = PYTHON[name]
    await is_used(settings, python_servers.command(name, *use.command), use, use.entry)


async def is_used(settings: Settings, command: list[str], use: Use, entry: dict[str, Any]) -> None:
    """Let an agent call the tool, in a workspace with a note, a folder and a repository."""
    work = settings.workspace
    furnish(work)
    program, *args = command
    server = filled({"command": program, "args": args, "startup_timeout": 90.0, **entry}, work)
    opened = load_settings(
        {
            "home": settings.home,
            "workspace": work,
            "mcp": {"other": server},
            "rules": [{"server": "other", "action": "allow", "untrusted": True}],
        }
    )
    call = {"name": f"other__{use.tool}", "args": filled(use.args, work)}
    model = corral.ScriptedModel([{"text": "", "tool_calls": [call]}, {"text": "Done."}])
    agent = corral.Agent(servers=("other",), chat_model=model, facts=0)
    async with corral.open(opened) as c:
        events = [e async for e in c.stream("Go.", corral.RunOptions(agent=agent))]
        result = result_of(events)
        said = [e.text for e in events if isinstance(e, Notice)]
        assert (result.status, result.output) == ("completed", "Done."), (result.error, said)
        (called,) = [e for e in events if isinstance(e, ToolFinished)]
        assert use.says in called.text, (called.text, said)
        assert not said, "nothing of it is withheld or left out"
        report = await c.replay(result.run, corral.RunOptions(agent=agent))
        assert report.status == "identical", report.divergence


def furnish(work: Path) -> None:
    (work / "note.txt").write_text("forty-two\n")
    (work / "store").mkdir()
    git = ("git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for step in (("init", "-q"), ("add", "note.txt"), ("commit", "-q", "-m", "first commit")):
        subprocess.run((*git, *step), cwd=work, check=True)


def filled(value: Any, work: Path) -> Any:
    """The value with the workspace for ``WORK``."""
    match value:
        case str():
            return value.replace("WORK", str(work))
        case dict():
            return {key: filled(one, work) for key, one in value.items()}
        case list() | tuple():
            return [filled(one, work) for one in value]
        case _:
            return value
