"""The pool: many providers as one, bounded results, and an end for all of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from corral.errors import ConfigError, NotFoundError, SandboxError
from corral.sandbox.contract import Launch
from corral.tools.contract import CallOptions, ToolProvider, ToolResult, ToolSpec
from corral.tools.functions import FunctionTools
from corral.tools.pool import ToolPool, validate_args
from corral.tools.server import Timing
from corral.tools.stdio import StdioServer
from tests.tools.support import OPTIONS, QUICK, alive, lean, notes_in, until


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def long(size: int) -> str:
    """A long text."""
    return "a" * size + "z"


def wide(size: int) -> list[int]:
    """A long list."""
    return list(range(size))


def server(name: str, mode: str = "plain", notes: Path | None = None) -> StdioServer:
    return StdioServer(name, lean(mode, notes), timing=QUICK)


async def test_one_catalog_of_all_and_what_fails_becomes_a_problem() -> None:
    def no_sandbox() -> Launch:
        raise SandboxError("There is no sandbox here.", hint="Install one.")

    providers: list[ToolProvider] = [
        FunctionTools("fn", [shout]),
        server("lean"),
        server("odd", "odd"),
        server("gone", "broken"),
        StdioServer("caged", no_sandbox),
    ]
    async with ToolPool(providers) as pool:
        catalog = await pool.catalog()
        names = [spec.name for spec in catalog.tools]
        assert names[0] == "fn__shout"
        assert {"lean__echo", "odd__good"} < set(names)
        assert names.index("lean__echo") < names.index("odd__good"), "in the providers' order"
        problems = "\n".join(catalog.problems)
        assert "odd: tool 'rm -rf; echo' left out" in problems
        assert "gone: Tool server gone could not be started" in problems
        assert "caged: There is no sandbox here.\n  Install one." in problems
        spec = catalog.find("lean__echo")
        assert spec is not None
        assert (await pool.call(spec, {"text": "hi"}, OPTIONS)).text == "hi"


async def test_servers_are_listed_concurrently() -> None:
    silent = [
        StdioServer(f"s{number}", lean("silent"), timing=Timing(startup=2.0, grace=0.2))
        for number in range(4)
    ]
    async with ToolPool(silent) as pool:
        began = time.monotonic()
        catalog = await pool.catalog()
        assert len(catalog.problems) == 4
        assert time.monotonic() - began < 2.0 * 4


async def test_a_server_that_is_not_there() -> None:
    async with ToolPool([FunctionTools("fn", [shout])]) as pool:
        with pytest.raises(NotFoundError, match="nowhere") as caught:
            await pool.call(ToolSpec("nowhere", "x", "", {}), {}, OPTIONS)
        assert "fn" in caught.value.hint


async def test_arguments_that_do_not_fit_are_not_sent(tmp_path: Path) -> None:
    async with ToolPool([server("lean", "plain", tmp_path / "notes")]) as pool:
        catalog = await pool.catalog()
        spec = catalog.find("lean__echo")
        assert spec is not None
        result = await pool.call(spec, {"text": 5}, OPTIONS)
        assert result.is_error
        assert result.text == validate_args(spec, {"text": 5})


async def test_results_are_bounded() -> None:
    async with ToolPool([FunctionTools("fn", [long, wide])], max_chars=1000) as pool:
        catalog = await pool.catalog()
        long_spec, wide_spec = catalog.tools
        result = await pool.call(long_spec, {"size": 5000}, OPTIONS)
        assert len(result.text) <= 1000
        assert result.text.startswith("aaa")
        assert result.text.endswith("z")
        assert f"… {result.dropped:,} characters left out …" in result.text
        assert result.dropped > 4000
        small = await pool.call(wide_spec, {"size": 3}, OPTIONS)
        assert small == ToolResult("[0, 1, 2]", structured={"result": [0, 1, 2]})
        assert (await pool.call(wide_spec, {"size": 3000}, OPTIONS)).structured is None


async def test_warm_starts_in_the_background(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with ToolPool([server("lean", "plain", notes), server("gone", "broken")]) as pool:
        pool.warm()
        await until(lambda: bool(notes_in(notes)))
        assert (await pool.catalog()).find("lean__echo") is not None
        assert len(notes_in(notes)) == 1


async def test_closing_ends_every_process(tmp_path: Path) -> None:
    servers = [server("one"), server("two", "stubborn"), server("three", "silent", tmp_path / "n")]
    pool = ToolPool(servers)
    pool.warm()
    await asyncio.gather(*(one.list_tools() for one in servers[:2]))
    await until(lambda: "hanging" in notes_in(tmp_path / "n"))
    pids = [one.pid for one in servers]
    assert None not in pids
    await asyncio.gather(pool.aclose(), pool.aclose())
    assert not any(alive(pid) for pid in pids if pid is not None)


def test_names_must_differ() -> None:
    with pytest.raises(ConfigError, match="two tool servers"):
        ToolPool([FunctionTools("fn", [shout]), FunctionTools("fn", [long])])


class Odd:
    """A provider that answers as no server of ours would."""

    name = "odd"
    problems = ()

    async def list_tools(self) -> list[ToolSpec]:
        return [ToolSpec("odd", "tool", "", {"type": "object"})]

    async def call(self, tool: str, args: dict[str, Any], options: CallOptions) -> ToolResult:
        del tool, args, options
        return ToolResult("a\x1b[31mb\x00", structured={"x": 1})

    async def aclose(self) -> None:
        raise OSError("it will not close")


async def test_any_provider_s_text_is_cleaned_and_a_failing_end_stops_no_other() -> None:
    lean_server = server("lean")
    async with ToolPool([Odd(), lean_server]) as pool:
        catalog = await pool.catalog()
        assert (await pool.call(catalog.tools[0], {}, OPTIONS)).text == "ab"
    assert lean_server.pid is not None
    assert not alive(lean_server.pid)


def test_the_sdk_stays_out_until_a_server_is_needed() -> None:
    code = (
        "import sys, corral.tools.builder, corral.tools.pool, corral.tools.functions\n"
        "sys.exit(bool({'mcp', 'mcp_types', 'httpx2', 'langgraph'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
