"""``corral mcp serve``: by the bridge, over HTTP, and what becomes of mistakes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pexpect
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from corral.cli.entry import Serving, plain
from corral.mcp_servers.agents.naming import RUN_TOOLS
from tests.cli.place import Place
from tests.sandbox.inside import wait_until

CONFIG = """
model = "{model}"
servers = []

[agents.writer]
description = "Writes texts."
servers = []
model = "{model}"

[agents.slow]
servers = []
model = "{slow}"
"""


@pytest.fixture
def served(place: Place) -> Place:
    """A place with agents, whose run host ends soon after its last client."""
    (place.scripts / "stuck.yaml").write_text('- {text: "Never said.", delay: 3600}\n')
    config = CONFIG.format(model=place.model("hello"), slow=place.model("stuck"))
    (place.workspace / "corral.toml").write_text(config)
    place.env["CORRAL_SERVE__IDLE"] = "1"
    return place


def hosts(place: Place) -> list[int]:
    """The processes that hold runs at a place."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            is_here = (folder / "cwd").readlink() == place.workspace
        except OSError:
            continue
        if b"corral.mcp_servers.host" in words and is_here:
            found.append(int(folder.name))
    return found


@pytest.fixture
def no_host_is_left(served: Place) -> Iterator[None]:
    """Every host of the place ends by itself when its clients have gone."""
    yield
    wait_until(lambda: not hosts(served), "the host to end", timeout=60)


@asynccontextmanager
async def session(place: Place, what: str = "agents", mode: str = "auto") -> AsyncIterator[Client]:
    """A client of ``corral mcp serve``, in either era of the protocol."""
    argv = place.command("mcp", "serve", what)
    server = StdioServerParameters(
        command=argv[0], args=argv[1:], env=place.env, cwd=str(place.workspace)
    )
    async with Client(server, mode=mode) as client:
        yield client


async def told(client: Client, tool: str, **args: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, args)
    found: dict[str, Any] | None = result.structured_content
    assert found is not None, result
    return found


@pytest.mark.usefixtures("no_host_is_left")
@pytest.mark.parametrize("mode", [pytest.param("legacy", marks=pytest.mark.slow), "2026-07-28"])
async def test_a_client_calls_an_agent_in_either_era(served: Place, mode: str) -> None:
    async with session(served, mode=mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"writer", "slow", *RUN_TOOLS} <= tools
        answer = await told(client, "writer", prompt="Write.")
        assert answer["answer"] == "Hello there, friend."
        wrong = await client.call_tool("writer", {"promt": "Write."})
        assert wrong.is_error
        assert "prompt" in str(wrong.content)


@pytest.mark.slow
@pytest.mark.usefixtures("no_host_is_left")
async def test_a_run_outlives_its_client_and_is_found_again(served: Place) -> None:
    async with session(served) as client:
        run = (await told(client, "slow", prompt="Work.", wait_seconds=0))["run"]
    async with session(served) as client:
        assert (await told(client, "run_status", run=run))["status"] == "running"
        assert (await told(client, "run_cancel", run=run))["status"] == "cancelled"


@pytest.mark.slow
@pytest.mark.usefixtures("no_host_is_left")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_session_goes_on_when_its_host_is_killed(served: Place, mode: str) -> None:
    async with session(served, mode=mode) as client:
        run = (await told(client, "slow", prompt="Work.", wait_seconds=0))["run"]
        [host] = hosts(served)
        os.kill(host, signal.SIGKILL)
        after = await client.read_resource(f"corral://runs/{run}")
        stands = json.loads(after.contents[0].text)  # type: ignore[union-attr]  # it is text
        assert stands["untrusted"]["run"] == run
        assert stands["untrusted"]["status"] in ("queued", "running")
        assert (await told(client, "run_cancel", run=run))["status"] == "cancelled"
        assert hosts(served) != [host]


@pytest.mark.slow
@pytest.mark.usefixtures("no_host_is_left")
async def test_the_memory_is_served_alone(served: Place) -> None:
    async with session(served, "memory") as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {"memory__remember", "memory__recall", *RUN_TOOLS}
        found = await told(client, "memory__recall", query="tea")
        assert found["status"] == "completed"


@pytest.mark.usefixtures("no_host_is_left")
def test_settings_that_are_wrong_are_told_on_standard_error(served: Place) -> None:
    (served.workspace / "corral.toml").write_text("modle = 1\n")
    ran = subprocess.run(
        served.command("mcp", "serve", "agents"),
        env=served.env,
        cwd=served.workspace,
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert ran.stdout == ""
    assert "modle" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_a_person_who_starts_it_by_hand_is_told_what_it_waits_for(served: Place) -> None:
    (served.workspace / "corral.toml").write_text("modle = 1\n")  # so that it ends by itself
    for what in ("agents", "files"):
        argv = served.command("mcp", "serve", what)
        child = pexpect.spawn(
            argv[0], argv[1:], env=served.env, cwd=str(served.workspace), timeout=60
        )
        child.expect_exact(f"serving {what} on standard input and output")
        child.expect_exact("corral mcp install CLIENT")
        child.expect_exact("modle")
        child.expect(pexpect.EOF)
        child.close()


@contextmanager
def over_http(place: Place, *words: str) -> Iterator[tuple[str, str]]:
    """``corral mcp serve WORDS --http``: its URL and its token."""
    with subprocess.Popen(
        place.command("mcp", "serve", *words, "--http"),
        env=place.env,
        cwd=place.workspace,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            said = "".join(process.stderr.readline() for _ in range(3))
            url, token = re.search(r"at (\S+)", said), re.search(r"token: (\S+)", said)
            assert url, said
            assert token, said
            yield url.group(1), token.group(1)
        finally:
            process.terminate()


@asynccontextmanager
async def http_session(url: str, token: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.usefixtures("no_host_is_left")
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_agents_are_served_over_http(served: Place, workers: str) -> None:
    with over_http(served, "agents", "--workers", workers) as (url, token):
        async with http_session(url, token) as client:
            answer = await told(client, "writer", prompt="Write.")
            assert answer["answer"] == "Hello there, friend."
        async with httpx2.AsyncClient(timeout=60) as anybody:
            assert (await anybody.post(url, json={})).status_code == 401


@pytest.mark.slow
async def test_a_tool_server_is_served_over_http(served: Place) -> None:
    with over_http(served, "files") as (url, token):
        async with http_session(url, token) as client:
            read = await client.call_tool("read_file", {"path": "orders.csv"})
            assert "id,total" in str(read.content)


def test_a_name_that_there_is_not_is_told_with_those_that_there_are(place: Place) -> None:
    result = place.corral("mcp", "serve", "agnets")
    assert result.code == 2
    assert "Did you mean agents?" in result.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_what_others_can_reach_needs_an_authorization_server(place: Place, host: str) -> None:
    result = place.corral("mcp", "serve", "files", "--http", "--host", host)
    assert result.code == 2
    assert "serve.oauth" in result.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("mcp serve agents", Serving("agents", None, None, None)),
        ("mcp serve all", Serving("all", None, None, None)),
        ("--home h mcp serve memory", Serving("memory", Path("h"), None, None)),
        (
            "--config=c.toml --workspace w mcp serve agents",
            Serving("agents", None, Path("w"), Path("c.toml")),
        ),
        ("--home a --home b mcp serve agents", Serving("agents", Path("b"), None, None)),
        ("mcp serve files", Serving("files", None, None, None)),
        ("mcp serve python", Serving("python", None, None, None)),
        ("mcp serve pyhton", None),
        ("mcp serve agents --http", None),
        ("mcp serve agents extra", None),
        ("mcp serve", None),
        ("--home mcp serve agents", None),
        ("--home= mcp serve agents", None),
        ("--home --workspace w mcp serve agents", None),
        ("--version mcp serve agents", None),
        ("mcp --help serve agents", None),
        ("", None),
        ("--home", None),
    ],
)
def test_only_the_plain_command_line_goes_the_short_way(words: str, found: Serving | None) -> None:
    assert plain(words.split()) == found


def test_the_short_way_imports_none_of_the_commands(served: Place) -> None:
    """What a client waits for at the start of every session."""
    code = (
        "import sys\n"
        "from corral.cli.entry import plain\n"
        "from corral.mcp_servers import bridge, launches\n"
        "heavy = ('typer', 'pydantic', 'asyncio', 'mcp', 'rich', 'corral.cli.main')\n"
        "sys.exit(repr([name for name in heavy if name in sys.modules] or ''))\n"
    )
    ran = subprocess.run(
        [served.command()[0], "-c", code],
        env=served.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr.strip() == "''"
