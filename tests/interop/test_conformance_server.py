"""The official conformance suite against Corral's serving layer, and the official Inspector."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conformance_server import by_http
from tests.interop.tools import ROOT, NodeTools

pytestmark = pytest.mark.slow

EXPECTED = Path(__file__).with_name("conformance-server-expected.yml")
FIXTURE = [sys.executable, "-m", "tests.interop.conformance_server"]


async def run(tools: NodeTools, place: Path, *command: str, cwd: Path = ROOT) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**tools.env, "PYTHONPATH": str(ROOT), "HOME": str(place)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("suite", "version"),
    [
        ("conformance", None),  # each scenario in the newest version that it is for; extensions too
        ("conformance", "2025-11-25"),
        ("conformance", "2025-06-18"),
        ("conformance-stable", None),
    ],
)
async def test_conformance(
    node_tools: NodeTools, tmp_path: Path, suite: str, version: str | None
) -> None:
    era = ["--spec-version", version] if version else []
    async with by_http(tmp_path / "home") as plan:
        url = plan.url.replace("127.0.0.1", "localhost")
        options = ["--suite", "all", *era, "--expected-failures", str(EXPECTED)]
        command = node_tools.command(suite, "server", "--url", url, *options)
        code, said = await run(node_tools, tmp_path, *command, cwd=tmp_path)
    assert code == 0, said[-6_000:]
    assert "Total:" in said


class TestInspector:
    """``--strict`` fails on whatever is not as the protocol says."""

    async def by_stdio(self, tools: NodeTools, place: Path, *args: str) -> tuple[int, str]:
        command = tools.command("inspector", "--cli", *args, *FIXTURE)
        return await run(tools, place, *command)

    @pytest.mark.parametrize("era", ["modern", "legacy"])
    async def test_lists_the_tools_by_stdio(
        self, node_tools: NodeTools, tmp_path: Path, era: str
    ) -> None:
        args = ["--strict", "--protocol-era", era, "--method", "tools/list"]
        code, said = await self.by_stdio(node_tools, tmp_path, *args)
        assert code == 0, said
        names = {tool["name"] for tool in json_in(said)["tools"]}
        assert "greet" in names

    @pytest.mark.parametrize("era", ["modern", "legacy"])
    async def test_lists_and_calls_tools_by_http(
        self, node_tools: NodeTools, tmp_path: Path, era: str
    ) -> None:
        async with by_http(tmp_path / "home", with_token=False) as plan:
            assert plan.token is not None
            header = f"Authorization: Bearer {plan.token.secret}"
            args = [plan.url, "--transport", "http", "--header", header, "--protocol-era", era]
            listing = node_tools.command(
                "inspector", "--cli", *args, "--strict", "--method", "tools/list"
            )
            code, said = await run(node_tools, tmp_path, *listing)
            assert code == 0, said
            calling = ["--method", "tools/call", "--tool-name", "greet", "--tool-arg", "name=you"]
            command = node_tools.command("inspector", "--cli", *args, *calling)
            code, said = await run(node_tools, tmp_path, *command)
        assert code == 0, said
        assert json_in(said)["content"][0]["text"] == "Hello, you!"

    async def test_follows_a_task_to_its_end(self, node_tools: NodeTools, tmp_path: Path) -> None:
        args = ["--protocol-era", "modern", "--method", "tools/call"]
        args += ["--tool-name", "failing_job"]
        code, said = await self.by_stdio(node_tools, tmp_path, *args)
        assert "the job failed" in said, (code, said)


def json_in(said: str) -> Any:
    """The JSON object that a program has printed among other lines."""
    return json.loads(said[said.index("{") : said.rindex("}") + 1])
