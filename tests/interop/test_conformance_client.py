"""The official conformance suite against Corral's client pool, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import tempfile
from pathlib import Path

import pytest

from tests.interop.conformance_client import by_socket
from tests.interop.tools import NodeTools

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXPECTED = {
    "conformance": HERE / "conformance-client-expected.yml",
    "conformance-stable": HERE / "conformance-client-stable-expected.yml",
}
STUB = HERE / "conformance_stub.py"


@pytest.mark.parametrize(
    ("suite", "version"),
    [
        ("conformance", None),  # each scenario in the newest version that it is for; extensions too
        ("conformance", "2025-11-25"),
        ("conformance-stable", None),
    ],
)
async def test_conformance(
    node_tools: NodeTools, tmp_path: Path, suite: str, version: str | None
) -> None:
    era = ["--spec-version", version] if version else []
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        path = Path(short, "s")
        stub = shlex.join([sys.executable, "-S", "-E", str(STUB), str(path)])
        client = node_tools.command(suite, "client", "--timeout", "300000", "--command", stub)
        expected = ["--expected-failures", str(EXPECTED[suite])]
        async with by_socket(path):
            code, said = await run(node_tools, tmp_path, *client, "--suite", "all", *era, *expected)
            for name in unexpected(said) if code else ():
                # all scenarios at once are late on a busy machine: what failed is tried alone
                code, said = await run(node_tools, tmp_path, *client, "--scenario", name)
                assert code == 0, said[-8_000:]
    assert code == 0, said[-8_000:]


def unexpected(said: str) -> list[str]:
    """The scenarios that the suite names as failures that were not to be expected."""
    _, _, listed = said.partition("Unexpected failures")
    return re.findall(r"^\s*✗ (\S+)$", listed, re.MULTILINE)


async def run(tools: NodeTools, place: Path, *command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=place,
        env=tools.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode("utf-8", "replace")
