"""Agents as tools: what a model is told, and what a call gives however long the work takes."""

from __future__ import annotations

import asyncio
import re

import jsonschema
import pytest

from corral.errors import NotFoundError
from corral.mcp_servers.agents.naming import LONGEST, RUN_TOOLS, offered_names
from corral.mcp_servers.agents.service import Offering
from corral.mcp_servers.serving.contract import Caller
from corral.runtime.config import Settings
from tests.mcp_servers.agents.clients import SCRIPTS, Client, Line, serving, text_of

OTHER = Caller("stdio:somebody else", "somebody else", "1")


async def test_each_agent_is_a_tool_that_says_what_to_do_when_it_takes_long(
    agents: Settings,
) -> None:
    async with serving(agents) as service:
        tools = {tool.name: tool for tool in await service.tools(OTHER)}
    assert set(SCRIPTS) | set(RUN_TOOLS) <= set(tools)
    writer = tools["writer"]
    assert writer.description is not None
    assert writer.description.startswith("Writes texts.")
    assert "run_result" in writer.description
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema or {})
        assert tool.input_schema["additionalProperties"] is False


async def test_hints_are_honest(agents: Settings) -> None:
    async with serving(agents) as service:
        tools = {tool.name: tool for tool in await service.tools(OTHER)}
    hints = {name: tool.annotations for name, tool in tools.items() if tool.annotations}
    assert hints.keys() == tools.keys()
    assert hints["writer"].read_only_hint is True
    assert hints["careful"].read_only_hint is False
    assert hints["careful"].destructive_hint is True
    assert hints["run_cancel"].read_only_hint is False
    assert all(hints[name].read_only_hint for name in ("run_status", "run_result", "runs_list"))


async def test_no_tool_approves(agents: Settings) -> None:
    """Nothing that a model can call has anything to do with saying yes."""
    async with serving(agents, Offering(servers=None)) as service:
        tools = await service.tools(OTHER)
    known = {*SCRIPTS, *RUN_TOOLS, "assistant"}
    assert {tool.name for tool in tools if not tool.name.startswith("memory__")} == known
    arguments = {name for tool in tools for name in tool.input_schema["properties"]}
    assert not {name for name in arguments if re.search("appro|allow|confirm|answer", name)}


async def test_a_quick_answer_comes_with_the_call(agents: Settings) -> None:
    async with serving(agents) as service:
        result = await Client(service).call("writer", prompt="Write.")
    told = result.structured_content or {}
    assert told["status"] == "completed"
    assert told["answer"] == "It is written."
    assert not result.is_error
    assert text_of(result).startswith("It is written.")
    assert told["run"] in text_of(result)


async def test_a_typed_answer_is_a_value_that_fits_the_schema(agents: Settings) -> None:
    async with serving(agents) as service:
        told = await Client(service).told("typed", prompt="Sum up.")
    assert told["value"] == {"total": 42}


async def test_a_long_run_gives_a_handle_and_goes_on(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        begun = await client.told("slow", prompt="Take your time.", wait_seconds=0)
        assert begun["status"] in ("queued", "running")
        assert "run_result" in begun["next"]
        run = begun["run"]
        assert (await client.told("run_status", run=run))["status"] == "running"
        later = await client.told("run_result", run=run, wait_seconds=0)
        assert (later["run"], later["status"]) == (run, "running")
        assert (await client.told("run_cancel", run=run))["status"] == "cancelled"
        ended = await client.call("run_result", run=run)
        assert ended.is_error
        assert "cancelled" in text_of(ended)


async def test_a_failing_agent_is_an_error_that_says_why(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        result = await client.call("broken", prompt="Try.")
        told = result.structured_content or {}
        assert result.is_error
        assert "on holiday" in told["error"]
        looked = await client.call("run_status", run=told["run"])
        assert not looked.is_error


async def test_a_conversation_goes_on(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        first = await client.told("writer", prompt="Write.")
        second = await client.told("writer", prompt="And more.", thread=first["thread"])
        third = await client.told("run_send", run=second["run"], message="And again.")
    assert len({first["run"], second["run"], third["run"]}) == 3
    assert {first["thread"]} == {second["thread"], third["thread"]}


async def test_a_call_that_is_made_twice_is_one_run(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        first = await client.told("slow", prompt="Once.", wait_seconds=0)
        again = await client.told("slow", prompt="Once.", wait_seconds=0)
        assert again["run"] == first["run"]
        assert "key" in again["notes"][0]
        keyed = await client.told("slow", prompt="Once.", wait_seconds=0, key="two")
        assert keyed["run"] != first["run"]
        same_key = await client.told("slow", prompt="Once.", wait_seconds=0, key="two")
        assert same_key["run"] == keyed["run"]
        other = await client.told("slow", prompt="Another.", wait_seconds=0, key="two")
        assert other["run"] not in (first["run"], keyed["run"])
        for run in (first["run"], keyed["run"], other["run"]):
            await client.told("run_cancel", run=run)


async def test_equal_calls_at_once_are_one_run(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        calls = [client.told("writer", prompt="Write.") for _ in range(4)]
        told = await asyncio.gather(*calls)
        listed = await client.told("runs_list")
    assert len({one["run"] for one in told}) == 1
    assert len(listed["runs"]) == 1


async def test_an_answer_that_was_lost_is_had_by_calling_again(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        first = await client.told("writer", prompt="Write.")
        again = await client.told("writer", prompt="Write.")
        message = {"run": first["run"], "message": "More."}
        sent = await client.told("run_send", **message)
        resent = await client.told("run_send", **message)
    assert (again["run"], again["answer"]) == (first["run"], first["answer"])
    assert sent["run"] == resent["run"] != first["run"]


async def test_after_a_failure_the_same_call_tries_anew(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        first = await client.told("broken", prompt="Try.")
        again = await client.told("broken", prompt="Try.")
    assert first["run"] != again["run"]


async def test_a_cancelled_call_stops_its_run(agents: Settings) -> None:
    async with serving(agents) as service:
        client, line = Client(service), Line()
        call = asyncio.create_task(client.call("slow", line, prompt="Work."))
        run = await client.begun()
        line.cancelled = True
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        stands = await client.told("run_status", run=run)
    assert stands["status"] == "cancelled"


async def test_a_connection_that_ends_stops_nothing(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service)
        call = asyncio.create_task(client.call("slow", prompt="Work."))
        run = await client.begun()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await client.told("run_status", run=run))["status"] in ("queued", "running")
        await client.told("run_cancel", run=run)


async def test_a_wait_that_is_cancelled_stops_nothing(agents: Settings) -> None:
    async with serving(agents) as service:
        client, line = Client(service), Line(cancelled=True)
        run = (await client.told("slow", prompt="Work.", wait_seconds=0))["run"]
        waiting = asyncio.create_task(client.call("run_result", line, run=run))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await client.told("run_status", run=run))["status"] in ("queued", "running")
        await client.told("run_cancel", run=run)


async def test_a_run_of_another_client_is_one_that_there_is_not(agents: Settings) -> None:
    async with serving(agents) as service:
        mine, theirs = Client(service), Client(service, OTHER)
        told = await mine.told("writer", prompt="Write.")
        for tool in ("run_status", "run_result", "run_cancel", "run_send"):
            with pytest.raises(NotFoundError) as refused:
                await theirs.call(tool, run=told["run"], message="Hello.")
            with pytest.raises(NotFoundError) as missing:
                await theirs.call(tool, run="run_nothing", message="Hello.")
            assert refused.value.message.replace(told["run"], "run_nothing") == (
                missing.value.message
            )
        with pytest.raises(NotFoundError):
            await theirs.call("writer", prompt="Go on.", thread=told["thread"])
        assert (await theirs.told("runs_list"))["runs"] == []


async def test_runs_are_there_after_a_restart(agents: Settings) -> None:
    async with serving(agents) as service:
        told = await Client(service).told("writer", prompt="Write.")
    async with serving(agents) as service:
        after = await Client(service).told("run_result", run=told["run"])
    assert after["answer"] == "It is written."


async def test_a_client_that_takes_tasks_has_the_run_as_a_task(agents: Settings) -> None:
    takes = Caller("stdio:tester", "tester", "1", takes_tasks=True)
    async with serving(agents) as service:
        client = Client(service, takes)
        task = await client.task("slow", prompt="Work.", wait_seconds=0)
        state = await service.task(takes, task)
        assert state.status == "working"
        assert (await Client(service).told("run_status", run=task))["status"] == "running"
        with pytest.raises(NotFoundError):
            await service.task(OTHER, task)
        with pytest.raises(NotFoundError):
            await service.cancel_task(OTHER, task)
        await service.cancel_task(takes, task)
        assert (await service.task(takes, task)).status == "cancelled"
        quick = await client.told("writer", prompt="Write.")
        done = await service.task(takes, quick["run"])
    assert done.status == "completed"
    assert done.result is not None
    assert done.result.structured_content is not None
    assert done.result.structured_content["answer"] == "It is written."


async def test_tools_of_servers_are_called_as_runs(agents: Settings) -> None:
    settings = agents.model_copy(update={"policy": "trusted"})
    async with serving(settings, Offering(agents=False, servers=("memory",))) as service:
        client = Client(service)
        names = {tool.name for tool in await service.tools(client.caller)}
        assert names == {"memory__remember", "memory__recall", *RUN_TOOLS}
        kept = await client.told("memory__remember", fact="Tea is at four.")
        assert kept["status"] == "completed"
        found = await client.told("memory__recall", query="tea")
        assert "Tea is at four." in found["answer"]
        with pytest.raises(NotFoundError):
            await client.call("writer", prompt="Write.")


def test_names_are_such_as_every_client_takes() -> None:
    names = ["runs_list", "a b", "a/b", "ä" * 100, "ä" * 101, "plain", ""]
    offered = offered_names(names)
    assert list(offered.values()) == names
    assert offered["plain"] == "plain"
    assert all(re.fullmatch(f"[A-Za-z0-9_-]{{1,{LONGEST}}}", name) for name in offered)
    assert not set(offered) & set(RUN_TOOLS)
