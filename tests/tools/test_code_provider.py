"""The server ``python`` over Monty and E2B, as an agent meets it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

import corral
from corral.errors import ToolServerError
from corral.mcp_servers.python.server import declarations
from corral.runtime.config import Settings, load_settings
from corral.tools.code_provider import code_provider
from corral.tools.contract import CallOptions, ToolProvider, ToolResult
from corral.tools.settings import BuiltinSettings, E2BSettings, PythonSettings
from tests.sandbox.e2b.service import StandIn, running
from tests.sandbox.e2b.standin import KEY

OPTIONS = CallOptions(idempotency_key="k")


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("stand-in")) as found:
        yield found


def _provider(backend: Any, standin: StandIn, key: str = KEY) -> ToolProvider:
    e2b = E2BSettings(api_url=standin.url, sandbox_url=standin.url, api_key_env="MY_KEY")
    settings = BuiltinSettings(python=PythonSettings(backend=backend), e2b=e2b)
    return code_provider(settings, {"MY_KEY": key})


@pytest.fixture(params=["monty", "e2b"])
async def provider(request: pytest.FixtureRequest, standin: StandIn) -> AsyncIterator[ToolProvider]:
    opened = _provider(request.param, standin)
    yield opened
    await opened.aclose()


async def _run(provider: ToolProvider, code: str, **args: Any) -> ToolResult:
    return await provider.call("run_code", {"code": code, **args}, OPTIONS)


async def test_the_tools_are_declared_as_the_local_server_declares_them(
    provider: ToolProvider,
) -> None:
    local = {tool.name: tool for tool in declarations(MagicMock())}
    offered = await provider.list_tools()
    assert {spec.tool for spec in offered} == local.keys() - {"install_packages"}
    for spec in offered:
        own = local[spec.tool]
        assert spec.input_schema["properties"] == own.properties
        assert tuple(spec.input_schema.get("required", ())) == own.required
        assert spec.output_schema == own.output


async def test_state_stays_and_the_text_reads_as_that_of_the_local_server(
    provider: ToolProvider,
) -> None:
    await _run(provider, "x = 40")
    result = await _run(provider, "print('hi')\nx + 2")
    assert result.text == "hi\n42"
    assert result.structured == {
        "status": "ok",
        "stdout": "hi\n",
        "stderr": "",
        "value": "42",
        "error": None,
        "dropped_bytes": 0,
        "images": 0,
        "files": [],
    }
    assert (await _run(provider, "y = 1")).text == "(no output)"


async def test_sessions_have_names_and_restart(provider: ToolProvider) -> None:
    await _run(provider, "x = 1")
    await _run(provider, "x = 2", session="other")
    assert (await _run(provider, "x")).text == "1"
    assert (await _run(provider, "x", fresh=True)).is_error
    restarted = await provider.call("restart_session", {}, OPTIONS)
    assert not restarted.is_error
    assert (await _run(provider, "x")).is_error
    assert (await _run(provider, "x", session="other")).text == "2"
    missing = await provider.call("restart_session", {"session": "none"}, OPTIONS)
    assert missing.is_error
    listed = await provider.call("list_sessions", {}, OPTIONS)
    assert listed.text == "other: 2 runs\nmain: 1 runs"


async def test_there_are_not_too_many_sessions(provider: ToolProvider) -> None:
    results = [await _run(provider, "1", session=f"s{n}") for n in range(9)]
    assert [one.is_error for one in results] == [False] * 8 + [True]


async def test_an_error_and_a_timeout_are_results(provider: ToolProvider) -> None:
    failed = await _run(provider, "1 / 0")
    assert failed.is_error
    assert "ZeroDivisionError" in failed.text
    late = await _run(provider, "while True: pass", timeout=0.3)
    assert late.is_error
    assert isinstance(late.structured, dict) or late.structured is None


async def test_a_plot_is_counted_and_a_table_shown(standin: StandIn) -> None:
    provider = _provider("e2b", standin)
    try:
        code = "class T:\n def _repr_html_(s): return '<b>'\n def _repr_png_(s): return 'aGk='\nT()"
        result = await _run(provider, code)
        assert "[image, image/png, 3 bytes, not shown]" in result.text
        assert isinstance(result.structured, dict)
        assert result.structured["images"] == 1
    finally:
        await provider.aclose()


async def test_a_lost_sandbox_is_told_and_the_next_call_has_another(standin: StandIn) -> None:
    provider = _provider("e2b", standin)
    try:
        await _run(provider, "x = 1")
        standin.fail("/execute", status=502, says="The sandbox was not found")
        with pytest.raises(ToolServerError, match="gone"):
            await _run(provider, "x")
        assert (await _run(provider, "x")).is_error
        assert (await _run(provider, "6 * 7")).text == "42"
    finally:
        await provider.aclose()


async def test_without_a_key_the_call_says_what_is_missing(standin: StandIn) -> None:
    provider = _provider("e2b", standin, key="")
    assert await provider.list_tools()
    with pytest.raises(ToolServerError, match="needs a key"):
        await _run(provider, "1")
    await provider.aclose()


# through an agent


def _settings(settings: Settings, **python: Any) -> Settings:
    return load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "policy": "workspace",
            "python": python,
            "servers": ("python",),
        }
    )


def _agent(code: str) -> corral.Agent:
    call = {"name": "python__run_code", "args": {"code": code}}
    turns: list[dict[str, Any]] = [{"text": "", "tool_calls": [call]}, {"text": "done"}]
    return corral.Agent(servers=("python",), facts=0, chat_model=corral.ScriptedModel(turns))


async def test_an_agent_computes_in_monty_without_a_question(settings: Settings) -> None:
    async with corral.open(_settings(settings, backend="monty")) as c:
        result = await c.run("compute", corral.RunOptions(agent=_agent("sum(range(10))")))
        assert result.status == "completed"
        effects = await c.records.trace(result.run)
    (tool,) = (effect for effect in effects if effect.kind == "tool")
    assert isinstance(tool.result, dict)
    assert tool.result["text"] == "45"


async def test_code_that_would_leave_the_machine_is_asked_about(settings: Settings) -> None:
    async with corral.open(_settings(settings, backend="e2b")) as c:
        result = await c.run("compute", corral.RunOptions(agent=_agent("1")))
        assert result.status == "paused"
        (approval,) = await c.approvals()
        assert "python__run_code" in json.dumps(approval.to_json())


def test_policy_knows_where_code_runs(settings: Settings) -> None:
    local, monty, e2b = (_settings(settings, backend=one) for one in ("local", "monty", "e2b"))
    assert "python" in local.sandboxed_servers
    assert "python" in monty.sandboxed_servers
    assert "python" not in e2b.sandboxed_servers
    assert [one.remote_servers for one in (local, monty)] == [frozenset()] * 2
    assert e2b.remote_servers == frozenset({"python"})
