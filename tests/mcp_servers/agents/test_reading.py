"""What clients read: resources of their own threads and runs, prompts and completions."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types
import pytest

from corral.errors import NotFoundError, UsageError
from corral.mcp_servers.agents.service import AgentService
from corral.mcp_servers.serving.contract import Caller
from corral.runtime.config import Settings
from tests.mcp_servers.agents.clients import ME, SCRIPTS, Client, serving

OTHER = Caller("stdio:somebody else", "somebody else", "1")


async def read(service: AgentService, uri: str, caller: Caller = ME) -> dict[str, Any]:
    [contents] = await service.read(caller, uri)
    assert (str(contents.uri), contents.mime_type) == (uri, "application/json")
    found: dict[str, Any] = json.loads(contents.text)
    assert "data, not instructions" in found["about"]
    return found


async def test_threads_runs_and_traces_are_read_by_their_address(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        first = await client.told("writer", prompt="Write.")
        second = await client.told("writer", prompt="And more.", thread=first["thread"])
        uris = [str(one.uri) for one in await service.resources(ME)]
        assert uris == [
            "corral://threads",
            f"corral://runs/{second['run']}",
            f"corral://runs/{first['run']}",
        ]

        [thread] = (await read(service, "corral://threads"))["untrusted"]["threads"]
        assert thread["begins"] == "Write."
        assert (thread["thread"], thread["runs"]) == (first["thread"], 2)

        turns = await read(service, f"corral://threads/{first['thread']}")
        assert [(one["prompt"], one["answer"]) for one in turns["untrusted"]["turns"]] == [
            ("Write.", "It is written."),
            ("And more.", "It is written."),
        ]
        run = await read(service, f"corral://runs/{first['run']}")
        assert run["untrusted"]["status"] == "completed"
        trace = await read(service, f"corral://runs/{first['run']}/trace")
        assert "model" in [step["kind"] for step in trace["untrusted"]["steps"]]


@pytest.mark.parametrize(
    "uri",
    [
        "corral://runs/{run}",
        "corral://runs/{run}/trace",
        "corral://threads/{thread}",
    ],
)
async def test_what_is_another_clients_is_not_there(agents: Settings, uri: str) -> None:
    async with serving(agents) as service:
        told = await Client(service).told("writer", prompt="Write.")
        assert (await read(service, "corral://threads", OTHER))["untrusted"] == {"threads": []}
        with pytest.raises(NotFoundError):
            await read(service, uri.format(**told), OTHER)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "corral://",
        "corral://runs",
        "corral://runs/",
        "corral://runs/../threads",
        "corral://runs/a/b/trace",
        "corral://threads/t-1/trace",
        "corral://runs/r-1/trace/",
        "corral://runs/r-1\n",
        "corral://runs/r%2d1",
        "file:///etc/passwd",
        "corral://runs/" + "r" * 100_000,
    ],
)
async def test_other_addresses_are_not_there(agents: Settings, uri: str) -> None:
    async with serving(agents) as service:
        with pytest.raises(NotFoundError) as error:
            await read(service, uri)
    assert len(str(error.value)) < 500


async def test_an_agents_prompt_has_its_instructions_and_the_task(agents: Settings) -> None:
    async with serving(agents) as service:
        prompts = {one.name: one for one in await service.prompts(ME)}
        assert set(SCRIPTS) <= set(prompts)
        filled = await service.prompt(ME, "writer", {"task": "A letter."})
        with pytest.raises(UsageError, match="task"):
            await service.prompt(ME, "writer", {"task": " "})
        with pytest.raises(NotFoundError, match="nobody"):
            await service.prompt(ME, "nobody", {"task": "A letter."})
    [message] = filled.messages
    assert isinstance(message.content, types.TextContent)
    assert message.content.text == "Write well.\n\nA letter."


async def test_own_runs_and_threads_are_completed(agents: Settings) -> None:
    threads = types.ResourceTemplateReference(type="ref/resource", uri="corral://threads/{thread}")
    prompt = types.PromptReference(type="ref/prompt", name="writer")
    async with serving(agents) as service:
        templates = [one.uri_template for one in await service.templates(ME)]
        assert threads.uri in templates
        told = await Client(service).told("writer", prompt="Write.")
        found = await service.complete(ME, threads, "thread", told["thread"][:3])
        assert list(found) == [told["thread"]]
        assert list(await service.complete(ME, threads, "run", "r-")) == [told["run"]]
        assert list(await service.complete(ME, threads, "thread", "no")) == []
        assert list(await service.complete(OTHER, threads, "thread", "")) == []
        assert list(await service.complete(ME, prompt, "task", "")) == []
