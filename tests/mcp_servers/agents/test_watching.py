"""Clients that listen to their own runs and threads hear when these stand otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import corral
from corral.mcp_servers.agents.service import AgentService
from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.serving.watching import MOST
from corral.runtime.config import Settings
from tests.mcp_servers.agents.clients import serving
from tests.mcp_servers.serving.service import KEY, Line, connected_to, envelope

UPDATED = "notifications/resources/updated"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


@asynccontextmanager
async def modern(service: AgentService, client: str = "mine") -> AsyncIterator[Line]:
    async with connected_to(Layer(service, KEY), envelope(client)) as line:
        yield line


async def told(line: Line, tool: str, **args: Any) -> dict[str, Any]:
    """The structured content of a call's result."""
    answer = await line.call(tool, arguments=args)
    found: dict[str, Any] = answer["result"]["structuredContent"]
    return found


async def listens(line: Line, *uris: str) -> list[str]:
    """Open a stream for resources; those that are really listened to."""
    await line.send("subscriptions/listen", notifications={"resourceSubscriptions": list(uris)})
    message = await line.receive()
    assert message["method"] == ACKNOWLEDGED, message
    found: list[str] = message["params"]["notifications"].get("resourceSubscriptions", [])
    return found


async def hears(line: Line) -> str:
    """The resource that is next said to have changed; other messages are let go."""
    while (message := await line.receive()).get("method") != UPDATED:
        assert "error" not in message, message
    uri: str = message["params"]["uri"]
    return uri


async def test_a_listener_hears_that_its_run_has_ended(agents: Settings) -> None:
    async with serving(agents) as service, modern(service) as line, modern(service) as listening:
        begun = await told(line, "slow", prompt="Work.", wait_seconds=0)
        run, thread = f"corral://runs/{begun['run']}", f"corral://threads/{begun['thread']}"
        wanted = [run, thread, run, "corral://runs/run_nothing", "corral://runs/", f"{run}/trace"]
        assert await listens(listening, *wanted) == [run, thread]
        await told(line, "run_cancel", run=begun["run"])
        assert {await hears(listening), await hears(listening)} == {run, thread}
        read = await line.ask("resources/read", uri=run)
        assert '"status": "cancelled"' in read["result"]["contents"][0]["text"]


async def test_what_is_another_clients_is_not_listened_to(agents: Settings) -> None:
    async with serving(agents) as service, modern(service) as mine:
        begun = await told(mine, "slow", prompt="Work.", wait_seconds=0)
        run, thread = f"corral://runs/{begun['run']}", f"corral://threads/{begun['thread']}"
        async with modern(service, "theirs") as theirs:
            own = await told(theirs, "slow", prompt="Work.", wait_seconds=0)
            other = f"corral://runs/{own['run']}"
            async with modern(service, "theirs") as listening:
                assert await listens(listening, run, thread, other) == [other]
                await told(mine, "run_cancel", run=begun["run"])
                await told(theirs, "run_cancel", run=own["run"])
                assert await hears(listening) == other


async def test_a_thread_changes_with_each_message_and_each_question(agents: Settings) -> None:
    """Also with what another process does: the human answers in a terminal."""
    async with serving(agents) as service, modern(service) as line, modern(service) as listening:
        first = await told(line, "writer", prompt="Write.")
        thread = f"corral://threads/{first['thread']}"
        assert await listens(listening, thread) == [thread]
        asked = await told(line, "careful", prompt="Keep it.", thread=first["thread"])
        assert asked["status"] == "waiting"
        assert await hears(listening) == thread
        run = f"corral://runs/{asked['run']}"
        async with modern(service) as other:
            assert await listens(other, run) == [run]
            async with corral.open(agents) as terminal:
                await terminal.approve(asked["approvals"][0]["id"])
            assert await hears(other) == run
            assert await hears(listening) == thread


async def test_one_caller_has_so_many_and_the_next_has_its_own(agents: Settings) -> None:
    uris = [f"corral://runs/{number}" for number in range(MOST)]
    async with serving(agents) as service:
        layer = Layer(service, KEY)
        async with connected_to(layer, envelope()) as line:
            wanted = {"resourceSubscriptions": uris}
            refused = await line.ask("subscriptions/listen", notifications=wanted)
            assert f"{MOST} streams and resources" in refused["error"]["message"]
            assert await listens(line, *uris[1:]) == []
            refused = await line.ask("subscriptions/listen", notifications={})
            assert "Close a stream" in refused["error"]["message"]
        async with connected_to(layer, envelope()) as line:
            assert await listens(line, *uris[1:]) == []


@pytest.mark.slow
async def test_a_stream_whose_run_is_deleted_ends(agents: Settings) -> None:
    async with serving(agents) as service, modern(service) as line, modern(service) as listening:
        done = await told(line, "writer", prompt="Write.")
        run = f"corral://runs/{done['run']}"
        assert await listens(listening, run) == [run]
        async with corral.open(agents) as terminal:
            await terminal.records.delete(done["thread"])
        ended = await listening.receive()
        assert "result" in ended, ended


class TestHandshake:
    """On a stream clients of before 2026-07-28 subscribe to one resource after the other."""

    async def test_a_subscriber_hears_until_it_unsubscribes(self, agents: Settings) -> None:
        async with (
            serving(agents) as service,
            modern(service) as line,
            connected_to(Layer(service, KEY), {}) as old,
        ):
            capabilities = (await old.handshake())["result"]["capabilities"]
            assert capabilities["resources"]["subscribe"] is True
            runs = []
            for prompt in ("One.", "Two."):
                begun = await told(line, "slow", prompt=prompt, wait_seconds=0)
                runs.append(begun["run"])
                uri = f"corral://runs/{begun['run']}"
                for _ in range(2):  # a second time changes nothing
                    assert (await old.ask("resources/subscribe", uri=uri))["result"] == {}
            left = f"corral://runs/{runs[0]}"
            assert (await old.ask("resources/unsubscribe", uri=left))["result"] == {}
            assert (await old.ask("resources/unsubscribe", uri="no"))["result"] == {}
            for run in runs:
                await told(line, "run_cancel", run=run)
            assert await hears(old) == f"corral://runs/{runs[1]}"
            again = await told(line, "run_send", run=runs[1], message="Go on.", wait_seconds=0)
            thread = f"corral://threads/{again['thread']}"
            await old.ask("resources/subscribe", uri=thread)
            await told(line, "run_cancel", run=again["run"])
            assert await hears(old) == thread

    @pytest.mark.parametrize(
        "uri", ["corral://runs/{run}", "corral://runs/r-1", "corral://threads"]
    )
    async def test_there_is_nothing_to_subscribe_to(self, agents: Settings, uri: str) -> None:
        async with (
            serving(agents) as service,
            modern(service, "theirs") as line,
            connected_to(Layer(service, KEY), {}) as old,
        ):
            theirs = await told(line, "writer", prompt="Write.")
            await old.handshake()
            refused = await old.ask("resources/subscribe", uri=uri.format(**theirs))
        assert refused["error"]["code"] == -32002

    @pytest.mark.slow
    async def test_so_many_and_no_more(self, agents: Settings) -> None:
        async with (
            serving(agents) as service,
            modern(service) as line,
            connected_to(Layer(service, KEY), {}) as old,
        ):
            await old.handshake()
            for number in range(MOST):
                made = await told(line, "writer", prompt=f"{number}", wait_seconds=0)
                uri = f"corral://runs/{made['run']}"
                assert "result" in await old.ask("resources/subscribe", uri=uri)
            made = await told(line, "writer", prompt="One more.", wait_seconds=0)
            uri = f"corral://runs/{made['run']}"
            refused = await old.ask("resources/subscribe", uri=uri)
            assert "unsubscribe" in refused["error"]["message"]
