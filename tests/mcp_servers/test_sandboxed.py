"""Our servers as they run in earnest: in the sandbox, spoken to by the MCP SDK's own client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError

from corral.errors import NotFoundError
from corral.mcp_servers.files.search import TIMEOUT as SEARCH_SECONDS
from corral.sandbox.contract import Launch, MiB
from corral.sandbox.registry import select_backend
from corral.tools.builtin import builtin_command
from corral.tools.settings import BUILTIN_SERVERS, BuiltinSettings, GitSettings
from tests.sandbox.inside import wait_until

MODES = ("auto", "legacy", "2026-07-28")


@asynccontextmanager
async def connected(
    launch: Launch, mode: str = "auto", errors: TextIO = sys.stderr
) -> AsyncIterator[Client]:
    command, *args = launch.argv
    server = StdioServerParameters(command=command, args=args, env=dict(launch.env))
    async with Client(stdio_client(server, errlog=errors), mode=mode) as client:
        yield client


def launched(name: str, folder: Path, **limits: int) -> Launch:
    argv, profile = builtin_command(name, folder)
    profile = replace(profile, limits=replace(profile.limits, **limits))
    return select_backend().launch(argv, profile)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work space"
    made.mkdir()
    return made


async def text(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    (block,) = result.content
    assert block.type == "text"
    return block.text


@pytest.mark.parametrize("mode", MODES)
async def test_files(folder: Path, mode: str) -> None:
    async with connected(launched("files", folder), mode) as client:
        listed = await client.list_tools()
        assert len(listed.tools) == 11
        assert await text(client, "write_file", path="a/b.txt", content="one\ntwo\n")
        assert (folder / "a" / "b.txt").read_text() == "one\ntwo\n"
        assert (folder / "a" / "b.txt").stat().st_uid == os.getuid()
        assert await text(client, "read_file", path="a/b.txt", offset=2) == "two\n"
        result = await client.call_tool("search_files", {"pattern": "t.o"})
        assert result.structured_content == {
            "matches": [{"path": "a/b.txt", "line": 2, "text": "two", "match": True}],
            "counts": [],
            "complete": True,
            "next_offset": None,
        }
        patch = "--- a/a/b.txt\n+++ b/a/b.txt\n@@ -1,2 +1,2 @@\n-one\n+1\n two\n"
        assert "+1" in await text(client, "apply_patch", patch=patch)
        await text(client, "move", source="a/b.txt", destination="c.txt")
        await text(client, "delete", path="c.txt")
        assert not (folder / "c.txt").exists()
        await text(client, "restore", path="c.txt")
        assert (folder / "c.txt").read_text() == "1\ntwo\n"
        (folder / "p.gif").write_bytes(b"GIF89a\x01\0\x01\0")
        _, picture = (await client.call_tool("read_file", {"path": "p.gif"})).content
        assert picture.type == "image"
        refused = await client.call_tool("read_file", {"path": "/etc/hostname"})
        assert refused.is_error
        with pytest.raises(MCPError) as raised:
            await client.call_tool("no_such_tool", {})
        assert raised.value.error.code == -32602


@pytest.mark.parametrize("mode", MODES)
async def test_progress_of_a_long_search(folder: Path, mode: str) -> None:
    (folder / "f").write_text("x\n" * 200)
    told: list[float] = []

    async def tell(progress: float, total: float | None = None, message: str | None = None) -> None:
        assert total == SEARCH_SECONDS
        assert message
        told.append(progress)

    async with connected(launched("files", folder), mode) as client:
        await client.call_tool("search_files", {"pattern": "x"}, progress_callback=tell)
    assert told == sorted(told)
    assert told


def git(folder: Path, *args: str) -> str:
    command = ["git", *args]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("mode", MODES)
async def test_git(folder: Path, mode: str) -> None:
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "a.txt").write_text("one\n")
    settings = BuiltinSettings(git=GitSettings(author="Ann <ann@example.com>"))
    argv, profile = builtin_command("git", folder, settings)
    assert [grant.path for grant in profile.grants if grant.writable] == [folder / ".git"]
    async with connected(select_backend().launch(argv, profile), mode) as client:
        assert "without a commit" in await text(client, "status")
        made = await client.call_tool("commit", {"message": "First", "all": True})
        assert made.structured_content is not None, made.content
        assert made.structured_content["files"] == ["a.txt"]
        assert "Ann" in await text(client, "log")
        assert "+one" in await text(client, "show")
    assert git(folder, "-c", "safe.directory=*", "status", "--porcelain") == ""
    assert all(path.stat().st_uid == os.getuid() for path in (folder / ".git").rglob("*"))


@pytest.mark.parametrize("mode", MODES)
async def test_python(folder: Path, mode: str) -> None:
    async with connected(launched("python", folder), mode) as client:
        assert await text(client, "run_code", code="import os; x = os.getcwd()") == "(no output)"
        assert await text(client, "run_code", code="x") == repr(str(folder))
        await text(client, "run_code", code="open('made', 'w').write('x')")
        assert (folder / "made").read_text() == "x"
        assert "version" in await text(client, "run_code", code="import sys; 'version'")
        assert sys.version in await text(client, "run_code", code="print(sys.version)")
        result = await client.call_tool("run_code", {"code": "1 / 0"})
        assert result.is_error
        assert result.structured_content is not None
        assert result.structured_content["status"] == "error"


PLOT = """
class Plot:
    def _repr_png_(self):
        return b"\\x89PNG"
Plot()
"""


async def test_python_shows_images_and_tells_of_its_output(folder: Path) -> None:
    told: list[str | None] = []

    async def follow(progress: float, total: float | None, message: str | None) -> None:
        del progress, total
        told.append(message)

    async with connected(launched("python", folder)) as client:
        plot = await client.call_tool("run_code", {"code": PLOT})
        assert [block.type for block in plot.content] == ["text", "image"]
        arguments = {"code": "print('on the way')\n1"}
        await client.call_tool("run_code", arguments, progress_callback=follow)
        assert told == ["on the way\n"]


@pytest.mark.parametrize("mode", MODES)
async def test_shell(folder: Path, mode: str) -> None:
    (folder / ".git").mkdir()
    async with connected(launched("shell", folder), mode) as client:
        assert len((await client.list_tools()).tools) == 5
        assert await text(client, "run_command", command="echo x > made; cat made") == (
            "x\n[files written: made]"
        )
        assert (folder / "made").stat().st_uid == os.getuid()
        assert await text(client, "run_command", command=["pwd"]) == str(folder)
        failed = await client.call_tool("run_command", {"command": "touch .git/hooks"})
        assert "Read-only file system" in str(failed.structured_content)
        await text(client, "start_job", command="sleep 600")
        jobs = await client.call_tool("list_jobs", {})
        assert "running" in str(jobs.structured_content)
    wait_until(lambda: not _processes_with(folder), "the end of the server")


async def test_gits_own_folder_and_the_configuration_are_safe_from_code(folder: Path) -> None:
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / "corral.toml").write_text("[x]\n")
    async with connected(launched("python", folder)) as client:
        for path in (".git/hooks/pre-commit", "corral.toml"):
            answer = await text(client, "run_code", code=f"open({path!r}, 'a')")
            assert "Read-only file system" in answer
        answer = await text(client, "run_code", code="open('free', 'w').close()")
        assert answer == "[files written: free]"


@pytest.mark.parametrize("path", ["corral.toml", "/usr/bin/env", sys.executable])
async def test_code_cannot_name_a_file_that_it_may_not_write(folder: Path, path: str) -> None:
    """A hard link to it would be a way to it from outside."""
    (folder / "corral.toml").write_text("[x]\n")
    async with connected(launched("python", folder)) as client:
        answer = await text(client, "run_code", code=f"import os; os.link({path!r}, 'mine')")
        assert "Error" in answer
    assert not (folder / "mine").exists()


async def test_the_network_is_not_there(folder: Path) -> None:
    async with connected(launched("python", folder)) as client:
        code = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
        assert "Network is unreachable" in await text(client, "run_code", code=code)


async def test_memory_of_several_processes_ends_the_server_with_a_reason(folder: Path) -> None:
    code = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        block = b"x" * (60 << 20)
        time.sleep(60)
time.sleep(60)
"""
    with tempfile.TemporaryFile("w+") as errors:
        launch = launched("python", folder, memory=256 * MiB)
        async with connected(launch, errors=errors) as client:
            with pytest.raises(MCPError):
                await client.call_tool("run_code", {"code": code})
        errors.seek(0)
        assert "more than the limit of 256 MiB" in errors.read()


async def test_memory_of_one_process_only_ends_its_code(folder: Path) -> None:
    async with connected(launched("python", folder, memory=256 * MiB)) as client:
        code = "kept = 1\nx = []\nwhile True: x.append(bytes(1 << 20))"
        assert "MemoryError" in await text(client, "run_code", code=code)
        assert await text(client, "run_code", code="x = None; kept") == "1"


async def test_leaving_the_client_leaves_nothing(folder: Path) -> None:
    async with connected(launched("python", folder)) as client:
        code = "import os, signal, sys\nif os.fork() == 0:\n  os.setsid()\n  signal.pause()"
        await text(client, "run_code", code=code)
        inside = _processes_with(folder)
        assert inside
    wait_until(lambda: not _processes_with(folder), "the end of the server")


def test_killing_the_launcher_of_a_server_leaves_nothing(folder: Path) -> None:
    launch = launched("files", folder)
    with subprocess.Popen(launch.argv, env=dict(launch.env), stdin=subprocess.PIPE) as process:
        wait_until(lambda: len(_processes_with(folder)) >= 2, "the server's start")
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not _processes_with(folder), "the end of the server")


def _processes_with(folder: Path) -> list[str]:
    """The processes in whose command line the folder stands."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(folder) in (entry / "cmdline").read_text(errors="replace"):
                    found.append(entry.name)
            except OSError:
                continue
    return found


def test_the_names_of_our_servers(folder: Path) -> None:
    assert BUILTIN_SERVERS == ("files", "python", "shell", "web", "sql", "git")
    with pytest.raises(NotFoundError, match="'fiels'") as raised:
        builtin_command("fiels", folder)
    assert "files, python, shell, web, sql, git" in raised.value.hint


def test_only_the_workspace_is_writable(folder: Path) -> None:
    for name in ("files", "python", "shell", "web"):
        _, profile = builtin_command(name, folder)
        assert [grant.path for grant in profile.grants if grant.writable] == [folder]
        assert profile.workdir == folder
    for name in ("sql", "git"):
        _, profile = builtin_command(name, folder)
        assert not any(grant.writable for grant in profile.grants)
